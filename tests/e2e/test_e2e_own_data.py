"""A stranger's table, by the commands of docs/your-own-data.md: a regression to a champion."""

import json
import subprocess

import requests

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
    ran = world.python("flows.cli", "new-problem", "wind", "--from", str(table),
                       "--target", "soon", "--delay", "3h", "--yes")  # fmt: skip
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


def _columns(path) -> list[str]:
    import pyarrow.parquet as pq

    return list(pq.read_schema(path).names)
