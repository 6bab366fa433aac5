"""A backup of a home that is written to, put back in another place, and refused when damaged.

`tests/e2e/test_e2e_own_data.py` does the whole drill, with everything up.
"""

import json
import shutil
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from data.errors import EvergreenError
from flows import archive, backup
from flows.archive import HEADER
from flows.backup import run_backup
from flows.restore import run_restore
from flows.settings import PORTS, Settings
from flows.team import Team
from models.ledger import Act, Kind, Ledger
from models.signing import Keys
from tests.e2e.world import GIT

WHEN = datetime(2024, 6, 1, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


def repository(folder: Path, *from_: str) -> Settings:
    subprocess.run([*GIT, *(from_ or ("init", "-q", "-b", "main")), str(folder)], check=True)
    return Settings(folder, folder / "var", PORTS)


@pytest.fixture
def lived(tmp_path) -> Iterator[Settings]:
    """A home with one of every kind of file, its database open, with a line not yet merged."""
    settings = repository(tmp_path / "here")
    (settings.checkout / ".dvc").mkdir()
    (settings.checkout / ".gitignore").write_text("/var/\n/data/raw*/\n")
    shutil.copy(ROOT / "params.yaml", settings.checkout)
    for words in (["add", "-A"], ["commit", "-qm", "one"], ["tag", "data-one"]):
        subprocess.run([*GIT, "-C", str(settings.checkout), *words], check=True)
    (settings.checkout / "params.yaml").write_text("# being edited\n")
    home = settings.home
    ledger, act = Ledger(home / "ledger.jsonl"), Act(WHEN, "Ann", "good", "none")
    ledger.append(Kind.PROMOTED, "1", "a1" * 32, act)
    Keys(settings.signing_key).ensure()
    for name, text in {
        "mlflow/artifacts/run/model.onnx": "the model",
        "serving/slots/blue/bento/model.onnx": "the model",
        "serving/log/blue/predictions.jsonl": '{"a": 1}\n',
        "keys/users.json": "hashes of tokens",
        "serving/keys/installation.key": "secret of a running gateway",
        "dvc/cache/files/md5/ab/cd": "rows",
        "dvc/tmp/lock": "passes",
        "logs/prefect.log": "passes",
        "problems/wind/ledger.jsonl": "",
        "problems/wind/keys/signing.pem": "another secret",
        "problems/wind/logs/prefect.log": "passes",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    raw = settings.checkout / "data" / "raw"
    raw.mkdir(parents=True)
    (raw / "2024-W01.parquet").write_bytes(b"rows")
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE runs (artifact_uri TEXT)")
        database.execute("CREATE TABLE experiments (artifact_location)")
        database.execute("CREATE TABLE model_versions (source, storage_location)")
        database.execute("CREATE TABLE logged_models (artifact_location)")
        address = (home / "mlflow" / "artifacts" / "run").as_uri()
        database.execute("INSERT INTO runs VALUES (?)", (address,))
        database.execute("INSERT INTO runs VALUES (?)", (f"s3://bucket{home}/x",))
        database.commit()
        yield settings


@pytest.fixture
def empty(lived, tmp_path) -> Settings:
    """A clone without tags at another path."""
    return repository(tmp_path / "there", "clone", "-q", "--no-tags", str(lived.checkout))


def files(settings: Settings) -> dict[str, bytes]:
    return {str(p): (settings.root / p).read_bytes() for p in backup.state(settings.root)}


def test_what_was_kept_is_back_in_another_place(lived, empty, tmp_path) -> None:
    done = run_backup(lived, tmp_path / "b.tar", WHEN)
    assert (tmp_path / "b.tar").stat().st_mode & 0o777 == 0o600
    restored = run_restore(empty, tmp_path / "b.tar")
    assert restored.files == done.files and restored.created == "2024-06-01T00:00:00+00:00"
    before, after = files(lived), files(empty)
    kept = {name for name in before if not name.endswith(("mlflow.db", ".pem"))}
    assert len(kept) == 8 and {name: before[name] for name in kept} == {
        name: after[name] for name in after if name != "mlflow/mlflow.db"
    }
    assert Ledger(empty.home / "ledger.jsonl").read()[0].by == "Ann"
    with closing(sqlite3.connect(empty.home / "mlflow" / "mlflow.db")) as database:
        addresses = [row[0] for row in database.execute("SELECT artifact_uri FROM runs")]
    here = (empty.home / "mlflow" / "artifacts" / "run").as_uri()
    assert addresses == [here, f"s3://bucket{lived.home}/x"]
    assert (empty.checkout / "data" / "raw" / "2024-W01.parquet").read_bytes() == b"rows"
    tags = subprocess.run(["git", "-C", str(empty.checkout), "tag"], capture_output=True, text=True)
    assert tags.stdout.split() == ["data-one"]
    assert (empty.root / "restored" / "params.yaml").read_text() == "# being edited\n"
    notes = " ".join(restored.notes)
    assert "params.yaml here is not that of the backup" in notes and "signing.pem" in notes


def test_secrets_go_along_if_told(lived, empty, tmp_path) -> None:
    outside = replace(lived, key=tmp_path / "safe" / "signing.pem")
    Keys(outside.signing_key).ensure()
    run_backup(outside, tmp_path / "b.tar.gz", WHEN, secrets=True)
    there = replace(empty, key=tmp_path / "new" / "signing.pem")
    run_restore(there, tmp_path / "b.tar.gz")
    Keys(there.signing_key).check()
    Keys(there.home / "keys" / "signing.pem").check()
    assert there.signing_key.read_bytes() == outside.signing_key.read_bytes()
    assert not (there.home / "serving" / "keys" / "installation.key").exists()


def test_state_that_is_here_is_not_mixed_with(lived, tmp_path) -> None:
    run_backup(lived, tmp_path / "b.tar", WHEN)
    ledger = lived.home / "ledger.jsonl"
    before, kept = files(lived), ledger.read_bytes()
    with pytest.raises(EvergreenError, match="is here already"):
        run_restore(lived, tmp_path / "b.tar")
    assert files(lived) == before
    ledger.write_bytes(b"lost")
    run_restore(lived, tmp_path / "b.tar", replaces=True)
    assert ledger.read_bytes() == kept
    assert (lived.root / "replaced" / "ledger.jsonl").read_bytes() == b"lost"
    with pytest.raises(EvergreenError, match="what was replaced before"):
        run_restore(lived, tmp_path / "b.tar", replaces=True)


def test_a_cut_off_foreign_or_newer_file_is_refused(lived, empty, tmp_path) -> None:
    path = tmp_path / "b.tar"
    run_backup(lived, path, WHEN)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"the model") - 512])
    with pytest.raises(EvergreenError, match=r"cut off|damaged"):
        run_restore(empty, path)
    path.write_bytes(whole.replace(b'"format":1', b'"format":2'))
    with pytest.raises(EvergreenError, match="has format 2, and this version restores format 1"):
        run_restore(empty, path)
    with tarfile.open(path, "w") as foreign:
        foreign.add(ROOT / "params.yaml", HEADER.replace(".json", ".yaml"))
    with pytest.raises(EvergreenError, match="no backup of Evergreen"):
        run_restore(empty, path)
    assert files(empty) == {}


