"""What a number may come in by mistake: another unit of its quantity, a shifted point, a sign.

A field declares its unit by a name that is used here; without one it is tried with the point and
the sign only.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Conversion:
    """delivered = `factor` * usual + `offset`; `named` if it is a unit."""

    other: str
    factor: float
    offset: float = 0.0
    named: bool = True

    def undo(self, values: np.ndarray) -> np.ndarray:
        return (values - self.offset) / self.factor

    def __str__(self) -> str:
        offset = f" {self.offset:+.6g}" if self.offset else ""
        return f"{self.other} (delivered = {self.factor:.6g} * usual{offset})"


SCALES: tuple[dict[str, tuple[float, float]], ...] = (
    # Each quantity: unit -> (size, zero), with base = size * value + zero.
    {
        "miles": (1609.344, 0), "kilometres": (1000, 0), "nautical miles": (1852, 0),
        "metres": (1, 0), "feet": (0.3048, 0), "inches": (0.0254, 0), "centimetres": (0.01, 0),
        "millimetres": (0.001, 0),
    },
    {"mph": (0.44704, 0), "m/s": (1, 0), "km/h": (1 / 3.6, 0), "knots": (1852 / 3600, 0)},
    {"°F": (5 / 9, 459.67 * 5 / 9), "°C": (1, 273.15), "kelvin": (1, 0)},
    {
        "millibars": (1, 0), "kilopascals": (10, 0), "pascals": (0.01, 0),
        "inches of mercury": (33.8639, 0), "millimetres of mercury": (1.333224, 0),
        "pounds per square inch": (68.94757, 0), "atmospheres": (1013.25, 0),
    },
    {"kilograms": (1, 0), "pounds": (0.45359237, 0), "grams": (0.001, 0), "tonnes": (1000, 0)},
    {
        "seconds": (1, 0), "minutes": (60, 0), "hours": (3600, 0), "days": (86400, 0),
        "months": (2629746, 0), "years": (31556952, 0),
    },
    {"%": (0.01, 0), "a share of 1": (1, 0), "per mille": (0.001, 0)},
    {"degrees": (np.pi / 180, 0), "radians": (1, 0)},
)  # fmt: skip
UNITS = frozenset(unit for scale in SCALES for unit in scale)
POINT = (0.001, 0.01, 0.1, 10.0, 100.0, 1000.0)
OTHERS = (
    *(Conversion(f"{factor:g} times the number", factor, named=False) for factor in POINT),
    Conversion("the opposite sign", -1.0, named=False),
)


def conversions(unit: str) -> tuple[Conversion, ...]:
    """Every way in which a number in `unit` may come wrong; the named units first."""
    scale = next((scale for scale in SCALES if unit in scale), {})
    size, zero = scale.get(unit, (1.0, 0.0))
    named = []
    for other, (its, origin) in scale.items():
        if other != unit:
            factor, offset = size / its, (zero - origin) / its
            named.append(Conversion(other, factor, offset))
            said = f"{other} made {unit}, which it was already"
            named.append(Conversion(said, 1 / factor, -offset / factor))
    return (*named, *OTHERS)
