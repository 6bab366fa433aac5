"""Does an object fit its schema, that of `kubernetes-validate` or of the Gateway API?"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from kubernetes_validate import utils
from referencing import Registry, Resource

ROOT = Path(__file__).parents[1] / "deploy" / "k8s"
VERSION = "1.36.0"
GATEWAY = "gateway.networking.k8s.io/v1"
Object = dict[str, Any]


@cache
def _validator(kind: str, api: str) -> Any:
    """The schema of a kind, as `kubernetes-validate` or the Gateway API has it, and strict."""
    if api == GATEWAY:
        known = json.loads((ROOT / "schemas" / "gateway-api.json").read_text())
        return jsonschema.Draft202012Validator(_strict(known[kind]))
    folder = f"kubernetes-json-schema/v{VERSION}-local-strict"
    group = re.sub(r"^([^./]*)(?:[.][^/]*)?/", r"\1-", api)
    names = (f"{kind.lower()}-{group}.json", "_definitions.json")
    contents = [utils.schema_contents(f"{folder}/{name}", VERSION) for name in names]
    registry: Any = Registry()
    for each in contents:
        registry = Resource.from_contents(each) @ registry
    return jsonschema.Draft202012Validator(contents[0], registry=registry)


def _strict(schema: Any) -> Any:
    """What the API server does with unknown fields: it refuses them; null is its `nullable`."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        made.setdefault("additionalProperties", False)
    if schema.get("nullable") is True and "type" in schema:
        made["type"] = [schema["type"], "null"]
    return made


def fault(value: Object) -> str | None:
    """Why an object does not fit its schema; None if it does."""
    error = next(iter(_validator(value["kind"], value["apiVersion"]).iter_errors(value)), None)
    return None if error is None else f"{error.json_path}: {error.message[:200]}"
