"""What the ledger's lines come to: who is champion, what served, what a person said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from data.errors import EvergreenError
from models.ledger import Entry, Kind

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"  # aliases
GATE, PASSED = "gate.", "passed:"
# Gates that nobody can answer for, see `models.verdict.waived`.
NEVER_WAIVED = frozenset(
    {"schema", "finite", "windows", "banned_columns", "fitted_state", "serving_parity", "golden"}
    | {"git_clean"}
)


@dataclass(frozen=True)
class Waiver:
    """A person answers for one failed gate of one version, up to the end of a day (UTC)."""

    gate: str
    version: str
    digest: str
    by: str
    reason: str
    expires: date

    @classmethod
    def of(cls, entry: Entry) -> "Waiver":
        said = entry.detail
        expires = date.fromisoformat(said["expires"])
        return cls(said["gate"], entry.version, entry.digest, entry.by, entry.reason, expires)

    def holds(self, at: datetime) -> bool:
        end = datetime(self.expires.year, self.expires.month, self.expires.day, tzinfo=UTC)
        return at < end + timedelta(days=1)


@dataclass(frozen=True)
class Served:
    """A version that took the traffic."""

    version: str
    digest: str


def holders(entries: Sequence[Entry]) -> tuple[str | None, str | None]:
    """Who is champion and who was before it, as the last promotion or rollback has it."""
    for entry in reversed(entries):
        if entry.kind in (Kind.PROMOTED, Kind.ROLLED_BACK):
            return entry.version, entry.expected
    return None, None


def served(entries: Sequence[Entry]) -> list[Served]:
    """What one rollback after the other goes back through; the last is what should serve now.

    A release goes on top; a rollback takes off everything above the version that it went back to,
    so that the next one goes further back and not forth again.
    """
    stack: list[Served] = []
    for entry in entries:
        this = Served(entry.version, entry.digest)
        if entry.kind is Kind.RELEASED and stack[-1:] != [this]:
            stack.append(this)
        elif entry.kind is Kind.ROLLED_BACK and this in stack:
            last = len(stack) - stack[::-1].index(this)
            stack = stack[:last]
    return stack


def rollback_target(entries: Sequence[Entry]) -> Served:
    """The version that really served before the champion.

    A champion that was promoted but never took the traffic was not served: its predecessor is what
    serves still.

    Raises:
        EvergreenError: if no version served before.
    """
    stack, (champion, _) = served(entries), holders(entries)
    if stack and stack[-1].version == champion:
        stack = stack[:-1]
    if not stack:
        raise EvergreenError(
            "there is nothing to roll back to: no version served before the champion; "
            "`evergreen release VERSION` releases one by its number"
        )
    return stack[-1]


def taken_back(entries: Sequence[Entry], version: str) -> Entry | None:
    """The rollback that took a version back, unless it was promoted again since."""
    for entry in reversed(entries):
        if entry.kind is Kind.ROLLED_BACK and entry.expected == version:
            return entry
        if entry.kind in (Kind.PROMOTED, Kind.ROLLED_BACK) and entry.version == version:
            return None
    return None


def aborted(entries: Sequence[Entry], version: str) -> Entry | None:
    """Why a version's last release was ended, unless it was promoted since."""
    for entry in reversed(entries):
        if entry.version == version and entry.kind is Kind.ABORTED:
            return entry
        if entry.version == version and entry.kind in (Kind.PROMOTED, Kind.ROLLED_BACK):
            return None
    return None


def waivers(entries: Sequence[Entry], digest: str) -> list[Waiver]:
    """All waivers for a digest, expired ones too."""
    return [Waiver.of(e) for e in entries if e.kind is Kind.WAIVER and e.digest == digest]


def decision(entries: Sequence[Entry], digest: str, judged_against: str | None) -> Entry | None:
    """A person's word on a version as it was judged; None if it is still to be asked for.

    A promotion uses it up, and so does a release that was ended before it, or a judgement against
    another champion.
    """
    for entry in reversed(entries):
        if entry.digest != digest:
            continue
        if entry.kind in (Kind.PROMOTED, Kind.ROLLED_BACK, Kind.NOT_PROMOTED, Kind.ABORTED):
            return None
        if entry.kind in (Kind.APPROVED, Kind.REFUSED):
            return entry if entry.expected == judged_against else None
    return None


def failed_gates(tags: Mapping[str, str]) -> list[str]:
    """The gates that did not pass, as a version's tags have them; unknown is not passed."""
    verdicts = {k.removeprefix(GATE): v for k, v in tags.items() if k.startswith(GATE)}
    return sorted(gate for gate, verdict in verdicts.items() if not verdict.startswith(PASSED))


def unwaived(tags: Mapping[str, str], known: Sequence[Waiver], at: datetime) -> list[str]:
    """The failed gates that nobody answers for at that moment; without any it may serve."""
    waived = {waiver.gate for waiver in known if waiver.holds(at)} - NEVER_WAIVED
    return [gate for gate in failed_gates(tags) if gate not in waived]
