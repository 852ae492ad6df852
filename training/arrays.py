"""Types of the arrays that every stage hands on: float64, int64 and bool; each docstring states the shapes."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
