"""Batch rules that compare with the reference: its own variation sets the limit."""

import numpy as np

from data.batches import Batch, Finding
from data.contracts import KEY
from data.fields import Field
from data.periods import Period
from data.profiles import ColumnProfile, Usual
from data.units import Conversion, conversions

VOLUME_FLOOR = 0.1  # natural logarithm of a ratio: 10 % more or fewer rows are never unusual
SURE = 3.0  # standard deviations of a count of rows or days
SHARE_FLOOR = 0.05  # of the rows: so much more or less of anything is never unusual
UNSEEN_FLOOR = 0.01
DROPPED = 0.02  # a category with at least this share in every period is expected in the next
VANISHED = 0.4  # of the values that are usually there, so many missing are always a flood
EVIDENCE = 30  # rows
DIFFERENT = 3  # values; a column that is mostly one value has no unit to see
COMMON = 0.3  # share of rows with values that every period has often
STRANGE = 0.2  # share of rows with values that the reference does not have
EXPLAINED = 0.6  # of them that it has once a conversion is undone, as a part of what is usual
ENOUGH = 0.2  # where its own periods share fewer values, values say nothing
TELLING = 0.8  # where its own periods share more values, values that are known are in the unit


def volume(batch: Batch) -> Finding | None:
    """Far more or fewer rows than the reference's periods have, or a day without any."""
    counts = np.log([max(other.rows, 1) for other in batch.reference])
    middle = float(np.median(counts))
    usual, mine = float(np.exp(middle)), batch.profile
    chance = SURE / np.sqrt(usual)
    limit = max(float(np.median(np.abs(counts - middle))) * 3, VOLUME_FLOOR, chance)
    limit *= batch.contract.tolerance
    absent = _absent_days(mine.name, mine.days)
    usually = sorted(_absent_days(other.name, other.days) for other in batch.reference)[-2]
    if abs(np.log(mine.rows) - middle) > limit:
        per_day = usual / max(other.days for other in batch.reference)
        part = np.log(mine.rows / (per_day * max(mine.days, 1)))
        if abs(part) > limit or not batch.edge():
            return Finding("volume", f"{mine.rows} rows, where a period has about {usual:.0f}")
    elif absent > max(usually, _by_chance(mine.name, mine.rows)) and not batch.edge():
        return Finding("volume", f"{absent} days of {mine.name} have no rows, usually {usually}")
    return None


def _absent_days(period: str, days: int) -> int:
    return _days(period) - days


def _by_chance(period: str, rows: int) -> float:
    """So many days may have no row if the rows fall on any day: few rows leave many out."""
    days = _days(period)
    alone = np.exp(-rows / days)  # the chance of a day to be left out
    return float(days * alone + SURE * np.sqrt(days * alone * (1 - alone)))


def _days(period: str) -> int:
    whole = Period.parse(period)
    return (whole.end - whole.start).days


def nulls(batch: Batch) -> Finding | None:
    """Many more missing values than the reference ever has; counted against a usual period."""
    usual = float(np.median([other.rows for other in batch.reference]))
    said = [
        f"{name!r} is missing in {share:.0%} of rows (never otherwise)"
        for name in (KEY, batch.problem.event_time)
        if (share := (batch.rows[name].isna() & ~batch.typed.wrong[name]).mean()) > SHARE_FLOOR
    ]
    for name, column in batch.profile.columns.items():
        missing = column.nulls - int(batch.typed.wrong[name].sum())
        shares = null_shares(batch, name)
        limit = batch.beyond(shares, SHARE_FLOOR)
        # Where many are missing anyway, the known ones are what can vanish.
        vanished = missing == batch.profile.rows and min(shares) < 0.9
        if max(shares) < 0.5:
            limit = min(limit, max(shares) + VANISHED * (1 - max(shares)))
        if missing / max(batch.profile.rows, usual) > limit or vanished:
            part = missing / batch.profile.rows
            said.append(f"{name!r} is missing in {part:.0%} of rows (at most {max(shares):.0%})")
    return Finding("flood of nulls", "; ".join(said)) if said else None


def null_shares(batch: Batch, name: str) -> list[float]:
    return [other.columns[name].nulls / other.rows for other in batch.reference]


def constant(batch: Batch) -> Finding | None:
    """A column that has one value in all rows, or in far more rows than in the reference."""
    said, moments = [], batch.rows[batch.problem.event_time].dropna()
    if len(moments) >= EVIDENCE and moments.nunique() == 1:
        said.append(f"{batch.problem.event_time!r} has one value in all rows, {moments.iloc[0]}")
    for name, column in batch.profile.columns.items():
        tops = [other.columns[name].top for other in batch.reference]
        if column.known < EVIDENCE or max(tops) == 1:
            continue
        stuck = column.top > batch.beyond(tops, SHARE_FLOOR)
        room = max(max(tops) - min(tops), SHARE_FLOOR / 10)  # a week without rain is none
        if stuck or (column.top == 1 and max(tops) < 1 - room):
            value = column.values[column.counts.argmax()]
            said.append(
                f"{name!r} has one value in {column.top:.0%} of rows, {value!s} "
                f"(the most frequent one usually in {np.median(tops):.0%})"
            )
    return Finding("constant column", "; ".join(said)) if said else None


