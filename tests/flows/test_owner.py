"""Names where identities are on and off; a process without a run is its own owner."""

from dataclasses import replace

import pytest

from data.errors import EvergreenError
from flows.owner import author, still_owner, who
from flows.settings import Settings

OFF = Settings.read({"EVERGREEN_USER": " Ann "})
ON = replace(OFF, identities=True)


def test_without_identities_a_name_is_taken_at_its_word():
    assert who(OFF) == author(OFF) == "Ann"
    assert author(OFF, "Bob") == "Bob"
    assert author(replace(OFF, user=""))


def test_with_identities_everybody_acts_in_their_own_name():
    assert author(ON) == author(ON, "Ann") == "Ann"
    assert author(replace(ON, user=""), "Bob") == "Bob"
    with pytest.raises(EvergreenError, match="'Bob' is not 'Ann'"):
        author(ON, "Bob")
    with pytest.raises(EvergreenError, match="nobody is named"):
        author(replace(ON, user=""), " ")


def test_a_switch_is_on_or_off():
    assert Settings.read({"EVERGREEN_IDENTITIES": "on"}).identities
    with pytest.raises(EvergreenError, match="neither on nor off"):
        Settings.read({"EVERGREEN_IDENTITIES": "yes"})


def test_a_process_without_a_run_is_its_own_owner():
    assert still_owner()
