"""Numbers as text: matrices in little of a page, as exactly as a picture needs them."""

import base64
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MISSING = 65535
# Base64 of two bytes a value, and of two 4-byte limits a row.
BYTES_A_VALUE = 8 / 3


def pack(rows: ArrayLike) -> dict[str, Any]:
    """A matrix as 16-bit steps between the least and the greatest value of each row.

    What is read back lies within 1/131,068 of the row's range of the value, plus the rounding of
    the limits to float32. What is not finite is missing.

    Returns:
        For JSON: ``shape``, ``limits`` (base64 of float32, (r, 2)) and ``data`` (base64
        of uint16, little-endian, (r, c); 65535 is missing).
    """
    values = np.array(rows, np.float64, ndmin=2)
    there = np.isfinite(values)
    some = there.any(axis=1)
    low = np.where(some, np.where(there, values, np.inf).min(axis=1, initial=np.inf), 0)
    high = np.where(some, np.where(there, values, -np.inf).max(axis=1, initial=-np.inf), 0)
    span = np.where(high > low, high - low, 1)
    steps = np.where(there, values - low[:, None], 0) / span[:, None] * (_MISSING - 1)
    data = np.where(there, np.rint(steps), _MISSING).astype("<u2")
    limits = np.stack([low, high], axis=1).astype("<f4")
    return {
        "shape": list(values.shape),
        "limits": base64.b64encode(limits.tobytes()).decode(),
        "data": base64.b64encode(data.tobytes()).decode(),
    }


def unpack(packed: dict[str, Any]) -> NDArray[np.float64]:
    """What `pack` made, as float64 with NaN for what is missing."""
    limits = np.frombuffer(base64.b64decode(packed["limits"]), "<f4").reshape(-1, 2)
    data = np.frombuffer(base64.b64decode(packed["data"]), "<u2").reshape(packed["shape"])
    low, high = limits.astype(np.float64).T[:, :, None]
    return np.where(data == _MISSING, np.nan, low + data / (_MISSING - 1) * (high - low))
