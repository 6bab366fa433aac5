"""The planted problem `NUMBER` of `tests.planted_tasks`, as a checkout names one."""

from tests.planted_tasks import NUMBER as PROBLEM

__all__ = ["PROBLEM"]
