"""The architecture page shows the code as it is."""

from tests import diagram


def test_the_diagram_is_what_the_code_imports():
    shown = diagram.BLOCK.search(diagram.PAGE.read_text()).group()
    assert shown == diagram.draw(), "run `python -m tests.diagram --write`"


def test_no_arrow_goes_up():
    lines = diagram.draw().splitlines()
    arrows = [line.split() for line in lines if " -->" in line]
    place = {room: depth for depth, layer in enumerate(diagram.LAYERS) for room in layer}
    assert len(arrows) == 5
    assert all(place[upper] < place[lower] for upper, _, lower in arrows)
