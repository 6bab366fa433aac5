"""The section `alerts` of params.yaml."""

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from data.gate_params import Section

Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class Alerts(Section):
    """Who is woken, and when; the addresses are secrets, in EVERGREEN_NOTIFY.

    Attributes:
        level: what is less severe is kept, and sent to nobody.
        repeat_hours: something that goes on is told again after so long.
        quiet_from, quiet_until: warnings wait until these hours are over; equal for no such hours.
        timezone: of these hours.
    """

    level: Literal["info", "warning", "critical"] = "warning"
    repeat_hours: Annotated[float, Field(gt=0)] = 24.0
    quiet_from: Clock = "22:00"
    quiet_until: Clock = "07:00"
    timezone: str = "UTC"

    @field_validator("quiet_from", "quiet_until", mode="before")
    @classmethod
    def _minutes(cls, value: object) -> object:
        """YAML reads 22:00 without quotes as 1320, in base 60."""
        return f"{value // 60:02d}:{value % 60:02d}" if isinstance(value, int) else value

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{name!r} is no time zone, such as Europe/Paris") from error
        return name
