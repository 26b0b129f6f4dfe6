"""`python -m tests.notebooks [NAME ...]`: run notebooks without a key, and save them with their outputs."""

import os
import sys

import nbformat

from tests.notebooks.run import FOLDER, run

environment = {name: value for name, value in os.environ.items() if not name.startswith("PREDICTIONGUARD_")}
for path in sorted(FOLDER.glob("*.ipynb")):
    if not sys.argv[1:] or path.stem in sys.argv[1:]:
        nbformat.write(run(path, environment), path)
