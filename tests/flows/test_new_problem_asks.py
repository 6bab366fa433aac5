"""What a stranger meets: questions on a terminal only, guesses that hold, a pipeline of now."""

import os
import pty
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import data
from data.draft import draft
from data.errors import EvergreenError, RefusedError
from data.ingest import ingest, read_file
from data.new_problem import parameters, write
from data.partitions import Partitions
from data.periods import Period
from data.pipelines import stale
from data.roles import Asked
from flows import doctor_home
from flows.cli import app
from tests.flows.test_new_problem import checkout, customers, flowers

__all__ = ["checkout"]  # a fixture
RANDOM = np.random.default_rng(11)


@pytest.fixture
def table(checkout, tmp_path, monkeypatch) -> Path:
    """The table of customers; what is written goes to a checkout of its own."""
    monkeypatch.setattr(data, "__file__", str(checkout / "data" / "__init__.py"))
    customers().to_csv(tmp_path / "customers.csv", index=False)
    return tmp_path / "customers.csv"


@pytest.fixture
def terminal(monkeypatch) -> Iterator[int]:
    """The end of a pseudo-terminal at which a person types."""
    person, program = pty.openpty()
    with os.fdopen(program, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield person
    os.close(person)


def typed(terminal: int, table: Path, *answers: str) -> None:
    """Answer in turn; every answer that is left over, or missing, ends in an error."""
    os.write(terminal, "".join(f"{answer}\n" for answer in answers).encode() + b"\x04")
    app(["new-problem", "churn", "--from", str(table)], standalone_mode=False)


def test_a_terminal_is_asked_and_its_answers_are_what_is_written(terminal, table, checkout, capsys):
    typed(terminal, table, "Churned?", "", "week", "2d", "Customer ID", "key", "region", "y")
    problem = runpy.run_path(str(checkout / "data" / "churn.py"))["PROBLEM"]
    fields = {field.name: field for field in problem.fields}
    assert (problem.target, problem.event_time) == ("churned", "signed_up_local")
    assert problem.label_delay.days == 2 and problem.frequency == "week"
    assert "region" not in fields and fields["key_of_row"].kind == "text"
    assert problem.read(Period.parse("2024-W01"))["key"].iloc[0] == "000000"
    said = capsys.readouterr().out
    for question in ("is to be predicted", "when the decision is due [Signed Up (local)]",
                     "How long is a period", "After how long is it known [0d]", "name a row",
                     "codes, not amounts: support calls, key", "are no fields",
                     "Write it"):  # fmt: skip
        assert question in said


def test_nothing_is_written_if_the_person_says_no(terminal, table, checkout):
    typed(terminal, table, "Churned?", "", "auto", "", "", "", "", "n")
    assert not (checkout / "data" / "churn.py").exists()


def test_without_a_terminal_nothing_is_asked(table, checkout):
    told = ["new-problem", "churn", "--from", str(table)]
    lost = CliRunner().invoke(app, told, input="Churned?\n" * 9)
    assert isinstance(lost.exception, EvergreenError) and "--target" in str(lost.exception)
    done = CliRunner().invoke(app, [*told, "--target", "Churned?"], input="n\n" * 9)
    assert done.exit_code == 0 and (checkout / "data" / "churn.py").exists()


def test_a_pipeline_that_the_checkout_has_left_behind_is_named_and_made_anew(table, checkout):
    told = ["new-problem", "churn", "--from", str(table), "--target", "Churned?"]
    assert CliRunner().invoke(app, told).exit_code == 0
    assert doctor_home.pipelines(checkout).level == "ok" and stale(checkout) == {}
    whole = (checkout / "dvc.yaml").read_text()
    (checkout / "dvc.yaml").write_text(whole.replace("data/errors.py", "data/errors.py, data/x.py"))
    found = doctor_home.pipelines(checkout)
    assert found.level == "warn" and "churn" in found.found
    assert "evergreen new-problem churn --refresh" in found.fix
    assert CliRunner().invoke(app, ["new-problem", "churn", "--refresh"]).exit_code == 0
    assert stale(checkout) == {}
    assert "data/x.py" in (checkout / "problems" / "churn" / "dvc.yaml").read_text()
    none = CliRunner().invoke(app, ["new-problem", "chum", "--refresh"]).exception
    assert "there is no" in str(none)


def written(table: pd.DataFrame, path: Path, **asked: object):
    table.to_csv(path, index=False)
    return draft("strange", Asked(str(path), "what", **asked))


def test_a_field_may_tell_one_class_of_several(tmp_path):
    """A pixel knows a zero; what knows all of them is of afterwards."""
    rows = 3000
    what = RANDOM.choice(list("abcd"), rows)
    table = pd.DataFrame({
        "when": pd.date_range("2024-01-01", periods=rows, freq="1h"),
        "pixel": (what == "a") * 2.0 + RANDOM.normal(size=rows),
        "result": pd.Series(what).map(dict(zip("abcd", (3, 1, 4, 2), strict=True))),
        "other": RANDOM.normal(size=rows),
        "what": what,
    })  # fmt: skip
    found = written(table, tmp_path / "t.csv")
    assert {field.name for field in found.table.fields} == {"when", "pixel", "other"}
    assert found.alone > 0.9
    (said,) = (text for text in found.said if "afterwards" in text)
    assert "'result'" in said and "'pixel'" not in said


def test_few_rows_make_long_periods_and_it_is_said(tmp_path):
    when = pd.date_range("2024-01-01", "2024-12-31", periods=400)
    what = RANDOM.choice(["yes", "no"], 400)
    found = written(
        pd.DataFrame({"when": when, "size": RANDOM.normal(size=400), "what": what}),
        tmp_path / "t.csv",
    )
    assert found.timing.frequency == "month"
    assert any("rows in a month are few" in text for text in found.said)


def test_seconds_since_1970_are_named_with_the_way_to_read_them(tmp_path):
    rows = 2000
    seconds = 1_700_000_000 + 3600 * np.arange(rows)
    table = pd.DataFrame({"ts": seconds, "size": RANDOM.normal(size=rows),
                          "what": RANDOM.choice(["yes", "no"], rows)})  # fmt: skip
    with pytest.raises(EvergreenError, match="--time 'ts' --time-format 'epoch seconds'"):
        written(table, tmp_path / "t.csv")
    found = written(table, tmp_path / "t.csv", time="ts", time_format="epoch seconds")
    assert found.timing.first == "2023-W46"


def test_rows_of_few_fields_are_often_alike_and_no_batch_is_an_old_one(tmp_path, checkout):
    rows = 4000
    table = pd.DataFrame({
        "when": pd.date_range("2024-01-01", periods=rows, freq="25min"),
        "size": RANDOM.choice(["s", "m", "l"], rows),
        "count": RANDOM.integers(0, 4, rows),
        "what": RANDOM.choice(["yes", "no"], rows),
    })  # fmt: skip
    files = write(written(table, tmp_path / "t.csv"), checkout)
    problem = runpy.run_path(str(files.problem))["PROBLEM"]
    partitions = Partitions(tmp_path / "raw")
    for name in ("2024-W02", "2024-W03", "2024-W04", "2024-W05", "2024-W06", "2024-W07"):
        period = Period.parse(name)
        ingest(problem, partitions, period, problem.read(period))
    assert len(partitions.periods()) == 6


def test_a_table_of_other_lines_is_read_alike(tmp_path):
    """Semicolons and decimal commas, as the flowers have them, and a code among the numbers."""
    flowers().assign(shelf=RANDOM.integers(1, 5, 2400)).to_csv(tmp_path / "f.csv", sep=";")
    asked = Asked(str(tmp_path / "f.csv"), "class", order=True, text=("shelf",))
    kinds = {field.name: field.kind for field in draft("flowers", asked).table.fields}
    assert kinds["shelf"] == "text" and kinds["petal_size_cm"] == "number"


def test_rows_in_no_order_are_shuffled_and_later_ones_come_after(tmp_path, checkout):
    """A table that is sorted by what is predicted: its weeks are alike, and stay what they are."""
    size = RANDOM.gamma(2, 100, 1600)
    table = pd.DataFrame({"x": size + RANDOM.normal(0, 80, 1600), "z": RANDOM.normal(size=1600),
                          "what": size.round(2)}).sort_values("what")  # fmt: skip
    path = tmp_path / "t.csv"
    assert any("--shuffle" in text for text in written(table, path, order=True).said)
    found = written(table, path, order=True, shuffle=True)
    assert not any("--shuffle" in text for text in found.said)
    problem = runpy.run_path(str(write(found, checkout).problem))["PROBLEM"]
    weeks = {name: problem.read(Period.parse(name)) for name in problem.periods()}
    keys = [key for batch in weeks.values() for key in batch["key"]]
    assert len(weeks) == 8 and len(set(keys)) == len(keys) == 1600
    means = [batch["outcome"].astype(float).mean() for batch in weeks.values()]
    assert max(means) < 1.3 * min(means)
    later = pd.concat([table, table.assign(what=1.0).iloc[:200]])
    later.to_csv(path, index=False)
    for name, batch in weeks.items():
        pd.testing.assert_frame_equal(problem.read(Period.parse(name)), batch)
    (new,) = set(problem.periods()) - set(weeks)
    batch = problem.read(Period.parse(new))
    assert (batch["outcome"] == "1.0").all()
    first = batch.iloc[0]
    assert (first["key"], str(first["arrival"])) == ("row-000001600", "2001-02-26 00:00:00")


@pytest.mark.parametrize("name", ["arrival", "Arrival"])
def test_a_column_called_arrival_is_not_the_made_time(tmp_path, checkout, name):
    table = pd.DataFrame({name: RANDOM.integers(0, 90, 1600), "z": RANDOM.normal(size=1600)})
    table["what"] = np.where(table[name] + RANDOM.normal(0, 40, 1600) > 45, "yes", "no")
    found = written(table, tmp_path / "t.csv", order=True, shuffle=True)
    problem = runpy.run_path(str(write(found, checkout).problem))["PROBLEM"]
    names = [field.name for field in problem.fields]
    assert len(names) == len(set(names)) == 3
    week = Period.parse("2001-W01")
    batch = problem.prepare(problem.read(week))
    assert batch["arrival"].between(week.start, week.end).all()
    places = batch["key"].str.removeprefix("row-").astype(int)
    assert (batch["arrival_2"].to_numpy() == table[name].to_numpy()[places]).all()


def test_rows_without_time_are_no_labels(tmp_path, checkout):
    """A file of rows that lacks the made time is refused for that."""
    table = pd.DataFrame({"x": RANDOM.normal(size=1600), "z": RANDOM.normal(size=1600)})
    table["what"] = np.where(table["x"] + RANDOM.normal(size=1600) > 0, "yes", "no")
    found = written(table, tmp_path / "t.csv", order=True, shuffle=True)
    problem = runpy.run_path(str(write(found, checkout).problem))["PROBLEM"]
    partitions, week = Partitions(tmp_path / "raw"), Period.parse("2001-W09")
    with pytest.raises(RefusedError, match="'arrival' is missing"):
        ingest(problem, partitions, week, read_file(tmp_path / "t.csv", problem))


def test_a_small_table_has_gates_that_can_judge_it_or_one_sentence(tmp_path):
    rows = 450
    table = pd.DataFrame({"x": RANDOM.normal(size=rows), "z": RANDOM.normal(size=rows)})
    table["what"] = np.where(table["x"] + RANDOM.normal(size=rows) > 0, "yes", "no")
    found = written(table, tmp_path / "t.csv", order=True)
    taken, learned = parameters(found), found.timing.usual * 6
    assert taken["gates.slice_past_rows"] < learned and taken["train.holdout_periods"] == 2
    assert taken["gates.slice_rows"] <= taken["gates.minimum_rows"] < 2 * found.timing.usual
    assert taken["candidates"][-1] == "logistic" and any("linear" in text for text in found.said)
    with pytest.raises(EvergreenError, match=r"296 rows with an outcome .* 400 are needed"):
        written(table.iloc[:300], tmp_path / "t.csv", order=True)


def test_a_class_may_be_called_none(tmp_path, checkout):
    rows = 3000
    table = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=rows, freq="1h"),
                          "x": RANDOM.normal(size=rows).round(2),
                          "what": RANDOM.choice(["none", "minor", "Major"], rows)})  # fmt: skip
    table.loc[::50, "what"] = ""
    found = written(table, tmp_path / "t.csv")
    assert found.outcome.task.classes == ("Major", "minor", "none")
    problem = runpy.run_path(str(write(found, checkout).problem))["PROBLEM"]
    batch = problem.read(Period.parse("2024-W03"))
    told = problem.outcomes(batch)["label"]
    assert set(told.dropna()) == {"Major", "minor", "none"} and told.isna().any()


