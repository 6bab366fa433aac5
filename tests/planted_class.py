"""The planted problem `CLASS` of `tests.planted_tasks`, as a checkout names one."""

from tests.planted_tasks import CLASS as PROBLEM

__all__ = ["PROBLEM"]