def unseen(batch: Batch) -> Finding | None:
    """Far more rows than usual with a word that the reference does not have."""
    said = []
    for name, usual in batch.usual.items():
        column = batch.profile.columns[name]
        if not column.is_text or not column.known:
            continue
        new = column.only(~usual.knows(column))
        own = [1 - share for share in usual.shares]
        if new.known > batch.beyond(own, UNSEEN_FLOOR) * column.known:
            first = new.values[new.counts.argmax()]
            like = {_plain(value): value for value in usual.seen}.get(_plain(first))
            hint = f": is it {like!r}?" if like else ""
            part = new.known / column.known
            said.append(f"{name!r} has new words in {part:.0%} of rows, such as {first!r}{hint}")
    return Finding("unseen categories", "; ".join(said)) if said else None


def _plain(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter.isalnum())


def dropped(batch: Batch) -> Finding | None:
    """A category that every period of the reference has often is not there at all."""
    said = []
    for name, column in batch.profile.columns.items():
        if not column.is_text or column.known * DROPPED < EVIDENCE:
            continue
        shares = [other.columns[name].shares for other in batch.reference]
        often = [v for v in shares[0] if min(other.get(v, 0.0) for other in shares) >= DROPPED]
        if gone := sorted(set(often) - set(column.values)):
            said.append(f"{name!r} never is {', '.join(map(repr, gone))}")
    return Finding("dropped category", "; ".join(said)) if said else None


def unit(batch: Batch) -> Finding | None:
    """A number that is unlike the reference, and like it once a conversion is undone."""
    said = [
        f"{field.name!r} looks like {conversion}"
        for field in batch.problem.fields
        if (usual := batch.usual.get(field.name)) is not None
        and (conversion := _other_unit(field, usual, batch))
    ]
    return Finding("changed unit", "; ".join(said)) if said else None


def _other_unit(field: Field, usual: Usual, batch: Batch) -> Conversion | None:
    """The conversion that explains best where the column lies, or which values it takes."""
    column, tolerance = batch.profile.columns[field.name], batch.contract.tolerance
    if column.is_text or not column.known:
        return None
    raw, found = usual.away(column), []
    several = column.quantiles is not None and len(set(column.quantiles)) >= DIFFERENT
    if float(np.median(usual.shares)) > TELLING and strange(usual, column) <= STRANGE:
        several = False  # it takes the values that it always takes, however they are spread
    for order, conversion in enumerate(conversions(field.unit)):
        before, named = column.convert(conversion), conversion.named
        near = usual.away(before)
        lies = several and raw > (1 if named else tolerance)
        if (
            (lies and near <= min(raw / tolerance, tolerance))
            or _takes(usual, column, conversion)
            or _expects(usual, column, before)
        ):
            found.append((near, order, conversion))
    return min(found)[2] if found else None


def _takes(usual: Usual, column: ColumnProfile, conversion: Conversion) -> bool:
    """Whether the conversion explains the values that the reference does not have."""
    moved = column.only(conversion.undo(column.values) != column.values)
    new = moved.only(~usual.knows(moved))
    if new.known <= STRANGE * moved.known:
        return False
    return explained(usual, new.convert(conversion)) and not _alike(usual, conversion)


def _alike(usual: Usual, conversion: Conversion) -> bool:
    """Whether the reference's own values, converted, are known to it half as surely.

    So are those of a column that lies around 0 with another sign: values tell nothing then.
    """
    shares = []
    for column in usual.columns:
        moved = column.only(conversion.undo(column.values) != column.values).convert(conversion)
        shares.append(_known(usual, moved))
    return float(np.median(shares)) >= EXPLAINED / 2 * float(np.median(usual.shares))


def _expects(usual: Usual, column: ColumnProfile, before: ColumnProfile) -> bool:
    """Whether the values that every period has often are gone, and there without the conversion."""
    if usual.least < COMMON or usual.commonly(column) > usual.least / 5:
        return False
    return usual.commonly(before) > usual.least * 0.8


def explained(usual: Usual, new: ColumnProfile) -> bool:
    """Whether these values are as well known to the reference as its own periods' are."""
    if new.known < EVIDENCE or len(new.values) < DIFFERENT:
        return False
    return _known(usual, new) >= EXPLAINED * float(np.median(usual.shares)) > ENOUGH


def _known(usual: Usual, column: ColumnProfile) -> float:
    """Share of rows with a value that the reference has, too; 0 if these are few of its values.

    Numbers that a conversion makes tiny are all the same one.
    """
    places = usual.places(column)
    known = column.only(places >= 0)
    if len(set(places[places >= 0])) < max(DIFFERENT, len(known.values) / 2):
        return 0.0
    return known.known / column.known


def strange(usual: Usual, column: ColumnProfile) -> float:
    """Share of rows with a value that the reference does not have; 0 of too few rows."""
    new = column.only(~usual.knows(column))
    return new.known / column.known if new.known >= EVIDENCE else 0.0
