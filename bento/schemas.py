"""JSON schemas of what the endpoint answers, for the OpenAPI document."""

from typing import Any

from bento import answers
from bento.contract import Contract

TEXT, NUMBER, BOOLEAN = ({"type": kind} for kind in ("string", "number", "boolean"))


def _object(kinds: dict[str, Any]) -> dict[str, Any]:
    """An object in which all but the caller's key is always there."""
    required = [name for name in kinds if name != "key"]
    return {"type": "object", "properties": kinds, "required": required}


def _said(contract: Contract) -> dict[str, Any]:
    """Schemas of what is said of a row, by name."""
    kinds: dict[Any, Any] = {bool: BOOLEAN, float: NUMBER}
    if contract.task.classes:
        names = list(contract.task.classes)
        by_class = {"type": "object", "properties": dict.fromkeys(names, NUMBER), "required": names}
        kinds = {str: {**TEXT, "enum": names}, dict[str, float]: by_class}
    said = answers.parts(contract.task, contract.target)
    return {name: kinds[kind] for name, kind in said.items()}


def answer(contract: Contract) -> dict[str, Any]:
    """Of an answer to `/predict`."""
    ids = dict.fromkeys(("request_id", "key", "model_version", "digest"), TEXT)
    return _object({**ids, **_said(contract), "degraded": BOOLEAN})


def explanation(contract: Contract) -> dict[str, Any]:
    """Of an answer to `/explain`."""
    ids = dict.fromkeys(("key", "model_version", "digest"), TEXT)
    decided = {contract.target: _said(contract)[contract.target]}
    number = contract.task.kind == "regression"
    effect = {"field": TEXT, "effect" if number else "log_odds": NUMBER}
    parts = {"contributions": {"type": "array", "items": _object(effect)}}
    if number:
        return _object({**ids, **decided, "base": NUMBER, **parts})
    scores = dict.fromkeys(("probability", "log_odds", "base_log_odds"), NUMBER)
    return _object({**ids, **decided, **scores, **parts})
