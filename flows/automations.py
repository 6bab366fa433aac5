"""Automations that no deployment can carry; `evergreen up` registers them.

A worker that is killed with its run leaves the run Running forever, which blocks the next one. Runs
send heartbeats: where they stop, and no end was told, the server calls the run crashed.
"""

from datetime import timedelta

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import Posture

HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")}
WAITS = {f"prefect.flow-run.{wait}" for wait in ("Paused", "Suspended", "AwaitingRetry")}
PATIENCE = timedelta(seconds=120)  # four heartbeats


def zombies(patience: timedelta = PATIENCE) -> Automation:
    """Calls a run crashed that has been silent for so long; ten seconds are the server's least."""
    return Automation(
        name="a run without heartbeat has crashed",
        description="Its process is gone; what it did is fenced, and the next run may start.",
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *ENDS, *WAITS},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=patience,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message=f"no heartbeat for {patience.total_seconds():.0f} seconds: its process is "
                "gone; start it again",
                force=False,
            )
        ],
    )


async def register(wanted: Automation) -> None:
    """Make it, or make the one of that name like it."""
    try:
        found = await Automation.aread(name=wanted.name)
    except ValueError:
        await wanted.acreate()
        return
    wanted.id = found.id
    await wanted.aupdate()
