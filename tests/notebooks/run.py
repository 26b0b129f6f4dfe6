"""Run a notebook from nothing, without a key."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
TIMEOUT = 600  # seconds for a kernel to start or to report an output


def run(path: Path, environment: dict[str, str]) -> Any:
    """Return the notebook with the outputs of a fresh run."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
        startup_timeout=TIMEOUT,
        iopub_timeout=TIMEOUT,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    asyncio.run(client.async_execute(env=environment))  # `execute` leaves the event loop of a thread open
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = merge_text(cell.outputs)
    return notebook


def merge_text(outputs: list[Any]) -> list[Any]:
    """Join neighbouring text outputs, which a kernel splits at any moment, and keep the order of all outputs."""
    merged: list[Any] = []
    for output in outputs:
        if merged and output.output_type == "stream" == merged[-1].output_type and output.name == merged[-1].name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    for output in merged:
        if output.output_type == "stream":  # a progress bar writes over its own line
            output.text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)
    return merged
