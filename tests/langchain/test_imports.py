"""Names that people look for in the wrong place get an error with the right one."""

from __future__ import annotations

import subprocess
import sys

import pytest

import langchain_predictionguard as adapter


def test_a_wrong_name_is_corrected() -> None:
    for name, remedy in (
        ("PredictionGuardMultiModal", "it is LlamaIndex's: from llama_index_predictionguard import"),
        ("PredictionGuardReader", "it is LlamaIndex's: from llama_index_predictionguard import"),
        ("PredictionGuardChat", "there are ChatPredictionGuard, PredictionGuard, PredictionGuardBlobParser, "),
        ("PredictionGuardReranker", "there are .* PredictionGuardRerank, "),
    ):
        with pytest.raises(ImportError, match=f"langchain_predictionguard has no {name}; {remedy}"):
            exec(f"from langchain_predictionguard import {name}")
    assert not hasattr(adapter, "nothing")


def test_the_middleware_says_what_it_needs() -> None:
    code = (
        "import sys; sys.modules['langchain'] = None\n"
        "from langchain_predictionguard import *\n"
        "try:\n    from langchain_predictionguard import PredictionGuardMiddleware\n"
        "except ImportError as error:\n    print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == (
        'the middleware needs langchain 1.5 or newer: pip install "predictionguard-integrations[agents]"\n'
    )
