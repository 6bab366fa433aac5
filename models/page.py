"""One text in two forms: Markdown for a terminal, and one HTML page that needs no other file."""

from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

MARKDOWN, HTML = "card.md", "card.html"


@dataclass(frozen=True)
class Table:
    """Text in rows; `bars` (0 to 1, one for each row) is drawn behind the first column in HTML."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[float, ...] = ()


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, and perhaps a table."""

    title: str
    paragraphs: tuple[str, ...]
    table: Table | None = None


@dataclass(frozen=True)
class Card:
    """A model card; `summary` is what the registry shows beside the version."""

    title: str
    summary: str
    sections: tuple[Section, ...]


def write(card: Card, folder: Path) -> None:
    """Leave both forms in a folder."""
    (folder / MARKDOWN).write_text(to_markdown(card))
    (folder / HTML).write_text(to_html(card))


def to_markdown(card: Card) -> str:
    parts = [f"# {card.title}", card.summary]
    for section in card.sections:
        parts += [f"## {section.title}", *section.paragraphs]
        if section.table:
            parts.append(_markdown_table(section.table))
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    rule = ("---",) * len(table.head)
    lines = [table.head, rule, *table.rows]
    return "\n".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |" for line in lines)


def to_html(card: Card) -> str:
    """One page with its style inside; every text is escaped."""
    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return pages.get_template("card.html.j2").render(asdict(card))
