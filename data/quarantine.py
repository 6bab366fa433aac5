"""Quarantine: the place of rows and batches that broke a rule; nothing in it is ever deleted.

For each period there is `rows.parquet`, one line for each quarantined row with its whole content as
delivered (JSON), the rules that it breaks, where it came from, its label if that is known (and, as
JSON, those that it corrects), and its state: waiting, released or dropped. A batch that was refused
whole is kept beside it, as `refused-<sha256>.parquet`, with the reason in a `.json` of that name.
"""

import io
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from data.contracts import KEY, Sifted
from data.digests import canonical_json, write_atomically
from data.errors import EvergreenError
from data.periods import Period

WAITING, RELEASED, DROPPED = "waiting", "released", "dropped"
TABLE = "rows.parquet"
CAUSE = 80  # letters
COLUMNS = (
    "id", KEY, "rule", "column", "content", "label", "excluded", "period", "source", "batch",
    "row", "state", "why", "turn", "labelled_at", "labels_before",
)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """Where rows came from: the source's or file's name, and the sha256 of the whole batch."""

    source: str
    batch: str


@dataclass(frozen=True)
class RefusedBatch:
    """A batch that was refused whole, and why."""

    period: str
    source: str
    batch: str
    rows: int
    reason: str
    state: str = WAITING
    why: str = ""

    @property
    def cause(self) -> str:
        """The reason in a few words."""
        text = self.reason.split(" is refused: ")[-1]
        return text if len(text) <= CAUSE else f"{text[:CAUSE]}…"