def test_a_leak_with_a_decimal_comma_is_one(tmp_path):
    rows = 2000
    what = RANDOM.choice(["yes", "no"], rows)
    paid = ((what == "yes") * 9.5 + RANDOM.normal(size=rows)).round(3)
    table = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=rows, freq="1h"),
                          "paid": pd.Series(paid).astype(str).str.replace(".", ","),
                          "z": RANDOM.choice(["a", "b"], rows), "what": what})  # fmt: skip
    assert "paid" not in {field.name for field in written(table, tmp_path / "t.csv").table.fields}


def test_columns_around_zero_have_no_other_sign_or_unit(tmp_path, checkout):
    """Standardised columns: with the other sign, or divided by ten, they look much the same."""
    rows = 4000
    table = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=rows, freq="25min"),
                          "x": RANDOM.normal(size=rows).round(3),
                          "z": RANDOM.normal(size=rows).round(3),
                          "what": RANDOM.choice(["yes", "no"], rows)})  # fmt: skip
    problem = runpy.run_path(str(write(written(table, tmp_path / "t.csv"), checkout).problem))[
        "PROBLEM"
    ]
    partitions = Partitions(tmp_path / "raw")
    for name in problem.periods()[:-1]:
        ingest(problem, partitions, Period.parse(name), problem.read(Period.parse(name)))
    assert len(partitions.periods()) == len(problem.periods()) - 1