def test_a_changed_byte_is_refused_by_the_name_of_its_file(lived, empty, tmp_path) -> None:
    path = tmp_path / "b.tar"
    run_backup(lived, path, WHEN)
    path.write_bytes(path.read_bytes().replace(b"the model", b"the mOdel"))
    with pytest.raises(EvergreenError, match=r"slots/blue/bento/model\.onnx differs|run/model"):
        run_restore(empty, path)
    assert files(empty) == {} and not (empty.checkout / "data" / "raw").exists()


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_any_byte_may_change_but_none_of_it_is_restored(tmp_path, name) -> None:
    """What lies between the files is padding: then all files are as they were."""
    for each, text in {"one": "x" * 700, "two": "y" * 20, "three": "x" * 700}.items():
        (tmp_path / each).write_text(text)
    path = tmp_path / name
    archive.write(
        path, {"root": "/"}, [(f"home/{n}", tmp_path / n) for n in ("one", "two", "three")]
    )
    whole = path.read_bytes()
    _, expected = archive.unpack(path, tmp_path / "whole")
    assert len(expected) == 3

    @hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(whole) - 1), st.integers(1, 255))
    def changed(place: int, by: int) -> None:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ by]) + whole[place + 1 :])
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        try:
            _, found = archive.unpack(path, tmp_path / "out")
        except EvergreenError:
            return
        assert found == expected
        for each in ("one", "two", "three"):
            read = (tmp_path / "out" / "home" / each).read_bytes()
            assert read == (tmp_path / each).read_bytes()

    changed()


