"""`python -m predictionguard_core models --vision`: list the models of an account."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence

from predictionguard_core import Client, PredictionGuardError
from predictionguard_core.api.models import CAPABILITIES, Model
from predictionguard_core.retired_package import find_damage

VISION = "chat-with-image"

_MORE = """The key is read from PREDICTIONGUARD_API_KEY, the URL from PREDICTIONGUARD_URL (else the public service).
To try it without a key, start `python -m predictionguard_core.sandbox` and set what it prints."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = _parser().parse_args(arguments)
    if damage := find_damage():
        sys.stderr.write(f"{damage}\n")
    try:
        with Client(base_url=options.url) as client:
            models = client.models(options.capability)
            where = client.base_url
    except PredictionGuardError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    if options.json:
        sys.stdout.write(json.dumps([model.model_dump() for model in models], indent=2) + "\n")
    elif models:
        sys.stdout.writelines(f"{line}\n" for line in _table(models))
    else:
        kind = f" with the capability {options.capability}" if options.capability else ""
        sys.stderr.write(f"{where} lists no model{kind} for this key\n")
        return 1
    return 0


def _table(models: Iterable[Model]) -> list[str]:
    rows = [("MODEL", "CONTEXT", "CAPABILITIES")]
    for model in models:
        can = ", ".join(name for name, is_so in model.capabilities.items() if is_so)
        rows.append((model.id, f"{model.max_context_length:,}" if model.max_context_length else "", can))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{name:<{widths[0]}}  {context:>{widths[1]}}  {can}".rstrip() for name, context, can in rows]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m predictionguard_core",
        description="Prediction Guard, from the command line.",
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    models = commands.add_parser(
        "models",
        help="list the models of this account",
        description="List the models of this account, with their context windows in tokens.",
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = models.add_mutually_exclusive_group()
    which.add_argument(
        "--vision", dest="capability", action="store_const", const=VISION, help="only those that take images"
    )
    which.add_argument(
        "--capability", choices=CAPABILITIES, metavar="NAME", help=f"only those with one of {', '.join(CAPABILITIES)}"
    )
    models.add_argument("--url", help="base URL (default: PREDICTIONGUARD_URL, else the public service)")
    models.add_argument("--json", action="store_true", help="print all that the service says about them, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
