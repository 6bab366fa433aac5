"""A draft as the problem's file: Python that a person reads and edits."""

import json
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from data.cells import ISO
from data.draft import Draft
from data.features import CalendarPart, Feature
from data.fields import Field
from data.table_files import Form
from data.tables import OUTCOME

WIDTH = 96


def to_python(draft: Draft) -> str:
    """The text of the file."""
    task, form = draft.outcome.task, _form(draft)
    used = sorted({"Feature", *(type(feature).__name__ for feature in draft.features)})
    of_task = {"regression": "REGRESSION", "multiclass": "multiclass"}.get(task.kind)
    classes = _packed("CLASSES = (", map(_literal, task.classes), ")") if task.classes else []
    said = (
        f"Drafted by `evergreen new-problem` from {Path(draft.table.path).name}, to be edited by "
        f"hand: nothing else knows the table. It is a {task.kind} problem because of "
        f"{draft.table.target!r}: {draft.outcome.reason}."
    )
    lines = [
        f'"""{_safe(_title(draft))}',
        "",
        *textwrap.wrap(_safe(said), WIDTH, break_long_words=False),
        '"""',
        "# fmt: off",
        "",
        "from datetime import timedelta",
        "",
        f"from data.features import {', '.join(used)}",
        "from data.fields import Field",
        "from data.problem import Problem",
        *(["from data.table_files import Form"] if form else []),
        "from data.tables import Table",
        *([f"from data.task import {of_task}"] if of_task else []),
        "",
        *classes,
        "FIELDS = (",
        *(line for field in draft.table.fields for line in _field(field)),
        ")",
        "FEATURES: tuple[Feature, ...] = (",
        *_features(draft.features),
        ")",
        "",
        *_table(draft, form),
        "",
        *_problem(draft, of_task),
        "",
    ]
    return "\n".join(lines)


def _title(draft: Draft) -> str:
    what = draft.table.target
    if draft.outcome.task.kind == "binary":
        return f"Will {what!r} be {draft.outcome.positive!r}?"
    kind = "Which class" if draft.outcome.task.classes else "How much"
    return f"{kind} will {what!r} be?"


def _form(draft: Draft) -> str:
    """How the file is written, where that is not how most are."""
    form, plain = asdict(draft.table.form), asdict(Form())
    other = [f"{name}={_literal(value)}" for name, value in form.items() if value != plain[name]]
    return f"Form({', '.join(other)})" if other else ""


def _safe(text: str) -> str:
    """Text from a table as a part of a docstring or a comment."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain.replace("\\", "/").replace('"', "'")


def _literal(value: Any) -> str:
    """A value as Python has it, texts in double quotes."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, str):
        return json.dumps(value) if value.isprintable() and value.isascii() else repr(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def _packed(start: str, items: Iterable[str], end: str, indent: str = "") -> list[str]:
    """`start`, the items, and `end` in lines that are not too long."""
    lines, items = [f"{indent}{start}"], list(items)
    for item in items:
        joined = f"{lines[-1]}{'' if lines[-1].endswith(('(', '{')) else ' '}{item},"
        if len(joined) + len(end) < WIDTH:
            lines[-1] = joined
        else:
            lines.append(f"{indent}    {item},")
    last = lines[-1] if len(items) == 1 else lines[-1].removesuffix(",")
    return [*lines[:-1], f"{last}{end}"]


def _field(field: Field) -> list[str]:
    said = [_literal(field.name), _literal(field.kind), _literal(field.doc)]
    said += ["nullable=True"] if field.nullable else []
    for name in ("minimum", "maximum", "values"):
        if (value := getattr(field, name)) is not None:
            said.append(f"{name}={_literal(value)}")
    return _packed("Field(", said, "),", "    ")


def _features(features: tuple[Feature, ...]) -> list[str]:
    """Numbers and words by their field's name, each kind together."""
    lines = [
        f"    CalendarPart({_literal(f.name)}, {_literal(f.column)}, {_literal(f.part)}),"
        for f in features
        if isinstance(f, CalendarPart)
    ]
    for kind in ("Numeric", "Category", "HistoricalRate"):
        if names := [_literal(f.name) for f in features if type(f).__name__ == kind]:
            lines += _packed(f"*({kind}(name, name) for name in (", names, ")),", "    ")
    return lines


def _table(draft: Draft, form: str) -> list[str]:
    table, classes = draft.table, draft.outcome.task.classes
    columns = _pairs(table.columns)
    lines = [
        "TABLE = Table(",
        f"    path={_literal(table.path)},",
        "    fields=FIELDS,",
        f"    time={_literal(table.time)},",
        f"    target={_literal(table.target)},",
        f"    frequency={_literal(table.frequency)},",
        *([f"    key={_literal(table.key)},"] if table.key else []),
        *(_packed("columns={", columns, "},", "    ") if columns else []),
    ]
    if classes and set(table.labels) == set(classes):
        lines.append("    labels={name: name for name in CLASSES},")
    elif table.labels:
        lines += _packed("labels={", _pairs(table.labels), "},", "    ")
    if table.formats != (ISO,):
        lines.append(f"    formats={_literal(table.formats)},")
    lines += _packed("units={", _pairs(table.units), "},", "    ") if table.units else []
    lines += [f"    form={form},"] if form else []
    lines += [f"    rows_per_period={table.rows_per_period},"] if table.rows_per_period else []
    lines += [f"    shuffled={table.shuffled},"] if table.shuffled else []
    return [*lines, *_left_out(draft), ")"]


def _pairs(value: Mapping[str, Any]) -> list[str]:
    return [f"{_literal(key)}: {_literal(each)}" for key, each in value.items()]


def _left_out(draft: Draft) -> list[str]:
    """Columns that are no field, each with its reason."""
    reasons = {each.described.column: each.use.removeprefix("left out: ") for each in draft.found}
    lines = [
        f"        {_literal(column)},  # {_safe(reasons[column])}"
        for column in draft.table.left_out
    ]
    return ["    left_out=(", *lines, "    ),"] if lines else []


def _problem(draft: Draft, of_task: str | None) -> list[str]:
    table, hours = draft.table, draft.asked.delay / timedelta(hours=1)
    task = "multiclass(CLASSES)" if of_task == "multiclass" else of_task
    delay = f"days={hours / 24:.0f}" if hours % 24 == 0 else f"hours={hours:g}"
    what = f"What becomes of {table.target} in {Path(table.path).name}?"
    return [
        "PROBLEM = Problem(",
        f"    name={_literal(draft.name)},",
        f"    frequency={_literal(table.frequency)},",
        f"    event_time={_literal(table.time)},",
        "    fields=FIELDS,",
        "    features=FEATURES,",
        f"    target={_literal(draft.target)},",
        *([f"    task={task},"] if task else []),
        f"    label_delay=timedelta({delay}),",
        f"    slices={_literal(draft.slices)},",
        "    periods=TABLE.periods,",
        "    read=TABLE.read,",
        "    read_file=TABLE.read_file,",
        "    prepare=TABLE.prepare,",
        "    outcomes=TABLE.outcomes,",
        f"    source_outcomes=({_literal(OUTCOME)},),",
        f"    description={_literal(what)},",
        '    intended_use="",',
        "    limits=(),",
        ")",
    ]
