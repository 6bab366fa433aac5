"""What `kubectl kustomize` makes of a folder: the parts of it that deploy/k8s uses."""

import json
from pathlib import Path
from typing import Any

import yaml

KEYS = ("name", "containerPort", "port", "mountPath", "type")
BY_KEY = {"containers", "initContainers", "env", "volumes", "ports", "volumeMounts", "conditions"}
CUSTOM = "gateway.networking.k8s.io/"
SCOPELESS = {"Namespace"}
KNOWN = {
    *("apiVersion", "kind", "resources", "namespace", "nameSuffix", "labels", "images"),
    *("configMapGenerator", "generatorOptions", "patches"),
}
Object = dict[str, Any]


def render(folder: Path) -> list[Object]:
    """The objects of a kustomization."""
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(said) <= KNOWN, f"{folder}: kustomize may know more of this than the tests do"
    made: list[Object] = []
    for name in said.get("resources", []):
        path = folder / name
        made += render(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    made += [_generated(folder, each) for each in said.get("configMapGenerator", [])]
    for patch in said.get("patches", []):
        made = _patched(made, folder, patch)
    suffix = said.get("nameSuffix", "")
    for each in made:
        each["metadata"]["name"] += suffix
        if suffix and (of := each.get("spec", {}).get("scaleTargetRef")):
            of["name"] += suffix
        if "namespace" in said:
            _place(each, said["namespace"])
        for labels in said.get("labels", []):
            _label(each, labels["pairs"], labels.get("includeSelectors", False))
        for image in said.get("images", []):
            _image(each, image)
    return made


def merge(old: Any, new: Any, lists: bool = True) -> Any:
    """A strategic merge patch, or a plain one without `lists`: null removes."""
    if not isinstance(new, dict) or not isinstance(old, dict):
        return new
    done = dict(old)
    for name, value in new.items():
        if value is None:
            done.pop(name, None)
        elif lists and name in BY_KEY and isinstance(done.get(name), list):
            done[name] = _by_key(done[name], value)
        else:
            empty = {} if isinstance(value, dict) else None
            done[name] = merge(done.get(name, empty), value, lists)
    return done


def _by_key(old: list[Object], new: list[Object]) -> list[Object]:
    key = next(key for key in KEYS if all(key in each for each in [*old, *new]))
    known = {each[key]: each for each in old}
    changed = {each[key]: merge(known.get(each[key], {}), each) for each in new}
    return list((known | changed).values())


def _generated(folder: Path, said: Object) -> Object:
    pairs = [each.split("=") for each in said["files"]]
    data = {name: (folder / path).read_text() for name, path in pairs}
    about = {key: said[key] for key in ("name", "namespace") if key in said}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}


def _patched(made: list[Object], folder: Path, said: Object) -> list[Object]:
    text = said["patch"] if "patch" in said else (folder / said["path"]).read_text()
    for change in yaml.safe_load_all(text):
        chosen = [each for each in made if _chosen(each, change, said.get("target"))]
        assert chosen, f"{folder} patches nothing with {change['metadata']}"
        for each in chosen:
            name = each["metadata"]["name"]
            each |= merge(each, change, not change["apiVersion"].startswith(CUSTOM))
            each["metadata"]["name"] = name
    return made


def _chosen(each: Object, change: Object, target: Object | None) -> bool:
    if target is not None:
        return all(each[key] == value for key, value in target.items())
    same = each["kind"] == change["kind"]
    return same and each["metadata"]["name"] == change["metadata"]["name"]


def _place(each: Object, namespace: str) -> None:
    if each["kind"] not in SCOPELESS:
        each["metadata"]["namespace"] = namespace
    else:
        each["metadata"]["name"] = namespace
    for subject in each.get("subjects", []):
        if subject["kind"] == "ServiceAccount":
            subject["namespace"] = namespace


def _label(each: Object, pairs: Object, selectors: bool) -> None:
    each["metadata"].setdefault("labels", {}).update(pairs)
    spec = each.get("spec", {})
    if not selectors or "selector" not in spec:
        return
    if each["kind"] == "Service":
        spec["selector"].update(pairs)
    else:
        spec["selector"]["matchLabels"].update(pairs)
    if "template" in spec:
        spec["template"]["metadata"]["labels"].update(pairs)
        for spread in spec["template"]["spec"].get("topologySpreadConstraints", []):
            spread["labelSelector"]["matchLabels"].update(pairs)


def _image(each: Object, said: Object) -> None:
    spec = each.get("spec", {}).get("template", {}).get("spec", {})
    for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
        if container["image"] == said["name"]:
            container["image"] = f"{said['newName']}@{said['digest']}"


def sorted_text(objects: list[Object]) -> list[str]:
    """To compare with another rendering."""
    return sorted(json.dumps(each, sort_keys=True) for each in objects)
