"""A version for where there is no Evergreen: a folder with the model, one JSON and one script.

The script is `bento.edge_run` after the modules that it imports from here, word by word, so that
fields and features keep their one declaration.
"""

import ast
import json
import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import onnxruntime

from bento import edge_run
from bento.contract import CONTRACT, Decoder
from bento.edge_run import ABOUT, MODEL, seal, sha256
from bento.explain import GOLDEN, decode
from bento.predictor import Predictor
from data.digests import canonical_json
from data.errors import EvergreenError

SCRIPT = "run.py"
MODULES = (
    "data.errors",
    "data.task",
    "data.fields",
    "data.features",
    "bento.answers",
    "bento.edge_run",
)
OURS = {module.partition(".")[0] for module in MODULES}


def export(folder: Path, version: str, tolerance: float, place: Path) -> bool:
    """Write a verified artefact to `place`, whole or not at all.

    Args:
        tolerance: how far a golden row may be off on another machine.

    Returns:
        Whether there was something to do: False if this very export lies there.

    Raises:
        EvergreenError: if something else lies there.
    """
    files = contents(folder, version, tolerance)
    if place.exists():
        if _same(place, files):
            return False
        if not place.is_dir() or any(place.iterdir()):
            raise EvergreenError(f"{place} holds something else: name a folder that is not there")
        place.rmdir()
    fresh = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, content in files.items():
        (fresh / name).write_bytes(content)
    fresh.rename(place)
    return True


def _same(place: Path, files: dict[str, bytes]) -> bool:
    return place.is_dir() and all(
        (place / name).is_file() and (place / name).read_bytes() == content
        for name, content in files.items()
    )


def contents(folder: Path, version: str, tolerance: float) -> dict[str, bytes]:
    """File name -> content; the same for the same artefact, version and code."""
    predictor = Predictor.load(folder, batches=False)
    files = {MODEL: (folder / MODEL).read_bytes(), SCRIPT: script().encode()}
    rows = json.loads((folder / GOLDEN).read_bytes())["rows"]
    decoder = Decoder(predictor.contract.fields)
    about: dict[str, Any] = {
        "model_version": version,
        "digest": predictor.digest,
        "contract": json.loads((folder / CONTRACT).read_bytes()),
        "files": {name: sha256(content) for name, content in files.items()},
        "golden": {
            "rows": rows,
            "probabilities": predictor.scores([decode(decoder, row) for row in rows]),
            "tolerance": tolerance,
        },
        "versions": versions(),
    }
    return {**files, ABOUT: canonical_json({**about, "seal": seal(about)}).encode()}


def versions() -> dict[str, str]:
    """What the golden rows were answered with."""
    return {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def script() -> str:
    """All modules in one, without the imports from each other."""
    sources = [_source(module) for module in MODULES]
    head = f'"""{edge_run.__doc__}"""\n'
    return head + "".join(_without_ours(source) for source in sources)


def _source(module: str) -> str:
    spec = find_spec(module)
    assert spec and spec.origin
    return Path(spec.origin).read_text()


def _without_ours(source: str) -> str:
    """The source without its docstring and without imports of this project."""
    lines = source.splitlines(keepends=True)
    tree = ast.parse(source)
    for node in tree.body:
        ours = isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in OURS
        docstring = node is tree.body[0] and isinstance(node, ast.Expr)
        if ours or docstring:
            assert node.end_lineno
            for line in range(node.lineno - 1, node.end_lineno):
                lines[line] = ""
    return "".join(lines)
