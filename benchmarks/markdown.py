"""Prints the results of a run as Markdown: ``python -m benchmarks.markdown FILE [NAME…]``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def tables(whole: dict[str, Any], names: list[str]) -> Iterator[str]:
    """Yield lines: where and when, the figures, and then the measurements."""
    for name in names or whole["commands"]:
        result = whole["commands"][name]
        machine, versions = result["machine"], result["versions"]
        yield f"## `python -m benchmarks {name}`\n"
        changed = ", changed" if result["is_changed"] else ""
        yield (
            f"{result['date']}, commit {result['commit']}{changed}; {machine['cores']} cores of "
            f"{machine['processor']}, {machine['memory_gib']} GiB, {machine['system']}; "
            + ", ".join(f"{library} {version}" for library, version in versions.items())
            + ("; quick, so that the figures mean nothing" if result["is_quick"] else "")
            + ".\n"
        )
        if result["figures"]:
            yield "| what | measured | must | aim | |"
            yield "|---|---|---|---|---|"
            for figure in result["figures"]:
                yield _figure(figure)
            yield ""
        yield from _measurements(result["measurements"])


def _figure(figure: dict[str, Any]) -> str:
    required = figure["requirement"]
    must = aim = ""
    if required is not None:
        must = ("≤ " if required["at_most"] else "≥ ") + f"{required['must']:g}"
        aim = "" if required["aim"] is None else f"{required['aim']:g}"
    verdict = " ".join(part for part in (figure["verdict"], figure["note"]) if part)
    cells = [figure["what"], f"{shown(figure['value'])} {figure['unit']}", must, aim, verdict]
    return "| " + " | ".join(cells) + " |"


def _measurements(measurements: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table for each run of measurements that have the same columns."""
    before: list[str] = []
    for measurement in measurements:
        columns = list(measurement)
        if columns != before:
            if before:
                yield ""
            yield "| " + " | ".join(columns) + " |"
            yield "|" + "---|" * len(columns)
            before = columns
        yield "| " + " | ".join(shown(value) for value in measurement.values()) + " |"
    yield ""


def shown(value: float | int | str) -> str:
    """Return a value in as many digits as mean something."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    for line in tables(json.loads(Path(sys.argv[1]).read_bytes()), sys.argv[2:]):
        print(line)
