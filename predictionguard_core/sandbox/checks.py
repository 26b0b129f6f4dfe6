from __future__ import annotations
from predictionguard_core.sandbox.options import Checks
def check_input(text: str, wanted: Checks) -> str:
    return text
def check_output(content: str, reference: str, wanted: Checks) -> None:
    return None
