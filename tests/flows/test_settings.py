import pytest

from data.errors import EvergreenError
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
