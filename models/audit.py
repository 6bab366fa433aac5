"""Does what is kept agree? Ledger, head, aliases and artefacts; each a frozen finding."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data import digests
from data.errors import EvergreenError
from models import standing
from models.ledger import Entry, Head, Kind, Ledger, head_fault
from models.registry import PROMOTED
from models.version import Version

Opened = Callable[[], Path]


@dataclass(frozen=True)
class Check:
    """One finding; `ok` is None where it could not be looked at, which is not OK."""

    name: str
    ok: bool | None
    reason: str


def ledger_check(ledger: Ledger) -> tuple[Check, list[Entry] | None]:
    """Whether every line is as it was written, and the lines if so."""
    try:
        entries = ledger.read()
    except (EvergreenError, OSError) as error:
        return Check("ledger", False, str(error)), None
    torn = ", and an unfinished one of a killed run, which the next run sets aside"
    whole = f"{len(entries)} lines, each as it was written{ledger.copies()}"
    found = f"{whole}{torn if ledger.torn() else ''}"
    return Check("ledger", True, found), entries


def head_check(entries: Sequence[Entry] | None, head: Head | None) -> Check:
    """Whether the ledger ends where MLflow has seen it end."""
    if entries is None:
        return _not_compared("ledger head")
    if fault := head_fault(entries, head):
        return Check("ledger head", False, fault)
    seen, last = head or Head(), entries[-1].head if entries else Head()
    if seen != last:
        lag = f"MLflow lags by line {last.seq} of a killed run; the next run completes it"
        return Check("ledger head", True, lag)
    return Check("ledger head", True, f"MLflow has seen the last line, {last.seq}")


def promotions_check(entries: Sequence[Entry] | None, versions: Sequence[Version]) -> Check:
    """Whether every version that says it was promoted is in the ledger, as the same model."""
    if entries is None:
        return _not_compared("promotions")
    heads = {str(entry.head) for entry in entries if entry.kind is Kind.PROMOTED}
    kept = {version.number: version.digest for version in versions}
    faults = [
        f"version {version.number} was promoted by line {version.tags[PROMOTED].split(':')[0]}, "
        "which the ledger does not have"
        for version in versions
        if PROMOTED in version.tags and version.tags[PROMOTED] not in heads
    ]
    faults += [
        f"line {entry.seq} is about version {entry.version} with {entry.digest[:16]}, but the "
        f"registry has {kept.get(entry.version, 'no such version')[:16]}"
        for entry in entries
        if kept.get(entry.version) != entry.digest
    ]
    return _all("promotions", faults, f"{len(heads)} promotions, all of versions as registered")


def aliases_check(
    entries: Sequence[Entry] | None, champion: str | None, previous: str | None
) -> Check:
    """Whether the aliases are where the ledger has them."""
    if entries is None:
        return _not_compared("aliases")
    expected = standing.holders(entries)
    pairs = zip(("champion", "previous"), expected, (champion, previous), strict=True)
    faults = [
        f"alias {name} is {held}, but the ledger says {said}: run `evergreen release "
        f"{expected[0] or champion}`"
        for name, said, held in pairs
        if said != held
    ]
    return _all("aliases", faults, f"champion {champion}, previous {previous}, as in the ledger")


def artefacts_check(folders: Mapping[str, Opened], expected: Mapping[str, str]) -> Check:
    """Whether every file of every artefact is the one that was registered.

    Args:
        folders: how an artefact is found, by what it is called; its signature is checked there.
        expected: its digest, by the same names.
    """
    faults = []
    for name, folder in folders.items():
        try:
            if (found := digests.verify(folder())) != expected[name]:
                faults.append(f"{name} is {found[:16]}, not {expected[name][:16]}")
        except (EvergreenError, OSError) as error:
            faults.append(f"{name}: {error}")
    named = ", ".join(folders) or "none yet"
    return _all("artefacts", faults, f"every file hashed of {named}")


def _not_compared(name: str) -> Check:
    return Check(name, None, "not checked: the ledger is not whole")


def _all(name: str, faults: Sequence[str], good: str) -> Check:
    return Check(name, not faults, "; ".join(faults) or good)
