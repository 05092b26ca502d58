"""HTML pages that need nothing else: text, tables and figures in one file. Tables as Markdown."""

import base64
import html
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; }
th { position: sticky; top: 0; background: #fff; border-bottom: 2px solid #888; }
th.text, td.text { text-align: left; }
.scroll { overflow: auto; max-height: 34rem; border: 1px solid #ddd; }
.agree { color: #005a8c; font-weight: 600; } .differ { color: #a34400; font-weight: 600; }
.none { color: #666; } .note { background: #fff6dd; padding: .6rem .9rem; }
figure { margin: 1rem 0; } figure img { width: 100%; max-width: 56rem; border: 1px solid #eee; }
figcaption { color: #444; font-size: 13px; }
"""


def document(title: str, body: Sequence[str]) -> str:
    """A whole page."""
    head = f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    heading = f"<h1>{html.escape(title)}</h1>"
    content = "\n".join([heading, *body])
    return (
        f'<!doctype html><html lang="en"><head>{meta}{head}</head><body>{content}</body></html>\n'
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def number(value: Any) -> str:
    """A number in three significant digits, thousands grouped; a dash where there is none."""
    if value is None or pd.isna(value):
        return "–"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{int(value):,}"


def table(
    frame: pd.DataFrame,
    headings: Mapping[str, str] | None = None,
    kinds: Callable[[Mapping[str, Any], str], str] = lambda row, column: "",
) -> str:
    """Columns of a frame as a table that scrolls.

    Args:
        frame: the rows.
        headings: column → what stands above it; only these columns are shown. Default: all, under
            their own names.
        kinds: (row, column) → CSS class of a cell.
    """
    headings = headings or {str(name): str(name) for name in frame}
    textual = {name: not pd.api.types.is_numeric_dtype(frame[name]) for name in headings}
    head = "".join(
        f'<th class="{"text" if textual[name] else ""}">{html.escape(text)}</th>'
        for name, text in headings.items()
    )
    rows = []
    for row in frame.to_dict("records"):
        cells = []
        for name in headings:
            text = str(row[name]) if textual[name] else number(row[name])
            classes = f"{'text' if textual[name] else ''} {kinds(row, name)}".strip()
            cells.append(f'<td class="{classes}">{html.escape(text)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, its numbers as `number` writes them."""
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * len(frame.columns)]
    for row in frame.itertuples(index=False):
        cells = [cell if isinstance(cell, str) else number(cell) for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(path: pathlib.Path, caption: str) -> str:
    """An SVG inside the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    text = html.escape(caption)
    return f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'
