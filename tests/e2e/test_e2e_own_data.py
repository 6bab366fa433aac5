"""A stranger's table, by the commands of docs/your-own-data.md: a regression to a champion."""

import json
import re
import shutil
import subprocess
import time
from dataclasses import replace

import requests

from data.git import git
from tests.e2e.world import GIT, World
from tests.flows.test_new_problem import weather

WEEKS = ("2013-W01", "2013-W09")


def done(world: World, *arguments: str) -> str:
    ran = world.run(*arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_a_real_table_of_numbers_serves(world: World, tmp_path) -> None:
    table = tmp_path / "weather.csv"
    weather().to_csv(table, index=False)
    cold = replace(world, warm=None)  # no second command runs in this environment
    ran = cold.run("new-problem", "wind", "--from", str(table), "--target", "soon", "--delay", "3h",
                   "--yes")  # fmt: skip
    said = ran.stdout
    assert ran.returncode == 0, said + ran.stderr
    assert "regression: it is a number" in said and "data/wind.py" in said
    subprocess.run([*GIT, "-C", str(world.checkout), "add", "-A"], check=True)
    subprocess.run([*GIT, "-C", str(world.checkout), "commit", "-qm", "wind"], check=True)
    world.environment["EVERGREEN_PROBLEM"] = "wind"
    done(world, "ingest", WEEKS[0], "--to", WEEKS[1])
    done(world, "up")
    assert "version 1 serves" in done(world, "retrain")
    status = json.loads(done(world, "status", "--json"))
    assert status["aliases"]["champion"] == "1" and status["problems"] == []

    home = world.home / "problems" / "wind"
    (golden,) = home.glob("mlflow/artifacts/*/artifacts/registered/artefact/golden.json")
    rows = json.loads(golden.read_text())
    with requests.Session() as session:
        session.trust_env = False
        url = f"{world.url('gateway')}/predict"
        answers = session.post(url, json=rows["rows"][:50], timeout=30).json()
        refused = session.post(url, json={**rows["rows"][0], "humid": "wet"}, timeout=30)
    told = [answer["soon"] for answer in answers]
    assert max(abs(a - b) for a, b in zip(told, rows["probabilities"], strict=False)) < 1e-3
    assert refused.status_code == 422 and "humid" in refused.text

    assert "quality UNKNOWN" in done(world, "monitor", WEEKS[1])  # 50 answers are too few
    scored = home / "scored.parquet"
    done(world, "score", str(world.checkout / f"data/raw-wind/{WEEKS[1]}.parquet"), str(scored))
    assert "soon" in (columns := _columns(scored)) and "probability" not in columns
    done(world, "verify")
    assert not (world.home / "ledger.jsonl").exists(), "the default problem is left alone"


def test_all_is_lost_and_the_same_champion_serves_again(world: World, tmp_path) -> None:
    """A backup of the running stack; then there is nothing; then the same bytes are answered."""
    home, path = world.home / "problems" / "wind", tmp_path / "backup.tar"
    (golden,) = home.glob("mlflow/artifacts/*/artifacts/registered/artefact/golden.json")
    rows = json.loads(golden.read_text())["rows"][:50]

    def answer() -> bytes:
        with requests.Session() as session:
            session.trust_env = False
            reply = session.post(f"{world.url('gateway')}/predict", json=rows, timeout=30)
        assert reply.status_code == 200
        return re.sub(rb'"request_id":"[^"]+"', b"", reply.content)

    before, ledger = answer(), (home / "ledger.jsonl").read_bytes()
    done(world, "backup", str(path), "--with-secrets")
    assert "`evergreen down` first" in world.run("restore", str(path)).stderr
    done(world, "down")
    shutil.rmtree(world.home)
    shutil.rmtree(world.checkout / "data" / "raw-wind")
    (world.home / "nobody").mkdir(parents=True)
    tags = git(world.checkout, "tag").split()
    git(world.checkout, "tag", "--delete", *tags)
    damaged = path.with_name("damaged.tar")
    damaged.write_bytes(path.read_bytes().replace(b'"kind":"promoted"', b'"kind":"prom0ted"'))
    refused = world.run("restore", str(damaged))
    assert refused.returncode == 1 and "wind/ledger.jsonl differs" in refused.stderr
    start = time.monotonic()
    report = json.loads(done(world, "restore", str(path), "--json"))
    assert report["notes"] == [] and git(world.checkout, "tag").split() == tags
    assert (home / "ledger.jsonl").read_bytes() == ledger
    done(world, "up")
    done(world, "verify")
    print(f"back, and verified, after {(time.monotonic() - start) / 60:.1f} minutes")
    assert answer() == before


def _columns(path) -> list[str]:
    import pyarrow.parquet as pq

    return list(pq.read_schema(path).names)