def test_a_day_in_one_number_is_named_with_the_way_to_read_it(tmp_path):
    rows = 2000
    days = pd.date_range("2024-01-01", periods=rows, freq="3h").strftime("%Y%m%d")
    table = pd.DataFrame({"day": days, "x": RANDOM.normal(size=rows),
                          "what": RANDOM.choice(["yes", "no"], rows)})  # fmt: skip
    with pytest.raises(EvergreenError, match="--time 'day' --time-format '%Y%m%d'"):
        written(table, tmp_path / "t.csv")
    assert written(table, tmp_path / "t.csv", time="day", time_format="%Y%m%d")


def test_years_are_too_coarse_a_time_and_it_is_said(tmp_path):
    random = np.random.default_rng(6)
    table = pd.DataFrame({"year": random.integers(2003, 2010, 900), "age": random.normal(size=900)})
    table["wage"] = table["age"] + random.normal(size=900)
    table.to_csv(tmp_path / "wage.csv", index=False)
    with pytest.raises(EvergreenError, match=r"307 without rows.* say --order"):
        draft("wage", Asked(str(tmp_path / "wage.csv"), "wage", time="year"))


def test_a_number_is_compared_by_its_size_on_rows_enough(tmp_path):
    """A ranking says nothing of how much; and a field that was kept may be all that is known."""
    random, rows = np.random.default_rng(6), 4000
    when = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(rows) * 65, unit="min")
    table = pd.DataFrame({"at": when, "km": random.gamma(2, 1, rows)})
    table["claims"] = random.poisson(table["km"] * 20)
    table.to_csv(tmp_path / "claims.csv", index=False)
    found = parameters(draft("claims", Asked(str(tmp_path / "claims.csv"), "claims", keep=("km",))))
    assert found["rolling.metric"] == "log_loss"
    assert found["rolling.selection_periods"] >= 10  # of about 155 rows
    assert found["gates.permutation_bound"] > 0.5
