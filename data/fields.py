"""The fields of a request, declared once: contract, partition and endpoint are built from them.

Nothing here imports pandas: the server reads the same declarations from the artefact.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["text", "number", "integer", "timestamp"]


@dataclass(frozen=True)
class Field:
    """One raw field that is known at the moment of decision.

    `minimum` and `maximum` are inclusive; `values` closes a text field's domain (without it an
    unseen category is allowed and counted). `unit` is a name of `data.units`, for the batch rules;
    the server has no use for it.
    """

    name: str
    kind: Kind
    doc: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] | None = None
    unit: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "unit"}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Field":
        values = value["values"]
        return cls(**{**value, "values": None if values is None else tuple(values)})
