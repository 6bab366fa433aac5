"""Hostile requests against a real slot through the gateway: no 5xx, and every body strict JSON.

Schemathesis makes requests from the OpenAPI document that is served, `tests.bench.serving.hostile`
makes what no schema describes. Run: python -m tests.bench.serving.bench_hostile [--cases 20000]
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode

from bento import rollout
from bento.client import Door
from bento.package import build
from bento.slots import Serving
from tests.bench.serving.hostile import PROXY_TEXT, Answer, Case, cases, fault, send
from tests.bench.serving.hostile_bodies import BODIES
from tests.bento.conftest import make_artefact
from tests.serving_stack import CHECKOUT, SMOKE, golden, running

FAMILIES = len(BODIES) + 7
ROUTES = ("/predict", "/explain")


@contextmanager
def served() -> Iterator[tuple[Serving, dict]]:
    """A gateway before a slot with a small model, and one of its golden rows."""
    os.environ["EVERGREEN_EXPLAIN"] = "on"
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, running(rate_limit=0) as stack:
        artefact = make_artefact(Path(folder) / "artefact", seed=1)
        names = {"name": "parcels", "version": "1"}
        package = build(
            artefact, **names, store=Path(folder) / "store", checkout=CHECKOUT, seconds=2.0
        )
        slot = rollout.deploy(stack.serving, package, *golden(artefact), **SMOKE)
        rollout.switch(stack.serving, slot)
        yield stack.serving, golden(artefact)[1][0]


class Tally:
    """Statuses by family, and what must not be."""

    def __init__(self) -> None:
        self.statuses: dict[str, Counter[str]] = defaultdict(Counter)
        self.faults: list[str] = []
        self.texts = 0

    def add(self, case: Case, answer: Answer | None) -> None:
        self.statuses[case.family][str(answer.status) if answer else "closed"] += 1
        self.texts += answer is not None and answer.kind == PROXY_TEXT and answer.status != 200
        if said := fault(case, answer):
            self.faults.append(f"{case.family}: {said}; sent {case.raw[:200]!r}")

    @property
    def total(self) -> int:
        return sum(sum(counts.values()) for counts in self.statuses.values())


def from_bytes(serving: Serving, row: dict, each: int, at: int, tally: Tally, trap: Path) -> None:
    """Every family of hostile bytes."""
    for case in cases(row, each, at, trap):
        tally.add(case, send(serving, case))


def from_schema(serving: Serving, examples: int, at: int, tally: Tally) -> None:
    """What Schemathesis makes of the OpenAPI document: what fits it, and what does not."""
    document = Door(serving.url).get("/docs.json").value
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=serving.url)
    for route in ROUTES:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            strategy = schema[route]["POST"].as_strategy(generation_mode=mode)
            if mode is GenerationMode.POSITIVE:
                strategy = strategy.map(_at_some_time)
            _ask(serving, strategy, f"schemathesis {route} {mode.value}", examples, at, tally)


def _at_some_time(case: schemathesis.Case) -> schemathesis.Case:
    """BentoML's document leaves out that a text is a timestamp."""
    if isinstance(case.body, dict) and "ordered_at" in case.body:
        case.body["ordered_at"] = "2024-04-01T09:00:00"
    return case


def _ask(
    serving: Serving,
    strategy: SearchStrategy[schemathesis.Case],
    family: str,
    examples: int,
    at: int,
    tally: Tally,
) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    limits = {"max_examples": examples, "deadline": None, "suppress_health_check": checks}

    @seed(at)
    @settings(database=None, phases=[Phase.generate], **limits)
    @given(case=strategy)
    def ask(case: schemathesis.Case) -> None:
        with Door(serving.url).session() as session:
            reply = case.call(session=session, timeout=20)
        kind = reply.headers.get("content-type", [""])[0]
        answer = Answer(reply.status_code, kind, reply.content)
        tally.add(Case(family, repr(case.body).encode(), case.method), answer)

    ask()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="at least so many")
    parser.add_argument("--seed", type=int, default=1)
    given_ = parser.parse_args()
    tally, began = Tally(), time.monotonic()
    with served() as (serving, row):
        trap = serving.folder / "trap"
        from_schema(serving, given_.cases // 20, given_.seed, tally)
        from_bytes(serving, row, given_.cases // (FAMILIES - 1) + 1, given_.seed, tally, trap)
        if trap.exists():
            tally.faults.append("a pickle was loaded")
    for family, counts in tally.statuses.items():
        shown = ", ".join(f"{status}: {n:,}" for status, n in sorted(counts.items()))
        print(f"{family:36} {sum(counts.values()):7,}   {shown}")
    seconds = time.monotonic() - began
    print(f"{tally.texts:,} of them never became a request: HAProxy's own text, 400, 408 or 422")
    print(f"{tally.total:,} requests in {seconds:.0f} s, {len(tally.faults)} faults")
    print(*tally.faults[:20], sep="\n")
    sys.exit(bool(tally.faults))


if __name__ == "__main__":
    main()
