"""LlamaIndex's import paths, such as `llama_index.llms.predictionguard`, in an installed and in an editable wheel."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytest.importorskip("llama_index.core")

ROOT = Path(__file__).parents[2]
CHECK = """
import llama_index_predictionguard as adapter
from llama_index.embeddings.predictionguard import PredictionGuardEmbedding
from llama_index.llms.predictionguard import PredictionGuard
from llama_index.multi_modal_llms.predictionguard import PredictionGuardMultiModal
from llama_index.postprocessor.predictionguard_rerank import PredictionGuardRerank

assert PredictionGuard is adapter.PredictionGuard
assert PredictionGuardEmbedding is adapter.PredictionGuardEmbedding
assert PredictionGuardMultiModal is adapter.PredictionGuardMultiModal
assert PredictionGuardRerank is adapter.PredictionGuardRerank
assert PredictionGuard("m", api_key="k").model == "m"

import llama_index, llama_index.core, llama_index.llms
assert llama_index.__file__ is None and llama_index.llms.__file__ is None, "namespace packages stay namespace packages"
print(adapter.__file__)
"""


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_the_import_paths_of_llama_index(kind: str, tmp_path: Path) -> None:
    home = tmp_path / "environment"

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "venv", "--without-pip", str(home))
    python = str(next(home.glob("bin/python")))
    site = Path(run(python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # The dependencies are those of the environment of the tests; a path in a .pth file brings no editable installs.
    site.joinpath("dependencies.pth").write_text(sysconfig.get_path("purelib"))
    source = [str(ROOT)] if kind == "wheel" else ["--editable", str(ROOT)]
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", *source)
    # Isolated (-I), so that PYTHONPATH is not imported from.
    found = Path(run(python, "-I", "-c", CHECK).strip())
    assert found.is_relative_to(ROOT if kind == "editable" else site)
