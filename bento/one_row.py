"""One row through ONNX Runtime over memory that is bound once.

Wrapping the row anew each time would take a quarter of what the model itself needs.
"""

from threading import Lock
from typing import Any

import numpy as np


class OneRow:
    """A session with a row of so many features, and so many columns of its output."""

    def __init__(self, session: Any, width: int, output: str, columns: int) -> None:
        self._run, self._turn = session.run_with_iobinding, Lock()
        self._row = row = np.zeros((1, width), dtype=np.float32)
        self._found = found = np.zeros((1, columns), dtype=np.float32)
        self._bound, where, name = session.io_binding(), ("cpu", 0), session.get_inputs()[0].name
        self._bound.bind_input(name, *where, row.dtype, row.shape, row.ctypes.data)
        self._bound.bind_output(output, *where, found.dtype, found.shape, found.ctypes.data)

    def run(self, matrix: np.ndarray) -> np.ndarray:
        """The output, shape (1, columns), for features of shape (1, width)."""
        with self._turn:
            self._row[:] = matrix
            self._run(self._bound)
            return self._found.copy()
