"""Labels of quarantined rows wait with them, corrections included, until the row is released."""

import json
from typing import Any

import pandas as pd

from data import labels
from data.contracts import KEY
from data.labels import COLUMNS, LABELLED_AT, OUTCOME, labelled
from data.periods import Period
from data.problem import Problem
from data.quarantine import Quarantine

TYPES = {KEY: "str", "label": "float64", "excluded": "str", LABELLED_AT: "datetime64[us]"}


def history(lines: pd.DataFrame) -> pd.DataFrame:
    """Every label told of these quarantined rows, oldest first.

    `labelled_at` is missing where the label's delay counts from an event that may be out of order.
    """
    told = [
        (line[KEY], *told)
        for line in lines[lines[KEY].notna()].to_dict("records")
        for told in _told(line)
    ]
    found = pd.DataFrame(told, columns=COLUMNS).drop_duplicates()
    return found.astype(TYPES).reset_index(drop=True)


def addition(
    lines: pd.DataFrame, delivered: pd.DataFrame, *, dated: bool, what: str
) -> labels.Addition:
    """What of a delivery is new to these quarantined rows; see `data.labels.addition`."""
    typed = delivered.reindex(columns=COLUMNS).astype(TYPES)
    return labels.addition(history(lines), typed, dated=dated, what=what)


def appends(
    problem: Problem, rows: pd.DataFrame, lines: pd.DataFrame, what: str
) -> list[pd.DataFrame]:
    """The labels of released lines as labels partitions: the first ones, then their corrections.

    None counts as known before its event.
    """
    found = history(lines)
    event = found[KEY].map(rows.set_index(KEY)[problem.event_time])
    moment = found[LABELLED_AT].fillna(event + problem.label_delay)
    found[LABELLED_AT] = moment.where(moment >= event, event)
    # What was due only after its correction came was never known.
    kept = found.groupby(KEY)[LABELLED_AT].transform(
        lambda told: ~(told >= told[::-1].cummin()[::-1].shift(-1))
    )
    found = found[kept.astype(bool)]
    rounds = found.groupby(found.groupby(KEY).cumcount())
    return [labelled(problem, rows, told, what) for _, told in rounds]


def add(quarantine: Quarantine, period: Period, new: pd.DataFrame) -> None:
    """Keep further labels with the rows that they belong to; `new` has one line for each key."""
    if new.empty:
        return
    told = new.set_index(KEY).to_dict("index")
    with quarantine.lock():
        rows = quarantine.rows(period).astype(dict.fromkeys((*OUTCOME, LABELLED_AT), object))
        rows["labels_before"] = rows["labels_before"].astype(object)
        mine = rows[KEY].isin(told)
        for index, line in zip(rows.index[mine], rows[mine].to_dict("records"), strict=True):
            label = told[line[KEY]]
            rows.loc[index, "labels_before"] = json.dumps(_told(line)) if _told(line) else None
            for name in OUTCOME:
                rows.loc[index, name] = _plain(label[name])
            rows.loc[index, LABELLED_AT] = _plain(label.get(LABELLED_AT))
        quarantine.write(period, rows)


def _told(line: dict[Any, Any]) -> list[list[Any]]:
    """label, excluded and labelled_at (ISO text) of each label of a line, oldest first."""
    before = _plain(line["labels_before"])
    newest = [_plain(line[name]) for name in (*OUTCOME, LABELLED_AT)]
    known = newest[0] is not None or newest[1] is not None
    return [*(json.loads(before) if before else []), *([newest] if known else [])]


def _plain(cell: Any) -> Any:
    if cell is None or pd.isna(cell):
        return None
    return cell.isoformat() if hasattr(cell, "isoformat") else cell
