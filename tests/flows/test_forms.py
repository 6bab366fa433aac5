"""A wrong value is refused in the form, and a run's name says what it does."""

import re

import pytest
from jsonschema import Draft202012Validator
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import get_call_parameters, parameter_schema

from flows.ingest import ingest
from flows.monitor import monitor
from flows.release import release
from flows.retrain import retrain
from flows.rollback import rollback
from flows.steps import wrong

GOOD = [
    (retrain, {"as_of": "2013-W16", "cause": "new fleet", "by": "ana"}),
    (retrain, {"as_of": "2013-02-25T12:00"}),
    (retrain, {}),
    (ingest, {"period": "2013-02-05", "what": "labels"}),
    (monitor, {"period": "2013-02", "leave": "retrain"}),
    (release, {"version": "12"}),
    (rollback, {"reason": "wrong weather feed"}),
]
BAD = [
    (retrain, {"as_of": "2013-W54"}, "as_of"),
    (retrain, {"as_of": "last week"}, "as_of"),
    (retrain, {"by": " "}, "by"),
    (ingest, {"period": "2013-13"}, "period"),
    (ingest, {"period": "2013-W05", "what": "everything"}, "what"),
    (monitor, {"leave": "panic"}, "leave"),
    (release, {"version": "v2"}, "version"),
    (release, {"version": "0"}, "version"),
    (rollback, {"reason": ""}, "reason"),
    (rollback, {}, "reason"),
]


def faults(flow, given: dict) -> list[str]:
    """What the server's own check of the deployment's schema finds."""
    schema = parameter_schema(flow.fn).model_dump(by_alias=True)
    found = Draft202012Validator(schema).iter_errors(given)
    return [error.json_path + error.message for error in found]


@pytest.mark.parametrize(("flow", "given"), GOOD)
def test_what_is_meant_is_taken(flow, given):
    assert faults(flow, given) == []


@pytest.mark.parametrize(("flow", "given", "name"), BAD)
def test_a_wrong_value_is_refused_in_the_form(flow, given, name):
    assert any(name in fault for fault in faults(flow, given))


def test_every_parameter_has_a_help_text():
    for flow in (ingest, monitor, release, retrain, rollback):
        for name, shown in parameter_schema(flow.fn).properties.items():
            assert shown.get("description"), f"{flow.name}: {name}"


@pytest.mark.parametrize(
    ("flow", "given", "said"),
    [
        (retrain, {"as_of": "last week"}, "as_of 'last week' .* write a period .* or a timestamp"),
        (rollback, {"reason": ""}, "reason '' .* write up to 500 characters"),
        (monitor, {"leave": "panic"}, "leave 'panic' .* Input should be"),
    ],
)
def test_the_command_line_says_what_the_form_says(flow, given, said):
    with pytest.raises(ParameterTypeError) as refused:
        flow.validate_parameters(get_call_parameters(flow.fn, (), given))
    assert re.search(said, wrong(flow, str(refused.value), **given))
