"""The prediction log: what was acknowledged is there, what is torn does no harm."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from bento import predictions
from bento.prediction_log import Entry, PredictionLog, closed_files, slot_file
from bento.predictions import archive, find, read, table
from data.errors import EvergreenError

CHECKOUT = Path(__file__).resolve().parents[2]


def entry(hour: int = 0, version: str = "1", probe: bool = False, rows: int = 1) -> Entry:
    row = {"key": None, "ordered_at": datetime(2024, 4, 1, hour), "shop": "north"}
    return Entry(
        logged_at=datetime(2024, 4, 2, tzinfo=UTC),
        request_id=f"r{hour}",
        model_version=version,
        digest="d",
        event_time="ordered_at",
        threshold=0.3,
        degraded=False,
        probe=probe,
        many=rows > 1,
        probabilities=[0.25] * rows,
        rows=[row] * rows,
    )


def test_records_come_back_filtered(tmp_path):
    for slot in ("blue", "green"):
        log = PredictionLog(slot_file(tmp_path, slot))
        log.append([entry(1), entry(2, "2")])
        log.append([entry(3), entry(3, probe=True)])
        log.close()
    found = list(read(tmp_path))
    assert [r["request_id"] for r in found] == ["r1", "r2", "r3"] * 2
    assert found[0]["event_time"] == datetime(2024, 4, 1, 1)
    assert found[0]["row"] == {"ordered_at": "2024-04-01T01:00:00", "shop": "north"}
    window = read(tmp_path, start=datetime(2024, 4, 1, 2), end=datetime(2024, 4, 1, 3))
    assert [r["request_id"] for r in window] == ["r2", "r2"]
    assert {r["model_version"] for r in read(tmp_path, model_version="2")} == {"2"}
    assert len(list(read(tmp_path, probes=True))) == 8


def test_one_answer_is_found_by_its_id(tmp_path):
    log = PredictionLog(slot_file(tmp_path, "green"))
    log.append([entry(1), entry(12), entry(2, "2", probe=True)])
    log.close()
    assert find(tmp_path, "r1") == next(read(tmp_path))
    assert find(tmp_path, "r2")["probe"] is True
    assert find(tmp_path, "r") is None and find(tmp_path, "shop") is None


def test_nothing_logged_is_nothing_read(tmp_path):
    assert list(read(tmp_path)) == []


def test_a_torn_line_hides_only_itself(tmp_path):
    path = slot_file(tmp_path, "blue")
    log = PredictionLog(path)
    log.append([entry(1), entry(2)])
    log.close()
    os.truncate(path, path.stat().st_size - 20)
    assert [r["request_id"] for r in read(tmp_path)] == ["r1"]
    log = PredictionLog(path)
    log.append([entry(3)])
    log.close()
    assert [r["request_id"] for r in read(tmp_path)] == ["r1", "r3"]


def test_a_write_that_is_cut_short_is_an_error(tmp_path, monkeypatch):
    log = PredictionLog(slot_file(tmp_path, "blue"))
    monkeypatch.setattr(os, "write", lambda descriptor, data: len(data) - 1)
    with pytest.raises(OSError, match="bytes of the prediction log"):
        log.append([entry()])


def test_acknowledged_records_survive_a_kill(tmp_path):
    script = (
        "import sys; sys.path.insert(0, 'tests/bento')\n"
        "from pathlib import Path\n"
        "from test_bento_log import entry\n"
        "from bento.prediction_log import PredictionLog, slot_file\n"
        f"log = PredictionLog(slot_file(Path({str(tmp_path)!r}), 'blue'))\n"
        "while True:\n    log.append([entry(1)])\n    print('acknowledged', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    seen = sum(1 for _ in (process.stdout.readline() for _ in range(500)))
    process.send_signal(signal.SIGKILL)
    seen += len(process.stdout.readlines())
    process.wait()
    assert len(list(read(tmp_path))) >= seen >= 500


def test_full_files_are_closed_and_the_oldest_dropped(tmp_path, caplog):
    path = slot_file(tmp_path, "blue")
    log = PredictionLog(path, segment=1000, segments=2)
    for hour in range(20):
        log.append([entry(hour)])
    closed = closed_files(path.parent)
    assert len(closed) == 2 and all(file.stat().st_size <= 1000 for file in closed)
    found = [r["request_id"] for r in read(tmp_path)]
    assert found == [f"r{hour}" for hour in range(20 - len(found), 20)] and len(found) >= 5
    assert "the log holds 2 files" in caplog.text
    log.close()
    again = PredictionLog(path, segment=1000, segments=2)
    again.append([entry(0, rows=30)])
    assert len(list(read(tmp_path, start=datetime(2024, 4, 1), end=datetime(2024, 4, 1, 1)))) == 30


def test_another_kind_of_line_is_an_error(tmp_path):
    path = slot_file(tmp_path, "blue")
    path.parent.mkdir(parents=True)
    path.write_text('{"request_id": 7}\n')
    with pytest.raises(EvergreenError, match="is no prediction log"):
        list(read(tmp_path))


def test_archives_hold_what_the_lines_held(tmp_path):
    log = PredictionLog(slot_file(tmp_path, "blue"), segment=1000)
    for hour in range(20):
        log.append([entry(hour, "1" if hour % 2 else "2", probe=hour == 5)])
    log.append([entry(3, "1", rows=4)])
    before = list(read(tmp_path, probes=True))
    made = archive(tmp_path)
    assert made and archive(tmp_path) == []
    assert list(read(tmp_path, probes=True)) == before
    assert find(tmp_path, "r7") == next(r for r in before if r["request_id"] == "r7")
    log.append([entry(9)])
    assert not set(made) & set(archive(tmp_path)), "numbers go on"
    day = datetime(2024, 4, 1, 3), datetime(2024, 4, 1, 10)
    found = table(tmp_path, ["request_id", "probability"], *day, "1")
    assert found["request_id"].tolist() == [
        record["request_id"] for record in read(tmp_path, *day, "1")
    ]
    kept = sum(path.stat().st_size for path in made[1:])
    archive(tmp_path, keep=kept)
    assert len(list(read(tmp_path, probes=True))) < len(before)


def test_the_newest_are_read_without_the_old_ones(tmp_path, monkeypatch):
    """Closed files, an archive, the open file and its empty lines, from any moment on."""
    monkeypatch.setattr(predictions, "WINDOW", 300)
    log = PredictionLog(slot_file(tmp_path, "blue"), segment=4000)
    first = datetime(2024, 4, 2, tzinfo=UTC)
    for number in range(60):
        log.append([msgspec.structs.replace(entry(), logged_at=first + timedelta(seconds=number))])
        log.is_writable()
        if number == 30:
            archive(tmp_path)
    log.close()
    assert len(closed_files(slot_file(tmp_path, "blue").parent)) > 3
    for number in (-1, 0, 7, 29, 31, 58, 59, 60):
        since = first + timedelta(seconds=number)
        found = [record["logged_at"] for record in read(tmp_path, since=since)]
        assert found == [record["logged_at"] for record in read(tmp_path) if
                         record["logged_at"] >= since]  # fmt: skip
        assert len(found) == 60 - max(number, 0)
