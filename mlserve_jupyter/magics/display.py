"""What subcommands return: objects with a rich and a plain display.

Everything that is shown is text: names, notes and messages, which may be of people who mean harm,
are escaped for HTML or a terminal, and the colours come from the theme of JupyterLab where there is
one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from html import escape
from typing import Any

from mlserve_jupyter.plain_text import one_line, plain
from mlserve_jupyter.widgets.units import counted as counted

_FONT = "font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,13px)"
_BOX = (
    "background:var(--jp-layout-color2,#eee);color:var(--jp-content-font-color1,inherit);"
    f"padding:6px 10px;margin:4px 0;overflow:auto;white-space:pre;{_FONT}"
)
_CELL = "text-align:left;padding:3px 12px 3px 0;vertical-align:top"
_DIM = "color:var(--jp-content-font-color2,#666)"


class Display(ABC):
    """An object that a notebook shows as HTML and everything else as text."""

    @abstractmethod
    def _html(self) -> str: ...

    @abstractmethod
    def _text(self) -> str: ...

    def __repr__(self) -> str:
        """Give the plain display."""
        return plain(self._text())

    def _repr_html_(self) -> str:
        return f'<div class="jp-mlserve-result">{self._html()}</div>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


def html_text(text: str, *, dim: bool = False, bold: bool = False) -> str:
    """Show text as it is."""
    style = (_DIM if dim else "") + (";font-weight:600" if bold else "")
    return f'<span style="{style}">{escape(text)}</span>' if style else escape(text)


def html_paragraph(content: str) -> str:
    """Put HTML of this module into a paragraph."""
    return f'<div style="margin:4px 0">{content}</div>'


def html_code(text: str) -> str:
    """Show a block of code."""
    return f'<pre style="{_BOX}">{escape(text)}</pre>'


def html_inline_code(text: str) -> str:
    """Show code within a line."""
    return f'<code style="{_FONT}">{escape(text)}</code>'


def html_details(summary: str, content: str) -> str:
    """Fold HTML of this module away behind a line."""
    return (
        f'<details style="margin:4px 0"><summary style="cursor:pointer">{escape(summary)}'
        f"</summary>{content}</details>"
    )


def html_warnings(warnings: Iterable[str]) -> str:
    """Show warnings, a line each."""
    style = (
        "border-left:3px solid var(--jp-warn-color1,#e65100);padding:2px 8px;margin:4px 0;"
        "color:var(--jp-content-font-color1,inherit)"
    )
    return "".join(f'<div style="{style}">{escape(warning)}</div>' for warning in warnings)


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Show a table of text."""
    head = "".join(f'<th style="{_CELL}">{escape(name)}</th>' for name in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return (
        '<table style="border-collapse:collapse"><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Show a table of text in columns, a line a row."""
    lines = [[one_line(cell) for cell in line] for line in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def text_facts(facts: Iterable[tuple[str, str]], width: int) -> list[str]:
    """Show facts, each below the other, with its name ahead of it.

    What follows a newline is below the fact rather than the name, so that it is no other fact.
    """
    below = "\n" + " " * (2 + width)
    return [f"  {name:{width}}{value}".replace("\n", below) for name, value in facts]


def size(n_bytes: int) -> str:
    """Show a number of bytes."""
    value = float(n_bytes)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"


def ago(time: datetime | None) -> str:
    """Show how long ago something was."""
    if time is None:
        return "never"
    seconds = (datetime.now(timezone.utc) - time).total_seconds()
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{seconds // length_s:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def with_article(name: str) -> str:
    """Show the name of a class at the start of a sentence: ``A Ridge``, ``An SVC``."""
    spelled = len(name) > 1 and name[:2].isupper()
    vowels = "AEFHILMNORSX" if spelled else "AEIOUaeiou"
    return f"{'An' if name[0] in vowels or name == 'ndarray' else 'A'} {name}"