def batch_digest(batch: pd.DataFrame) -> str:
    """sha256 of a batch's content, whatever file it came in."""
    return sha256(batch.to_csv(index=False).encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Quarantine:
    """The folder of quarantined rows and refused batches."""

    folder: Path

    def periods(self) -> list[Period]:
        """Every period of which something was ever quarantined, in order."""
        if not self.folder.is_dir():
            return []
        return sorted(Period.parse(path.name) for path in self.folder.iterdir() if path.is_dir())

    def lock(self) -> AbstractContextManager[Any]:
        """Held while rows are added or change state; one writer at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock", timeout=60)

    def rows(self, period: Period, state: str | None = None) -> pd.DataFrame:
        """The quarantined rows of a period, in one state or in any; released ones in order."""
        path = self.folder / period.name / TABLE
        if not path.exists():
            return pd.DataFrame({name: pd.Series(dtype=object) for name in COLUMNS})
        try:
            found = pd.read_parquet(path).reindex(columns=list(COLUMNS))
        except (OSError, ValueError) as error:
            raise EvergreenError(f"{path} cannot be read ({error}): restore it") from error
        if state is None:
            return found
        found = found[found["state"] == state]
        return found.sort_values("turn", kind="stable") if state == RELEASED else found

    def refused(self, period: Period) -> list[RefusedBatch]:
        """The batches of a period that were refused whole."""
        paths = sorted((self.folder / period.name).glob("refused-*.json"))
        return [RefusedBatch(**json.loads(path.read_text())) for path in paths]

    def batch(self, period: Period, digest: str) -> tuple[RefusedBatch, pd.DataFrame]:
        """A refused batch by the beginning of its sha256, as it was delivered.

        Raises:
            EvergreenError: if there is not exactly one.
        """
        found = [kept for kept in self.refused(period) if kept.batch.startswith(digest)]
        if len(found) != 1:
            raise EvergreenError(
                f"{len(found)} refused batches of {period} begin with {digest!r}: `evergreen "
                f"quarantine show {period}` lists them"
            )
        path = self.folder / period.name / f"refused-{found[0].batch[:16]}.parquet"
        return found[0], pd.read_parquet(path)

    def settle(self, kept: RefusedBatch, state: str, why: str) -> None:
        """Mark a refused batch as released or dropped, with the reason."""
        path = self.folder / kept.period / f"refused-{kept.batch[:16]}.json"
        with self.lock():
            settled = replace(kept, state=state, why=why)
            write_atomically(path, canonical_json(asdict(settled)))

    def add(self, period: Period, lines: pd.DataFrame) -> int:
        """Add rows that are not there yet; how many are new."""
        with self.lock():
            known = self.rows(period)
            new = lines[~lines["id"].isin(known["id"])]
            if len(new):
                self.write(period, pd.concat([known, new]) if len(known) else new)
        return len(new)

    def refuse(self, period: Period, batch: pd.DataFrame, origin: Origin, reason: str) -> None:
        """Keep a whole batch with the reason why it was refused."""
        path = self.folder / period.name / f"refused-{origin.batch[:16]}.parquet"
        with self.lock():
            if path.with_suffix(".json").exists():
                return
            write_atomically(path, _as_delivered(batch.set_axis(_names(batch), axis=1)))
            kept = RefusedBatch(period.name, origin.source, origin.batch, len(batch), reason)
            write_atomically(path.with_suffix(".json"), canonical_json(asdict(kept)))

    def release(self, period: Period, contents: dict[str, str], keys: dict[str, str]) -> None:
        """Mark rows (by id) as released, with the content and the key that joined the partition."""
        with self.lock():
            rows = self.rows(period)
            turn = int(rows["turn"].fillna(0).max())
            for id_, content in contents.items():
                turn += 1
                mine = rows["id"] == id_
                rows.loc[mine, "content"], rows.loc[mine, KEY] = content, keys[id_]
                rows.loc[mine, "state"], rows.loc[mine, "turn"] = RELEASED, turn
            self.write(period, rows)

    def drop(self, period: Period, key: str | None, reason: str) -> int:
        """Mark waiting rows as dropped, with the reason; how many.

        Raises:
            EvergreenError: if none waits, or no reason is given.
        """
        if not reason.strip():
            raise EvergreenError("say why the rows are dropped: --reason WHY")
        with self.lock():
            rows, chosen = self.rows(period), self.waiting(period, key)
            mine = rows["id"].isin(chosen["id"])
            rows.loc[mine, "state"], rows.loc[mine, "why"] = DROPPED, reason
            self.write(period, rows)
        return len(chosen)

    def waiting(self, period: Period, key: str | None = None) -> pd.DataFrame:
        """The waiting rows of a period, or the one with that key or id.

        Raises:
            EvergreenError: if there is none.
        """
        rows = self.rows(period, WAITING)
        if key is not None:
            rows = rows[(rows[KEY] == key) | (rows["id"] == key)]
        if rows.empty:
            what = f"row {key!r}" if key is not None else "row"
            raise EvergreenError(
                f"no {what} of {period} waits in quarantine: `evergreen quarantine show {period}` "
                "shows what does"
            )
        return rows

    def write(self, period: Period, rows: pd.DataFrame) -> None:
        """Replace a period's table; call it under `lock`, and lose no line."""
        types = dict.fromkeys(COLUMNS, "str") | {
            "label": "float64", "row": "int64", "turn": "Int64"
        }  # fmt: skip
        write_atomically(self.folder / period.name / TABLE, _parquet(rows.astype(types)))


def lines(
    period: Period, prepared: pd.DataFrame, found: Sifted, outcomes: pd.DataFrame | None,
    origin: Origin,
) -> pd.DataFrame:  # fmt: skip
    """Every row that breaks a rule as a line of the table.

    Args:
        prepared: the batch's rows as delivered, `found.broken` says which of them.
        outcomes: their labels, if the batch has any.
    """
    chosen = prepared[KEY].iloc[sorted(set(found.broken["row"]))]
    told = {}
    if outcomes is not None and len(chosen):
        mine = outcomes[outcomes[KEY].isin(chosen)].drop_duplicates(KEY)
        told = mine.set_index(KEY).to_dict("index")
    made: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for row, broken in found.broken.groupby("row"):
        content = to_json(prepared.iloc[int(str(row))])
        seen[content] = seen.get(content, 0) + 1
        key = _text(prepared.iloc[int(str(row))][KEY])
        known = told.get(key, {})
        made.append(
            {
                "id": sha256(f"{seen[content]} {content}".encode()).hexdigest()[:16],
                KEY: key,
                "rule": "; ".join(broken["rule"]),
                "column": "; ".join(broken["column"]),
                "content": content,
                "label": known.get("label"),
                "excluded": known.get("excluded"),
                "labelled_at": _text(known.get("labelled_at")),
                "period": period.name,
                "source": origin.source,
                "batch": origin.batch,
                "row": row,
                "state": WAITING,
            }
        )
    return pd.DataFrame(made, columns=list(COLUMNS))


def to_json(row: pd.Series) -> str:
    """A row as delivered: numbers and text as they are, moments and anything else as text."""
    return json.dumps({str(name): _plain(cell) for name, cell in row.items()}, ensure_ascii=False)


def from_json(contents: Sequence[str]) -> pd.DataFrame:
    """Rows that `to_json` wrote, in columns of mixed cells."""
    return pd.DataFrame([json.loads(content) for content in contents], dtype=object)


def _plain(cell: Any) -> Any:
    if _is_missing(cell):
        return None
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, float) and not np.isfinite(cell):
        return str(cell)
    return cell if isinstance(cell, str | bool | int | float) else _text(cell)


def _text(cell: Any) -> str | None:
    if _is_missing(cell):
        return None
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)


def _is_missing(cell: Any) -> bool:
    return cell is None or (pd.api.types.is_scalar(cell) and bool(pd.isna(cell)))


def _names(batch: pd.DataFrame) -> list[str]:
    """Column names as text, told apart where two are the same."""
    names = [str(name) for name in batch.columns]
    return [f"{n}.{i}" if names.count(n) > 1 else n for i, n in enumerate(names)]


def _as_delivered(batch: pd.DataFrame) -> bytes:
    """A batch in its own types, or as text where parquet cannot hold them."""
    try:
        return _parquet(batch)
    except (ValueError, TypeError):
        return _parquet(batch.map(_text))


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.reset_index(drop=True).to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()
