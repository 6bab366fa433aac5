"""What a rollout promises wherever it happens; each target's tests go through it."""

import time
from dataclasses import dataclass

import pytest
import requests

from bento import experiment, rollout, target
from bento.slots import Serving, Slot
from bento.target import Packed
from data.errors import EvergreenError
from tests.serving_stack import SMOKE, Load, wait_for


@dataclass(frozen=True)
class Place:
    """A target, two versions for it with their golden rows, and a request."""

    serving: Serving
    first: Packed
    second: Packed
    golden: tuple
    second_golden: tuple
    row: dict

    @property
    def predict(self) -> str:
        return f"{self.serving.url}/predict"

    def deploy(self, package: Packed) -> Slot:
        golden = self.golden if package.version == "1" else self.second_golden
        return rollout.deploy(self.serving, package, *golden, **SMOKE)


def two_releases(place: Place) -> None:
    """A first version, then a second one by way of a canary; nobody notices but by the version."""
    serving, predict = place.serving, place.predict
    nothing = requests.post(predict, json=place.row, timeout=5)
    assert nothing.status_code == 503
    assert rollout.status(serving).problem is None

    slot = place.deploy(place.first)
    assert slot == "blue"
    assert requests.post(predict, json=place.row, timeout=5).status_code == 503, "not yet live"
    rollout.switch(serving, slot)
    assert rollout.status(serving).endpoint["model_version"] == "1"

    with Load(predict, place.row) as load:
        slot = place.deploy(place.second)
        assert slot == "green" and set(load.seen) == {"1"}
        began = experiment.begin(serving, "canary", slot, 20)
        old, new = load.seen["1"], load.seen["2"]
        wait_for(lambda: load.seen["1"] + load.seen["2"] >= old + new + 300, 60)
        old, new = load.seen["1"] - old, load.seen["2"] - new
        assert 0.1 < new / (old + new) < 0.3
        assert rollout.status(serving).problem is None, "a canary is no fault"
        assert experiment.end(serving, began) and experiment.end(serving, began) is None
        assert target.load(serving).weights == {"blue": 100, "green": 0}, "aborted"
        start = time.monotonic()
        rollout.switch(serving, slot)
        print(f"switch {1000 * (time.monotonic() - start):.0f} ms")
    assert load.failures == [] and load.seen["2"] > 0
    print("switch", load.seen)
    assert rollout.status(serving).problem is None


def a_refusal_and_a_way_back(place: Place) -> None:
    """A version that answers wrongly changes nothing; the one before takes the traffic back."""
    serving, predict = place.serving, place.predict
    contract, rows, scores = place.golden
    wrong = [*scores[:7], scores[7] + 0.01, *scores[8:]]
    before = target.load(serving)
    with Load(predict, place.row) as load, pytest.raises(EvergreenError, match="golden row 7"):
        rollout.deploy(serving, place.first, contract, rows, wrong, **SMOKE)
    assert load.failures == [] and set(load.seen) == {"2"}
    assert target.load(serving) == before, "a refused release changes nothing"

    with Load(predict, place.row) as load:
        start = time.monotonic()
        rollout.switch(serving, rollout.slot_of(before, "1", place.first.digest))
        print(f"back {1000 * (time.monotonic() - start):.0f} ms")
    assert load.failures == [] and load.seen["1"] > 0
    assert rollout.status(serving).endpoint["model_version"] == "1"
