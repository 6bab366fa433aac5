import re

import pytest
from typer.testing import CliRunner

from bento import auth
from data.errors import EvergreenError
from flows import image, stack
from flows.key_commands import app
from flows.settings import PORTS, Settings


def test_defaults_lie_in_the_checkout_and_on_loopback():
    settings = Settings.read({})
    assert settings.home == settings.checkout / "var"
    assert settings.ports == PORTS
    assert settings.serving.host == "127.0.0.1"
    told = settings.child_environment()
    assert told["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert all(str(settings.home) in told[name] for name in ("PREFECT_HOME", "MPLCONFIGDIR"))


def test_home_and_ports_are_read_and_handed_on():
    given = {"EVERGREEN_HOME": "/srv/evergreen", "EVERGREEN_GATEWAY_PORT": "8080"}
    settings = Settings.read(given)
    assert given.items() <= settings.child_environment().items()
    assert Settings.read(settings.child_environment()) == settings


@pytest.mark.parametrize("port", ["80", "http", "-1", "70000"])
def test_a_bad_port_is_named(port):
    with pytest.raises(EvergreenError, match=f"EVERGREEN_BLUE_PORT='{port}'"):
        Settings.read({"EVERGREEN_BLUE_PORT": port})


def test_two_services_on_one_port_are_refused():
    with pytest.raises(EvergreenError, match="same port"):
        Settings.read({"EVERGREEN_BLUE_PORT": "3000"})


def test_sockets_of_a_deep_home_lie_in_a_short_folder():
    deep, other = (Settings.read({"EVERGREEN_HOME": f"/srv/{'x' * 100}/{n}"}) for n in "ab")
    assert len(str(deep.serving.admin_socket)) < 90
    assert deep.runtime != other.runtime


def test_the_gateway_alone_may_leave_loopback(tmp_path):
    given = {
        "EVERGREEN_HOST": "0.0.0.0",
        "EVERGREEN_TLS_CERTIFICATE": str(tmp_path / "server.pem"),
        "EVERGREEN_RATE_LIMIT": "50",
    }
    settings = Settings.read(given)
    assert given.items() <= settings.child_environment().items()
    assert Settings.read(settings.child_environment()) == settings
    serving = settings.serving
    assert (serving.bind, serving.rate_limit, serving.public) == ("0.0.0.0", 50, True)
    assert settings.url("gateway") == serving.url == "https://127.0.0.1:3000"
    assert settings.url("prefect") == "http://127.0.0.1:4200"
    assert serving.slot_url("blue") == "http://127.0.0.1:3001"

    settings = Settings.read({**given, "EVERGREEN_HOME": str(tmp_path)})
    commands = [line for line in stack._configuration(settings).splitlines() if "command=" in line]
    assert sum("--host 127.0.0.1" in line for line in commands) == len(commands) - 1, "the worker"
    assert ["bento.gateway" in line for line in commands if "0.0.0.0" in line] == [True]


@pytest.mark.parametrize(
    ("name", "value"),
    [("EVERGREEN_HOST", "all"), ("EVERGREEN_RATE_LIMIT", "-1"), ("EVERGREEN_RATE_LIMIT", "lots")],
)
def test_a_bad_limit_or_address_is_named(name, value):
    with pytest.raises(EvergreenError, match=f"{name}='{value}'"):
        _ = Settings.read({name: value}).serving


def test_a_stack_that_may_not_serve_does_not_start(tmp_path):
    home = {"EVERGREEN_HOME": str(tmp_path)}
    with pytest.raises(EvergreenError, match="no active key"):
        stack.up(Settings.read({**home, "EVERGREEN_HOST": "0.0.0.0"}))
    with pytest.raises(EvergreenError, match="cannot be read"):
        stack.up(Settings.read({**home, "EVERGREEN_TLS_CERTIFICATE": str(tmp_path / "no.pem")}))
    assert not (tmp_path / "logs").exists()


def test_keys_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    made = run("create", "shop", "--scope", "predict", "--expires", "2099-12-31")
    assert "keys are on from now on" in made and "when it starts" in made
    (first,) = auth.load(tmp_path / "serving")
    assert first.expires == "2100-01-01T00:00:00+00:00" and first.scope == "predict"
    assert made.split()[-1].startswith(auth.PREFIX) and first.sha256 not in made
    assert f"evergreen keys revoke {first.id}" in run("rotate", "shop")
    assert run("revoke", first.id).startswith("no gateway runs")
    listed = run("list")
    assert "revoked" in listed and "active" in listed and auth.PREFIX not in listed
    assert isinstance(CliRunner().invoke(app, ["revoke", "x"]).exception, EvergreenError)


CLUSTER = {"EVERGREEN_TARGET": "kubernetes", "EVERGREEN_GATEWAY_URL": "https://models.example.org/"}


def test_a_cluster_is_told_by_the_environment():
    here = Settings.read({"EVERGREEN_TARGET": "haproxy"})
    assert here.cluster is None and "PREFECT_API_URL" in here.child_environment()
    prefect = {"PREFECT_API_URL": "http://prefect:4200/api"}
    there = Settings.read({**CLUSTER, **prefect, "EVERGREEN_NAMESPACE": "models"})
    assert there.serving.url == "https://models.example.org"
    assert there.serving.slot_url("blue") == "http://evergreen-blue.models.svc:3000"
    assert there.url("prefect") == "http://prefect:4200"
    told = there.child_environment()
    assert "MLFLOW_TRACKING_URI" in told and "PREFECT_API_URL" not in told, "its own stands"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"EVERGREEN_TARGET": "nomad"}, "is no target: use haproxy or kubernetes"),
        ({"EVERGREEN_GATEWAY_URL": ""}, "needs EVERGREEN_GATEWAY_URL"),
        ({"EVERGREEN_NAMESPACE": "A b"}, "is no name of a namespace"),
        ({"EVERGREEN_SLOT_URL": "http://blue"}, "needs {slot}"),
    ],
)
def test_a_cluster_that_is_half_said_is_refused(change, said):
    with pytest.raises(EvergreenError, match=re.escape(said)):
        Settings.read({**CLUSTER, **change})


def test_an_image_is_named_by_digest_alone():
    reference = f"registry.example.org:5000/evergreen/service@sha256:{'0' * 64}"
    assert image.check(reference) == reference
    for wrong in (reference[:-1], "evergreen:latest", reference.upper(), f"{reference} x"):
        with pytest.raises(EvergreenError, match="names no image by digest"):
            image.check(wrong)
