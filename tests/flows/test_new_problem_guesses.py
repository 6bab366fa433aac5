"""What a draft takes a column for: a unit, a code, a counter, a moment, a count."""

import runpy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from data.draft import draft
from data.errors import EvergreenError, RefusedError
from data.ingest import ingest
from data.new_problem import write
from data.params import load_params
from data.partitions import Partitions
from data.periods import Period
from data.problem import Problem
from data.roles import Asked
from tests.flows.test_new_problem import checkout, customers

__all__ = ["checkout"]  # a fixture


def sales(rows: int = 1200) -> pd.DataFrame:
    """What an office program exports: two ways to write a day, units, codes, a counter."""
    random = np.random.default_rng(4)
    when = pd.date_range("2023-03-01", periods=rows, freq="3h")
    day = [f"{at:%d.%m.%y}" if i % 3 else f"{at:%d.%m.%Y %H:%M}" for i, at in enumerate(when)]
    size = random.normal(12, 2, rows)
    return pd.DataFrame(
        {
            "": np.arange(rows),
            "Verkauft am": day,
            "Länge": [f"{value:.1f} mm".replace(".", ",") for value in size],
            "shop id": random.integers(100, 900, rows),
            "gut": np.where(size + random.normal(0, 3, rows) > 12, "ja", "nein"),
        }
    )


def test_units_codes_and_counters_are_no_amounts(tmp_path, checkout):
    table = pd.concat([sales(), sales().iloc[[3]]])  # so that the counter does not only rise
    table.to_csv(tmp_path / "sales.csv", index=False, sep=";", encoding="cp1252")
    found = draft("sales", Asked(str(tmp_path / "sales.csv"), "gut"))
    assert found.table.key == ("column 1",)
    assert [field.name for field in found.table.fields] == ["verkauft_am", "lange"]
    assert found.table.fields[1].doc == "Länge, in mm"
    assert "shop id" in found.table.left_out  # words, and few rows of each
    problem: Problem = runpy.run_path(str(write(found, checkout).problem))["PROBLEM"]
    rows = pd.concat([problem.read(Period.parse(name)) for name in problem.periods()])
    assert rows["lange"].tolist() == [
        float(cell.removesuffix(" mm").replace(",", ".")) for cell in sales()["Länge"]
    ]


def test_a_moment_that_is_written_otherwise_is_not_guessed(tmp_path, checkout):
    """The first of March is not the third of January."""
    sales().to_csv(tmp_path / "sales.csv", index=False, sep=";", encoding="cp1252")
    asked = Asked(str(tmp_path / "sales.csv"), "gut", time="Verkauft am", time_format="%d.%m.%y")
    found = draft("sales", asked)
    assert "400 rows have no readable time" in " ".join(found.said)
    assert min(found.timing.counts) == "2023-W09"


def test_a_count_is_a_number_and_marks_are_classes(tmp_path):
    random, table = np.random.default_rng(8), customers(2000)
    table["claims"] = random.poisson(0.6, len(table))
    table["mark"] = random.integers(0, 5, len(table))
    table.to_csv(tmp_path / "t.csv", index=False)
    kinds = {
        name: draft(name, Asked(str(tmp_path / "t.csv"), name)).outcome.task.kind
        for name in ("claims", "mark")
    }
    assert kinds == {"claims": "regression", "mark": "multiclass"}


def test_gaps_are_named_where_they_leave_too_few_rows(tmp_path):
    table = customers(3000, weeks=38)
    at = pd.to_datetime(table["Signed Up (local)"], format="%d/%m/%Y %H:%M")
    table[(at < "2024-03-01") | (at > "2024-09-10")].to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(EvergreenError, match=r"outcome to learn from.* have no rows, the last is"):
        draft("t", Asked(str(tmp_path / "t.csv"), "Churned?", frequency="day"))


def test_no_longer_period_than_a_month_is_proposed(tmp_path):
    table = customers(1000, weeks=100)
    table.to_csv(tmp_path / "t.csv", index=False)
    said = " ".join(draft("t", Asked(str(tmp_path / "t.csv"), "Churned?")).said)
    assert "rows in a month are few" in said
    assert "--order in place of the time" in said
    assert "longer --frequency" not in said


def test_a_mark_of_the_newer_rows_is_no_field(tmp_path):
    """Its words would be unseen in a later period, which is then refused."""
    table = sales().assign(
        used=lambda t: np.where(np.arange(len(t)) < 704, "train", "test"), x=np.arange(1200) % 7
    )
    table.to_csv(tmp_path / "sales.csv", index=False, sep=";", encoding="cp1252")
    asked = Asked(str(tmp_path / "sales.csv"), "gut", exclude=("Länge",))
    assert "used" in draft("sales", asked).table.left_out
    kept = replace(asked, keep=("used",))
    assert "used" not in draft("sales", kept).table.left_out
    in_turn = replace(asked, order=True)
    assert "used" in draft("sales", in_turn).table.left_out
    assert "used" not in draft("sales", replace(in_turn, shuffle=True)).table.left_out


def test_rare_flags_are_not_taken_for_each_other(tmp_path, checkout):
    """A few rows decide where the quantiles of a rare flag lie; a real exchange is still found."""
    random, rows = np.random.default_rng(3), 8000
    flags = {f"flag {i:02d}": random.random(rows) < 0.03 + i / 600 for i in range(40)}
    table = pd.DataFrame({**flags, "some": random.random(rows) < 0.2,
                          "most": random.random(rows) < 0.6}).astype(int)  # fmt: skip
    table["size"] = random.normal(12, 2, rows).round(2)
    table["gut"] = np.where(table["size"] + random.normal(0, 3, rows) > 12, "ja", "nein")
    table.to_csv(tmp_path / "t.csv", index=False)
    files = write(draft("t", Asked(str(tmp_path / "t.csv"), "gut", order=True)), checkout)
    problem, params = runpy.run_path(str(files.problem))["PROBLEM"], load_params(files.params)
    partitions, *weeks = Partitions(tmp_path / "raw"), *map(Period.parse, problem.periods())
    for week in weeks[:-1]:
        ingest(problem, partitions, week, problem.read(week), contract=params.contract)
    last = problem.read(weeks[-1])
    crossed = last.assign(some=last["most"], most=last["some"])
    with pytest.raises(RefusedError, match="'some' and 'most' look swapped"):
        ingest(problem, partitions, weeks[-1], crossed, contract=params.contract)
    ingest(problem, partitions, weeks[-1], last, contract=params.contract)
