"""Which role each command and each deployment takes; what is not in these tables nobody may do.

Enforced by `flows.guard` for commands, by `flows.door_prefect` for what is started in Prefect, by
`flows.door_mlflow` for MLflow, and by `flows.door` for the board.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from data.errors import EvergreenError


class Role(StrEnum):
    """What a person may do; each later one may also do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"

    def includes(self, needed: "Role") -> bool:
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(needed)


ARTICLE = {Role.VIEWER: "a", Role.OPERATOR: "an", Role.APPROVER: "an"}
# A viewer's commands change nothing, neither here nor elsewhere, and show no quarantined row.
_COMMANDS: dict[Role, tuple[str, ...]] = {
    Role.VIEWER: (
        "ab report",
        "alerts",
        "alerts check",
        "card",
        "data diff",
        "data labels",
        "data list",
        "doctor",
        "explain",
        "lineage",
        "quarantine list",
        "status",
        "verify",
    ),
    Role.OPERATOR: (
        "ab start",
        "ab stop",
        "alerts test",
        "challenge",
        "data open",
        "data pull",
        "data push",
        "data repair",
        "demo",
        "down",
        "export-edge",
        "ingest",
        "keys create",
        "keys list",
        "keys revoke",
        "keys rotate",
        "monitor",
        "new-problem",
        "quarantine drop",
        "quarantine release",
        "quarantine show",
        "recalibrate",
        "release",
        "reload",
        "replay",
        "reproduce",
        "retrain",
        "rollback",
        "score",
        "train",
        "up",
        "users list",
    ),
    Role.APPROVER: (
        "approve",
        "backup",
        "clean",
        "migrate",
        "reject",
        "restore",
        "users add",
        "users revoke",
        "waive",
    ),
}
COMMANDS: Mapping[str, Role] = MappingProxyType(
    {command: role for role, commands in _COMMANDS.items() for command in commands}
)
# By deployment: who may start it, as it is called in prefect.yaml.
DEPLOYMENTS: Mapping[str, Role] = MappingProxyType(
    {
        "alert": Role.OPERATOR,
        "ingest": Role.OPERATOR,
        "monitor": Role.OPERATOR,
        "recalibrate": Role.OPERATOR,
        "release": Role.OPERATOR,
        "retrain": Role.OPERATOR,
        "rollback": Role.OPERATOR,
        "train": Role.OPERATOR,
    }
)


def refusal(name: str, role: Role, needed: Role | None, what: str) -> str | None:
    """Why somebody may not do something, in a line; None if they may.

    Args:
        needed: None for what no person may do.
    """
    if needed is not None and role.includes(needed):
        return None
    takes = f"the role {needed}" if needed else "the installation itself: no role does"
    return f"{name} is {ARTICLE[role]} {role}, but {what} takes {takes}"


def check(name: str, role: Role, needed: Role | None, what: str) -> None:
    """Pass who may do something.

    Raises:
        EvergreenError: if they may not.
    """
    if said := refusal(name, role, needed, what):
        raise EvergreenError(said)
