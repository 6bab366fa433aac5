"""A signed folder is taken as it was signed, or not at all."""

import json
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import digests
from data.errors import EvergreenError
from models import artifact, signing
from models.signing import SIGNATURE, Keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "signing.pem").ensure()


@pytest.fixture
def copy(signed, tmp_path) -> Path:
    return Path(shutil.copytree(signed, tmp_path / "registered"))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_signed_is_accepted_and_keeps_its_digest(signed, keys, good):
    signing.verify(signed, keys.public)
    assert artifact.load(signed / "artefact").digest == good.digest


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_flipped_bit_of_any_file_is_refused(data, signed, keys):
    path = data.draw(st.sampled_from([p for p in files(signed) if p.name != SIGNATURE]))
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(changed)
    try:
        with pytest.raises(EvergreenError, match="is not as it was signed"):
            signing.verify(signed, keys.public)
    finally:
        path.write_bytes(whole)


def test_a_manifest_that_was_made_again_is_refused(copy, keys, good):
    """Whoever can change a file can count its sha256 anew, but cannot sign it."""
    contract = json.loads((copy / "artefact" / "contract.json").read_text())
    contract["threshold"] = 0.99
    (copy / "artefact" / "contract.json").write_text(digests.canonical_json(contract))
    assert digests.seal(copy / "artefact") != good.digest
    digests.verify(copy / "artefact")
    with pytest.raises(EvergreenError, match="is not as it was signed"):
        signing.verify(copy, keys.public)


@pytest.mark.parametrize("name", ["more.txt", "artefact/model.pkl", ".git/config", ".gitignore"])
def test_a_file_too_many_is_refused(copy, keys, name):
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_bytes(b"\x80\x04.")
    with pytest.raises(EvergreenError, match="Extra files"):
        signing.verify(copy, keys.public)


@pytest.mark.parametrize("name", ["card.md", "artefact/model.onnx"])
def test_a_lost_file_or_a_link_is_refused(copy, keys, name):
    (copy / name).rename(copy.parent / "elsewhere")
    with pytest.raises(EvergreenError, match="Missing files"):
        signing.verify(copy, keys.public)
    (copy / name).symlink_to(copy.parent / "elsewhere")
    with pytest.raises(EvergreenError, match="is not as it was signed"):
        signing.verify(copy, keys.public)


def test_another_key_and_no_signature_are_refused(copy, keys, tmp_path):
    other = Keys(tmp_path / "other" / "signing.pem").ensure()
    with pytest.raises(EvergreenError, match="Key mismatch"):
        signing.verify(copy, other.public)
    signing.sign(copy, other)
    with pytest.raises(EvergreenError, match="Key mismatch"):
        signing.verify(copy, keys.public)
    (copy / SIGNATURE).unlink()
    with pytest.raises(EvergreenError, match="is not signed"):
        signing.verify(copy, keys.public)
    with pytest.raises(EvergreenError, match=r"nokey\.pub is missing"):
        signing.verify(copy, tmp_path / "nokey.pub")


def test_the_private_key_is_for_its_owner_and_a_lost_half_is_named(tmp_path):
    keys = Keys(tmp_path / "keys" / "signing.pem").ensure()
    assert stat.S_IMODE(keys.private.stat().st_mode) == 0o600
    made = keys.private.read_bytes()
    assert keys.ensure().private.read_bytes() == made, "a key is made once"
    keys.private.chmod(0o644)
    with pytest.raises(EvergreenError, match="may be read by others"):
        keys.ensure()
    keys.private.unlink()
    with pytest.raises(EvergreenError, match=r"signing\.pem is missing"):
        keys.ensure()
