"""What a drafted problem declares: its fields, what the model sees of them, and its slices."""

from collections.abc import Mapping, Sequence

from data import cells
from data.described import MANY, Described, rounded
from data.errors import EvergreenError
from data.features import CalendarPart, Category, Feature, HistoricalRate, Numeric, Part
from data.fields import Field
from data.outcomes import Outcome
from data.roles import Asked
from data.tables import Table
from data.timing import SLICE_ROWS, Timing

SLICES = 3
ARRIVAL = "arrival"


def names_of(asked: Asked, columns: Sequence[str]) -> dict[str, str]:
    """Column -> name of its field."""
    names: dict[str, str] = {}
    made = [ARRIVAL] if asked.order else []
    for column in columns:
        names[column] = cells.slug(column, [*made, *names.values()])
    return names


def fields_of(
    asked: Asked,
    described: Mapping[str, Described],
    names: Mapping[str, str],
    left: Mapping[str, str],
) -> tuple[Field, ...]:
    first = (
        Field(ARRIVAL, "timestamp", "made from the order of the rows")
        if asked.order
        else Field(names[asked.time or ""], "timestamp", f"{asked.time}: the event")
    )
    rest = [_field(names[c], d, c) for c, d in described.items() if c in names and c != asked.time]
    if not rest:
        reasons = "; ".join(f"{c!r}: {why}" for c, why in left.items())
        raise EvergreenError(
            f"no column of {asked.path} is left to predict from ({reasons}): `--keep COLUMN` takes "
            "one in spite of that"
        )
    return (first, *rest)


def _field(name: str, d: Described, column: str) -> Field:
    """With room in its range: once more the whole span on either side, but no change of sign."""
    nullable = d.missing > 0
    column = f"{column}, in {d.unit}" if d.unit else column
    if d.kind == "text":
        values = tuple(sorted(d.words)) if d.closed else None
        return Field(name, "text", column, nullable=nullable, values=values)
    kind = "number" if d.kind == "timestamp" else d.kind
    if d.minimum is None or d.maximum is None:
        return Field(name, kind, column, nullable=nullable)
    span = max(d.maximum - d.minimum, abs(d.maximum) / 10)
    low = 0.0 if d.minimum >= 0 else rounded(d.minimum - span, up=False)
    high = 0.0 if d.maximum <= 0 < -d.minimum else rounded(d.maximum + span, up=True)
    if low == 0 and high > 1 >= d.maximum and d.kind == "number":
        high = 1.0
    return Field(name, kind, column, nullable=nullable, minimum=low, maximum=high)


def features_of(
    table: Table,
    fields: tuple[Field, ...],
    described: Mapping[str, Described],
    told: Outcome,
    when: Timing,
) -> tuple[Feature, ...]:
    """Numbers as they are, categories, those of many values by their past rate, parts of time."""
    features: list[Feature] = []
    parts: dict[Part, str] = {"hour": "hour", "weekday": "weekday"}
    for part, word in parts.items():
        if part in when.parts:
            taken = [field.name for field in fields]
            features.append(
                CalendarPart(cells.slug(f"{table.time}_{word}", taken), table.time, part)
            )
    for field in fields[1:]:
        if field.kind != "text":
            features.append(Numeric(field.name, field.name))
        elif (
            described[table.columns.get(field.name, field.name)].distinct <= MANY
            or told.task.classes
        ):
            features.append(Category(field.name, field.name))
        else:
            features.append(HistoricalRate(field.name, field.name))
    return tuple(features)


def slices_of(
    fields: tuple[Field, ...],
    features: tuple[Feature, ...],
    described: Mapping[str, Described],
    table: Table,
    when: Timing,
) -> tuple[str, ...]:
    """Texts of few values and the day of the week, where there are rows to judge each value by."""
    most = min(when.usual * len(when.learned) // SLICE_ROWS, MANY)
    few = [
        (described[table.columns.get(f.name, f.name)].distinct, f.name)
        for f in fields
        if f.kind == "text"
    ]
    texts = [name for distinct, name in sorted(few) if 2 <= distinct <= most]
    parts = [f.name for f in features if isinstance(f, CalendarPart) and f.part == "weekday"]
    return (*texts[: SLICES - 1], *(parts if most >= 7 else ()))
