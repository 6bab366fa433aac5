"""When each version had the traffic: a line for each switch, read back as spans."""

from dataclasses import replace

from bento import history
from bento.history import FILE, Served, Switch

FIRST = Switch("2024-04-01T10:00:00+00:00", "1", "d1", "shop:1", "blue")
SECOND = Switch("2024-04-02T10:00:00+00:00", "2", "d2", "shop:2", "green")
BACK = replace(FIRST, at="2024-04-03T10:00:00+00:00")


def test_nothing_switched_is_nothing_served(tmp_path):
    assert history.read(tmp_path) == [] == history.served(tmp_path, "1")


def test_a_version_that_came_back_served_twice(tmp_path):
    for switch in (FIRST, FIRST, SECOND, BACK, replace(BACK, at="later")):
        history.append(tmp_path, switch)
    assert history.read(tmp_path) == [FIRST, SECOND, BACK]
    assert history.served(tmp_path, "1") == [
        Served("blue", "shop:1", FIRST.at, SECOND.at),
        Served("blue", "shop:1", BACK.at, None),
    ]
    assert history.served(tmp_path, "2") == [Served("green", "shop:2", SECOND.at, BACK.at)]
    assert history.served(tmp_path, "3") == []


def test_a_torn_line_hides_only_itself(tmp_path):
    history.append(tmp_path, FIRST)
    history.append(tmp_path, SECOND)
    path = tmp_path / FILE
    path.write_text(path.read_text()[:-9])
    history.append(tmp_path, BACK)
    history.append(tmp_path, SECOND)
    assert history.read(tmp_path) == [FIRST, SECOND]
    assert len(path.read_text().splitlines()) == 3
