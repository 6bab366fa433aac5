"""A slot whose files were changed does not start: what was packed is served, or nothing."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bento.package import build
from data import digests

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def archive(artefact, tmp_path_factory) -> Path:
    store = tmp_path_factory.mktemp("store")
    return build(
        artefact, name="parcels", version="1", store=store, checkout=CHECKOUT, seconds=2.0
    ).path


@pytest.fixture
def bento(archive, tmp_path) -> Path:
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "bento")
    return tmp_path / "bento"


def refusal(bento: Path) -> str:
    """The last line of a server that ends by itself."""
    told = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    told |= {"BENTOML_HOME": str(bento.parent), "BENTOML_DO_NOT_TRACK": "true", "DO_NOT_TRACK": "1"}
    told["EVERGREEN_PREDICTION_LOG"] = str(bento.parent / "log.jsonl")
    command = [sys.executable, "-m", "bento.server", "--bento", str(bento)]
    done = subprocess.run(
        [*command, "--host", "127.0.0.1", "--port", "0"],
        cwd=bento / "src", env=told, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", "golden.json"])
def test_a_flipped_bit_is_refused(bento, name):
    (path,) = bento.glob(f"models/*/*/artefact/{name}")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)
    assert f"{name} differs from its manifest" in refusal(bento)


def test_a_manifest_that_was_made_again_is_refused(bento):
    (path,) = bento.glob("models/*/*/artefact/contract.json")
    path.write_text(path.read_text().replace('"threshold": 0.4', '"threshold": 0.9'))
    digests.seal(path.parent)
    assert "was built from" in refusal(bento)
