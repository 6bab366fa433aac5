"""Two columns that stand in each other's place, by what the reference has in each."""

from collections.abc import Iterator
from itertools import combinations

from data.batches import Batch, Finding
from data.problem import RowRule
from data.profiles import ColumnProfile, Usual
from data.unusual import SHARE_FLOOR, STRANGE, explained, null_shares, strange

CROSSED = 0.95  # share of rows that keep a rule once two columns are exchanged


def swapped(batch: Batch) -> Finding | None:
    """Two columns that are each like the other in the reference, and not like themselves."""
    said = [f"{a!r} and {b!r}" for a, b in sorted(set(_crossed_pairs(batch)))]
    return Finding("swapped columns", f"{', '.join(said)} look swapped") if said else None


def _crossed_pairs(batch: Batch) -> Iterator[tuple[str, str]]:
    names, found = batch.usual, set[str]()
    far = {name: names[name].away(batch.profile.columns[name]) for name in names}
    odd = {name: _stranger(names[name], batch.profile.columns[name]) for name in names}
    for a, b in combinations(names, 2):
        lies = far[a] + far[b] > batch.contract.tolerance and _lie_crossed(batch, a, b)
        takes = odd[a] and odd[b] and _take_crossed(batch, a, b)
        if lies or takes or _missing_crossed(batch, a, b):
            found |= {a, b}
            yield a, b
    for rule in batch.problem.row_rules:
        if len(rule.columns) == 2 and not found & set(rule.columns) and _holds_crossed(batch, rule):
            yield rule.columns[0], rule.columns[1]


def _stranger(usual: Usual, column: ColumnProfile) -> bool:
    """Whether far more rows than in the reference's own periods have a value of their own."""
    return strange(usual, column) > STRANGE + 1 - min(usual.shares)


def _holds_crossed(batch: Batch, rule: RowRule) -> bool:
    """Whether many rows break a rule, and nearly all keep it once its columns are exchanged."""
    rows, (a, b) = batch.rows, rule.columns
    broken = batch.sifted.broken
    if (broken["rule"] == rule.name).sum() <= batch.contract.quarantine_share * len(rows):
        return False
    crossed = rows.assign(**{a: rows[b], b: rows[a]})
    return bool(rule.holds(crossed).mean() > CROSSED)


def _lie_crossed(batch: Batch, a: str, b: str) -> bool:
    """Where they lie: each far from itself and near the other.

    Of numbers with few values a row decides where a quantile lies: their shares must differ, too.
    """
    tolerance, columns = batch.contract.tolerance, batch.profile.columns
    usual = batch.usual
    ways = [Usual.away] + [Usual.shifted] * (usual[a].counted and usual[b].counted)
    for away in ways:
        own = away(usual[a], columns[a]) + away(usual[b], columns[b])
        crossed = (away(usual[a], columns[b]), away(usual[b], columns[a]))
        if max(crossed) > tolerance or own <= tolerance * max(sum(crossed), 1):
            return False
    return True


def _take_crossed(batch: Batch, a: str, b: str) -> bool:
    """Which values they take: the strange ones of each are those of the other."""
    columns = batch.profile.columns
    return all(
        explained(batch.usual[other], columns[name].only(~batch.usual[name].knows(columns[name])))
        for name, other in ((a, b), (b, a))
    )


def _missing_crossed(batch: Batch, a: str, b: str) -> bool:
    """How often they are missing: neither as usual, and both as the other one usually is."""

    def usual(name: str, share: float) -> bool:
        shares = null_shares(batch, name)
        room = batch.contract.tolerance * max(max(shares) - min(shares), SHARE_FLOOR)
        return min(shares) - room <= share <= max(shares) + room

    parts = {name: batch.profile.columns[name].nulls / batch.profile.rows for name in (a, b)}
    return not (usual(a, parts[a]) or usual(b, parts[b])) and (
        usual(a, parts[b]) and usual(b, parts[a])
    )
