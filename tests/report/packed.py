"""Reads packed numbers back, as the page's script does."""

import base64

import numpy as np


def unpack(packed):
    """What `page.pack` made, as float64 with NaN for what is missing."""
    limits = np.frombuffer(base64.b64decode(packed["limits"]), "<f4").reshape(-1, 2)
    data = np.frombuffer(base64.b64decode(packed["data"]), "<u2").reshape(packed["shape"])
    low, high = limits.astype(np.float64).T[:, :, None]
    return np.where(data == 65535, np.nan, low + data / 65534 * (high - low))


def floats(packed):
    """What `page.floats` made."""
    return np.frombuffer(base64.b64decode(packed["floats"]), "<f4").reshape(packed["shape"])