@pytest.mark.parametrize("name", ["../out", "/out", "home/../../out"])
def test_no_file_is_written_outside(tmp_path, name) -> None:
    (tmp_path / "evil").write_text("x")
    archive.write(tmp_path / "b.tar", {"root": "/"}, [(name, tmp_path / "evil")])
    with pytest.raises(EvergreenError, match="is not the name of a file in a backup"):
        archive.unpack(tmp_path / "b.tar", tmp_path / "deep" / "folder")
    assert not list(tmp_path.rglob("out"))


def test_a_backup_that_fails_leaves_no_file(lived, tmp_path, monkeypatch) -> None:
    place = tmp_path / "backups"
    monkeypatch.setattr(backup, "PATIENCE", 0.1)
    with (
        FileLock(lived.home / "mlflow" / "promotion.lock"),
        pytest.raises(EvergreenError, match="is promoting"),
    ):
        run_backup(lived, place / "b.tar", WHEN)
    assert list(place.iterdir()) == []
    run_backup(lived, place / "b.tar", WHEN)
    with pytest.raises(EvergreenError, match="is there already"):
        run_backup(lived, place / "b.tar", WHEN)
    with pytest.raises(EvergreenError, match="name a place outside"):
        run_backup(lived, lived.root / "b.tar", WHEN)
    assert [path.name for path in place.iterdir()] == ["b.tar"]


def test_shared_stores_are_refused_with_what_to_do(lived, tmp_path) -> None:
    told = {"EVERGREEN_DATABASE_URL": "postgresql://u@h/evergreen", "EVERGREEN_S3_URL": "s3://b"}
    shared = replace(lived, team=Team.read(told))
    with pytest.raises(EvergreenError, match=r"pg_dump.* first, then a copy of the bucket"):
        run_backup(shared, tmp_path / "b.tar", WHEN)
    with pytest.raises(EvergreenError, match=r"pg_dump.* first, then a copy of the bucket"):
        run_restore(shared, tmp_path / "b.tar")


def test_a_file_that_grows_is_kept_as_it_was_and_twice_the_same_is_kept_once(tmp_path) -> None:
    log, model = tmp_path / "log", tmp_path / "model"
    log.write_text("one line\n")
    model.write_bytes(bytes(range(256)) * 400)

    def growing() -> Iterator[tuple[str, Path]]:
        yield "home/a", model
        yield "home/b", model
        yield "home/log", log
        log.write_text("one line\nanother\n")
        yield "home/gone", tmp_path / "gone"

    done = archive.write(tmp_path / "b.tar", {"root": "/"}, growing())
    assert done.files == 3 and done.size < 1.5 * model.stat().st_size
    header, _ = archive.unpack(tmp_path / "b.tar", tmp_path / "out")
    assert json.loads(json.dumps(header)) == {"format": 1, "root": "/"}
    assert (tmp_path / "out" / "home" / "log").read_text() == "one line\n"
    assert (tmp_path / "out" / "home" / "b").read_bytes() == model.read_bytes()
