"""Where the traffic goes, behind one small interface: two slots, their weights, and what they hold.

A release, a canary, an A/B test and a rollback know only this. `haproxy` is one machine with two
processes (`bento.haproxy_target`), `kubernetes` a cluster with two Deployments
(`bento.kubernetes_target`).
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, Self

from bento.package import Package
from bento.slots import SLOTS, Serving, Slot


@dataclass(frozen=True)
class Release:
    """What a slot holds. `since` says when it last took all traffic; None if it never did."""

    version: str
    digest: str
    tag: str
    since: str | None = None


@dataclass(frozen=True)
class Experiment:
    """The idle slot has a share of the traffic for a while.

    Attributes:
        kind: a canary is watched by a release that is on its way; an A/B test is ended by a person.
        percent: its share; since: when it began (UTC, ISO text), which tells one from another.
        pid: the process that watches a canary.
    """

    kind: Literal["canary", "ab"]
    slot: Slot
    percent: int
    since: str
    pid: int


@dataclass(frozen=True)
class State:
    """What each slot holds and how much of the traffic it takes (weights of 0 to 256)."""

    slots: Mapping[Slot, Release | None] = field(default_factory=lambda: dict.fromkeys(SLOTS))
    active: Slot | None = None
    weights: Mapping[Slot, int] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0))
    experiment: Experiment | None = None

    def with_slot(self, slot: Slot, release: Release | None) -> Self:
        return replace(self, slots={**self.slots, slot: release})

    def backs_up(self, slot: Slot) -> bool:
        """Whether a slot may stand in: only a release that has served before."""
        release = self.slots[slot]
        return release is not None and release.since is not None

    @property
    def idle(self) -> Slot:
        """The slot that a new release goes to."""
        return "green" if self.active == "blue" else "blue"


@dataclass(frozen=True)
class Image:
    """A package as a container image.

    Attributes:
        tag: of the bento inside; digest: of its artefact; version: in the registry.
        reference: `name@sha256:…`, never a tag, which may move.
    """

    tag: str
    digest: str
    version: str
    reference: str


Packed = Package | Image


class Target(Protocol):
    """What a rollout needs of the place where it happens."""

    @property
    def patience(self) -> float:
        """Seconds until a slot that was started has to answer."""

    @property
    def pause(self) -> float:
        """Seconds between two looks at it."""

    def lock(self, name: str, patience: float, other: str) -> AbstractContextManager[None]:
        """Held by one at a time; an error names `other` after `patience` seconds."""

    def alive(self, pid: int) -> bool:
        """Whether the process that watches a canary lives."""

    def load(self) -> State:
        """What is in force; an empty state if nothing was ever released."""

    def apply(self, state: State) -> State:
        """Put a state in force, and record it; the state as it is known from then on.

        No client is without a server in between, and nothing is recorded that is not in force.
        """

    def stage(self, slot: Slot, package: Packed) -> None:
        """Check a package, and lay it ready for a slot; what the slot runs does not notice."""

    def install(self, slot: Slot, package: Packed) -> None:
        """Let the package take the place of what the slot held; the slot is stopped by it."""

    def restore(self, slot: Slot) -> None:
        """Stop a slot and put back what it held before the last `install`."""

    def start(self, slot: Slot) -> None:
        """Start what a slot holds, without waiting; one that runs already is left alone."""

    def fault(self, slot: Slot) -> str | None:
        """Why a slot that was started is not up yet; an error if it will not come up."""

    def last_words(self, slot: Slot) -> str:
        """What a person should look at if the slot does not answer as it should."""

    def pages(self, slot: Slot) -> list[str]:
        """What /metrics of each process of a slot shows."""

    def lost(self) -> Mapping[str, int]:
        """By slot, requests that the gateway got no answer to, where it says so."""


def of(serving: Serving) -> Target:
    """The target that the environment chose, `EVERGREEN_TARGET`."""
    if serving.cluster is not None:
        from bento.kubernetes_target import KubernetesTarget

        return KubernetesTarget(serving, serving.cluster)
    from bento.haproxy_target import HaproxyTarget

    return HaproxyTarget(serving)


def load(serving: Serving) -> State:
    """What is in force, see `Target.load`."""
    return of(serving).load()
