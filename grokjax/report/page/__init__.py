"""The report as one page that needs nothing else: data, style, script and plotly.js inside."""

import html
import importlib.resources
import json
import re
from typing import Any

_SCRIPTS = ("base", "plots", "overview", "curves", "checkpoint", "run", "runs", "main")


def render(payload: dict[str, Any]) -> str:
    """The page's HTML, of what ``payload.build`` gives.

    With ``live`` set, by ``report.serving``, the page asks where it comes from for what is new.
    """
    from plotly.offline import get_plotlyjs

    own = importlib.resources.files(__name__)
    parts = {
        "title": html.escape(payload["title"]),
        "style": (own / "page.css").read_text(encoding="utf-8"),
        "plotly": get_plotlyjs(),
        "script": "\n".join((own / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS),
        "data": as_json(payload),
    }
    page = (own / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], page)


def as_json(value: Any) -> str:
    """JSON that can stand inside a script element; NaN is refused."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    # Inside a script element only these could end it or begin a comment.
    return text.replace("<", "\\u003c")
