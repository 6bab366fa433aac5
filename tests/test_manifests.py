"""deploy/k8s: every object fits its schema, and they fit each other and the code."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import yaml
from prometheus_client import CollectorRegistry

from bento.contract import Contract
from bento.metrics import Metrics
from data.task import BINARY
from flows import cluster
from flows.image import REFERENCE
from flows.settings import Settings
from tests.kubernetes_schemas import ROOT, fault
from tests.kustomized import render, sorted_text

HEALTH = {"/readyz", "/livez", "/api/health", "/health"}  # tests of the stack ask each of them
SECRETS = {f"evergreen-{name}" for name in ("stores", "client", "prefect", "mlflow", "certificate")}
PAGE = ROOT.parents[1] / "docs" / "kubernetes.md"


@pytest.fixture(scope="module", params=["laptop", "production"])
def overlay(request) -> Path:
    return ROOT / "overlays" / request.param


@pytest.fixture(scope="module")
def objects(overlay) -> list[dict]:
    return [*render(overlay), *render(overlay / "slots")]


def of(objects: list[dict], kind: str) -> dict[str, dict]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def job() -> dict:
    """The Job of a flow run, with the template's defaults."""
    template = json.loads((ROOT / "base" / "job.json").read_text())
    said = template["variables"]["properties"]
    values = {name: about.get("default", name) for name, about in said.items()}
    values |= {"image": f"worker@sha256:{'0' * 64}", "command": ["python"], "env": []}

    def fill(value):
        if isinstance(value, dict):
            return {key: fill(each) for key, each in value.items()}
        if isinstance(value, list):
            return [fill(each) for each in value]
        if not isinstance(value, str):
            return value
        whole = re.fullmatch(r"\{\{ (\w+) \}\}", value)
        filled = re.sub(r"\{\{ (\w+) \}\}", lambda found: str(values[found[1]]), value)
        return values[whole[1]] if whole else filled

    return fill(template["job_configuration"]["job_manifest"])


def pods(objects: list[dict]) -> Iterator[tuple[dict, dict]]:
    """Labels and spec of each pod that comes to run."""
    for each in [*of(objects, "Deployment").values(), job()]:
        template = each["spec"]["template"]
        yield template["metadata"]["labels"], template["spec"]


def containers(objects: list[dict]) -> Iterator[dict]:
    for _, pod in pods(objects):
        yield from [*pod["containers"], *pod.get("initContainers", [])]


def test_every_object_fits_its_schema(objects):
    found = {f"{x['kind']} {x['metadata']['name']}": fault(x) for x in objects}
    assert {name: said for name, said in found.items() if said} == {} and fault(job()) is None
    assert fault({**objects[0], "spec": {"planted": 1}}), "the schemas are strict"
    (route,) = of(objects, "HTTPRoute").values()
    assert fault({**route, "spec": {**route["spec"], "planted": 1}})


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
def test_kubectl_renders_the_same(overlay):
    for folder in (overlay, overlay / "slots"):
        done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
        assert sorted_text(list(yaml.safe_load_all(done.stdout))) == sorted_text(render(folder))


def test_images_are_named_by_digest(objects):
    images = [container["image"] for container in containers(objects)]
    assert len(images) == 8 and all(map(REFERENCE.fullmatch, images))
    settings = of(objects, "ConfigMap")["evergreen-settings"]["data"]
    worker = of(objects, "Deployment")["worker"]["spec"]["template"]["spec"]["containers"][0]
    assert settings["EVERGREEN_WORKER_IMAGE"] == worker["image"]


def test_pods_may_do_as_little_as_they_can(objects):
    for labels, pod in pods(objects):
        rights = pod["securityContext"]
        assert rights["runAsNonRoot"] and rights["seccompProfile"] == {"type": "RuntimeDefault"}
        # The prediction log is for its owner alone: who serves and who reads is the same user.
        assert rights["runAsUser"] == 10001
        account = pod.get("serviceAccountName")
        assert (account in of(objects, "ServiceAccount")) != (
            pod.get("automountServiceAccountToken") is False
        ), labels
    for container in containers(objects):
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]


