"""Compose file and workflows: whole, pinned, without a secret, and of things that are there.

Their schemas are check-jsonschema's; `docker compose config` reads the file where there is one.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "deploy" / "compose"
TEXT = (COMPOSE / "compose.yaml").read_text()
FILE = yaml.safe_load(TEXT)
SERVICES = FILE["services"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)(:\?|-)\}")
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9]+)?|\$\{[A-Z_]+:\?\}")
SECRETS = ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "GRAFANA_PASSWORD", "EVERGREEN_NOTIFY")


def example() -> dict[str, str]:
    lines = (COMPOSE / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_every_variable_is_in_the_example_and_none_is_guessed() -> None:
    used = {name for name, _ in VARIABLE.findall(TEXT)}
    assert used == set(example()) and TEXT.count("${") == len(VARIABLE.findall(TEXT))
    optional = {name for name, how in VARIABLE.findall(TEXT) if how == "-"}
    empty = {name for name, value in example().items() if not value}
    assert empty == optional | set(SECRETS), "what has to be filled in fails where it is empty"


def test_no_secret_is_written_down() -> None:
    for name in SECRETS:
        assert example()[name] == ""
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY|TOKEN", name):
                assert VARIABLE.fullmatch(value), name
    assert not re.search(r"://[^/\s$]+:[^@\s/]+@", TEXT)
    ignored = ["git", "-C", str(ROOT), "check-ignore", "-q", "deploy/compose/.env"]
    assert subprocess.run(ignored).returncode == 0


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_pinned_restarted_and_looked_at(name) -> None:
    service = SERVICES[name]
    assert PINNED.fullmatch(service["image"]) and "latest" not in service["image"]
    assert service["restart"] == "unless-stopped" and service["healthcheck"]["test"][0] == "CMD"
    published = service.get("ports", [])
    assert all(port.startswith("127.0.0.1:") for port in published)
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert source in FILE["volumes"] or (COMPOSE / source).resolve().exists(), volume
    for other in service.get("depends_on", {}):
        assert other in SERVICES
    if built := service.get("build"):
        assert (COMPOSE / built["context"] / built["dockerfile"]).is_file()


def test_the_example_without_secrets_does_not_start_and_with_them_is_whole() -> None:
    """Interpolated as Compose does it."""
    missing, values = [], {**example(), **dict.fromkeys(SECRETS, "s3cr3t")}
    VARIABLE.sub(
        lambda m: missing.append(m[1]) if m[2] == ":?" and not example()[m[1]] else "", TEXT
    )
    assert set(missing) == set(SECRETS) - {"EVERGREEN_NOTIFY"}
    whole = yaml.safe_load(VARIABLE.sub(lambda match: values[match[1]], TEXT))
    environment = whole["services"]["evergreen"]["environment"]
    assert (
        environment["EVERGREEN_DATABASE_URL"] == "postgresql://evergreen@127.0.0.1:5432/evergreen"
    )
    (identity,) = json.loads(whole["configs"]["s3"]["content"])["identities"]
    assert identity["credentials"] == [{"accessKey": "evergreen", "secretKey": "s3cr3t"}]


def test_compose_itself_reads_it(tmp_path) -> None:
    known = ["docker", "compose", "version"]
    if not shutil.which("docker") or subprocess.run(known, capture_output=True).returncode:
        pytest.skip("there is no `docker compose`")
    values = {**example(), **dict.fromkeys(SECRETS, "s3cr3t")}
    (tmp_path / "env").write_text("".join(f"{k}={v}\n" for k, v in values.items()))
    command = ["docker", "compose", "--env-file", str(tmp_path / "env"), "config", "--quiet"]
    done = subprocess.run(command, cwd=COMPOSE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("schema", "paths"),
    [("compose-spec", [COMPOSE / "compose.yaml"]), ("github-workflows", WORKFLOWS)],
)
def test_files_keep_to_their_schema(schema, paths) -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    if not program.exists():
        pytest.skip("check-jsonschema is not installed")
    command = [program, "--builtin-schema", f"vendor.{schema}", *paths]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_is_there_with_no_more_rights_than_it_needs(path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    words = subprocess.run(["make", "-pq"], cwd=ROOT, capture_output=True, text=True).stdout
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60 and job["runs-on"] == "ubuntu-24.04"
        for step in job["steps"]:
            run = step.get("run", "")
            # What somebody else may write never becomes a part of a command.
            assert "${{" not in run
            assert re.fullmatch(r"[a-z-]+/[a-z-]+@v\d+", step.get("uses", "a/b@v1"))
            for word in re.findall(r"make ([a-z-]+)", run):
                assert f"\n{word}:" in words
            for file in re.findall(r"--file (\S+)", run):
                assert (ROOT / file).is_file()
