"""Alerts are sent through Apprise to whatever EVERGREEN_NOTIFY names: mail, chat, a webhook.

Its addresses hold secrets, so that no message ever shows one. That nobody could be told stops no
run: the alert waits in the record, and the daily check sends it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from data.alert_params import Alerts
from data.errors import EvergreenError
from flows.alerts import Alert, Line, Open, Severity, What, decide, due, standing
from flows.journal import Journal
from flows.settings import Settings

KINDS = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "failure"}
OVER = "success"
NOBODY = "nobody is named: set EVERGREEN_NOTIFY to the addresses of Apprise, one to a line"


@dataclass
class _Known:
    """What is open by the record up to a place in it, in bytes."""

    open: dict[str, Open] = field(default_factory=dict)
    place: int = 0


@dataclass(frozen=True)
class Desk:
    """Raises, resolves and sends.

    Attributes:
        name: of the problem, which stands before each title.
        targets: Apprise's addresses.
    """

    journal: Journal
    name: str
    targets: Sequence[str]
    params: Alerts
    _known: _Known = field(init=False, default_factory=_Known, repr=False, compare=False)

    @classmethod
    def of(cls, settings: Settings, name: str, params: Alerts) -> "Desk":
        return cls(Journal(settings.home / "alerts.jsonl"), name, settings.notify, params)

    def lines(self) -> list[Line]:
        return [Line.from_json(value) for value in self.journal.read()]

    def open(self) -> dict[str, Open]:
        """What is not over, by key; of the record only what was added since is read."""
        lines, self._known.place = self.journal.since(self._known.place)
        self._known.open = standing(map(Line.from_json, lines), self._known.open)
        return self._known.open

    def raise_(self, alert: Alert, at: datetime) -> What | None:
        """Tell of some trouble as far as it is due; what was done, None for nothing."""
        with self.journal.held():
            known = self.open().get(alert.key)
            decided = decide(known, alert, at, self.params)
            if decided.what is None:
                return None
            what, reason = decided.what, decided.reason
            if what is What.SENT and (failed := self._send(alert, KINDS[alert.severity])):
                what, reason = What.HELD, failed
                if known and known.alert == alert and known.told is None:
                    return None
            self._keep(what, alert, at, reason)
            return what

    def resolve(self, key: str, at: datetime, said: str) -> bool:
        """Tell that some trouble is over, to whom it was told; whether there was any."""
        with self.journal.held():
            known = self.open().get(key)
            if known is None:
                return False
            lasted = at - known.since
            body = f"{said} (it lasted {lasted.total_seconds() / 3600:.1f} h)"
            over = Alert(key, known.alert.severity, f"over: {known.alert.title}", body)
            reason = (known.told and self._send(over, OVER)) or said
            self._keep(What.RESOLVED, known.alert, at, reason)
            return True

    def resolve_others(self, prefix: str, keep: Iterable[str], at: datetime, said: str) -> None:
        """Resolve what begins with `prefix` and is not among `keep`."""
        for key in set(self.open()) - set(keep):
            if key.startswith(prefix):
                self.resolve(key, at, said)

    def flush(self, at: datetime) -> int:
        """Send what waited for the end of the quiet hours, or could not be sent; how many."""
        waiting = due(self.open().values(), at, self.params)
        return sum(self.raise_(alert, at) is What.SENT for alert in waiting)

    def test(self, at: datetime) -> None:
        """Send a message that says it is a test.

        Raises:
            EvergreenError: if nobody is named, or one cannot be reached.
        """
        test = Alert("test", Severity.INFO, "a test", f"sent at {at:%Y-%m-%d %H:%M} UTC")
        if failed := self._send(test, KINDS[test.severity]):
            raise EvergreenError(failed)

    def _keep(self, what: What, alert: Alert, at: datetime, reason: str) -> None:
        moment = at.astimezone(UTC).isoformat(timespec="seconds")
        self.journal.append(Line(moment, what, alert, reason).to_json())

    def _send(self, alert: Alert, kind: str) -> str | None:
        """Why nobody, or not everybody, could be told; None if all were."""
        if not self.targets:
            return NOBODY
        import apprise  # half a second, and most commands never send

        failed = []
        for number, target in enumerate(self.targets, start=1):
            told = apprise.Apprise()
            title = f"Evergreen {self.name}: {alert.title}"
            if not told.add(target) or not told.notify(alert.body, title, kind):
                failed.append(f"{number} ({target.partition(':')[0]})")
        if not failed:
            return None
        print(f"alert {alert.key!r} could not be sent to target {', '.join(failed)}")
        return f"target {', '.join(failed)} of EVERGREEN_NOTIFY was not reached"