def test_what_is_named_is_there(objects):
    configs, claims = of(objects, "ConfigMap"), of(objects, "PersistentVolumeClaim")
    for _, pod in pods(objects):
        volumes = {each["name"]: each for each in pod["volumes"]}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
            for source in container.get("envFrom", []):
                known = configs if "configMapRef" in source else SECRETS
                assert next(iter(source.values()))["name"] in known
        for volume in volumes.values():
            config, secret, claim = (
                volume.get(kind) for kind in ("configMap", "secret", "persistentVolumeClaim")
            )
            assert config is None or config["name"] in configs
            assert secret is None or secret["secretName"] in SECRETS
            assert claim is None or claim["claimName"] in claims
    assert all(f"`{name}`" in PAGE.read_text() for name in SECRETS)


def test_selectors_find_their_pods(objects):
    labels = [labels for labels, _ in pods(objects)]

    def found(selector: dict) -> int:
        return sum(selector.items() <= each.items() for each in labels)

    for service in of(objects, "Service").values():
        assert found(service["spec"]["selector"]) == 1
    for kind in ("PodDisruptionBudget", "Deployment"):
        for each in of(objects, kind).values():
            assert found(each["spec"]["selector"]["matchLabels"]) == 1
    for policy in of(objects, "NetworkPolicy").values():
        wanted = [policy["spec"]["podSelector"]]
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
            peers = [*rule.get("from", []), *rule.get("to", [])]
            wanted += [p["podSelector"] for p in peers if "namespaceSelector" not in p]
        assert all(found(each.get("matchLabels", {})) for each in wanted)
    assert {each["metadata"].get("namespace", "evergreen") for each in objects} == {"evergreen"}


def test_probes_ask_paths_and_ports_that_are_there(objects):
    slots = [c for c in containers(objects) if c["name"] == "service"]
    assert len(slots) == 2
    for container in containers(objects):
        ports = {port["name"] for port in container.get("ports", [])}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe := container.get(kind):
                assert probe["httpGet"]["port"] in ports
                assert probe["httpGet"]["path"] in HEALTH
            assert kind in container or container["name"] not in ("service", "prefect", "mlflow")
    for name in ("evergreen-blue", "evergreen-green"):
        spec = of(objects, "Deployment")[name]["spec"]["template"]["spec"]
        wait = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert wait + 10 < spec["terminationGracePeriodSeconds"], "uvicorn is given ten seconds"


def test_slots_start_empty_and_the_autoscaler_agrees_with_the_rollout(objects):
    (route,) = of(objects, "HTTPRoute").values()
    refs = route["spec"]["rules"][0]["backendRefs"]
    assert [(ref["name"], ref["weight"]) for ref in refs] == [
        ("evergreen-blue", 0),
        ("evergreen-green", 0),
    ]
    (parent,) = route["spec"]["parentRefs"]
    assert parent["name"] in of(objects, "Gateway")
    for ref in refs:
        (port,) = of(objects, "Service")[ref["name"]]["spec"]["ports"]
        scaler = of(objects, "HorizontalPodAutoscaler")[ref["name"]]["spec"]
        held = of(objects, "Deployment")[scaler["scaleTargetRef"]["name"]]
        least = held["metadata"]["annotations"]["evergreen/least-replicas"]
        assert (ref["port"], int(least)) == (port["port"], scaler["minReplicas"])
        assert held["metadata"]["name"] == ref["name"] and held["spec"]["replicas"] == 0


def test_the_autoscaler_looks_at_what_the_service_shows(objects):
    (rule,) = yaml.safe_load((ROOT / "adapter.yaml").read_text())["rules"]
    contract = cast(Contract, SimpleNamespace(task=BINARY, cuts=(0.5,)))
    shown = Metrics("1", contract, [], CollectorRegistry()).text().decode()
    series = rule["seriesQuery"].partition("{")[0]
    assert re.search(rf"^{series}{{", shown, re.MULTILINE)
    for scaler in of(objects, "HorizontalPodAutoscaler").values():
        assert scaler["spec"]["metrics"][0]["pods"]["metric"]["name"] == rule["name"]["as"]


def test_the_settings_lead_to_this_cluster(objects):
    data = of(objects, "ConfigMap")["evergreen-settings"]["data"]
    said = cluster.read(data)
    assert said is not None and said.namespace == "evergreen"
    assert said.slots.format(slot="blue") == "http://evergreen-blue.evergreen.svc:3000"
    stack = Settings.read({}).child_environment()
    same = {name for name in stack if name.startswith(("PREFECT_SERVER_", "PREFECT_FLOWS_"))}
    assert same and {name: data.get(name) for name in same} == {name: stack[name] for name in same}
