"""The report as one page that needs nothing else: data, style, script and plotly.js inside."""

import base64
import html
import importlib.resources
import json
import re
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

_SCRIPTS = ("base", "groups", "plots", "ink", "overview", "phase", "curves", "checkpoint",
            "coordinate", "run", "runs", "main")  # fmt: skip
_STYLES = ("page", "phase")
_MISSING = 65535
# Base64 of two bytes a value, and of two 4-byte limits a row.
BYTES_A_VALUE, BYTES_A_ROW = 8 / 3, 32 / 3


def render(payload: dict[str, Any]) -> str:
    """The page's HTML, of what ``payload.build`` gives.

    With ``live`` set, by ``report.serving``, the page asks where it comes from for what is new.
    """
    from plotly.offline import get_plotlyjs

    own = importlib.resources.files(__name__)

    def read(name: str) -> str:
        return (own / name).read_text(encoding="utf-8")

    parts = {
        "title": html.escape(payload["title"]),
        "style": "\n".join(read(f"{name}.css") for name in _STYLES),
        "plotly": get_plotlyjs(),
        "script": "\n".join(read(f"{name}.js") for name in _SCRIPTS),
        "data": as_json(payload),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], read("page.html"))


def as_json(value: Any) -> str:
    """JSON that can stand inside a script element; NaN is refused."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    # Inside a script element only these could end it or begin a comment.
    return text.replace("<", "\\u003c")


def floats(rows: ArrayLike) -> dict[str, Any]:
    """A matrix as base64 of float32, (r, c), little-endian; NaN is missing."""
    values = np.asarray(rows, "<f4")
    return {"shape": list(values.shape), "floats": base64.b64encode(values.tobytes()).decode()}


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
