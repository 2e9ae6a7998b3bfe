"""What a run has measured: printed as it goes, and kept as JSON.

Each figure that the project is held to comes with its requirement, and says whether it is met.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.markdown import shown

ROOT = Path(__file__).parents[1]
LIBRARIES = (
    "jupyter-server", "tornado", "uvloop", "msgspec", "numpy", "scikit-learn", "onnxruntime",
    "ipykernel", "pyarrow",
)  # fmt: skip


@dataclass(frozen=True)
class Requirement:
    """What a figure must reach, and what is aimed for.

    Attributes
    ----------
    at_most
        Whether less is better.
    """

    must: float
    aim: float | None = None
    at_most: bool = False

    def is_met_by(self, value: float) -> bool:
        """Whether a figure is good enough."""
        return value <= self.must if self.at_most else value >= self.must

    def __str__(self) -> str:
        return ("≤ " if self.at_most else "≥ ") + f"{self.must:g}"


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes
    ----------
    what
        In words.
    unit
        ``×`` for ratios.
    note
        What else a reader must know, such as errors that occurred.
    """

    what: str
    value: float
    unit: str
    requirement: Requirement | None = None
    is_spoiled: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """``pass``, ``FAIL``, or nothing where nothing is required."""
        if self.requirement is None:
            return "FAIL" if self.is_spoiled else ""
        met = self.requirement.is_met_by(self.value) and not self.is_spoiled
        return "pass" if met else "FAIL"


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes
    ----------
    is_quick
        Whether to find out if everything works rather than how fast.
    peers
        Folder in which peers are installed.
    """

    is_quick: bool = False
    peers: Path = Path()

    def seconds(self, usual: int) -> int:
        """Return how long to load something."""
        return 1 if self.is_quick else usual

    def rounds(self, usual: int) -> int:
        """Return how often to measure something."""
        return 1 if self.is_quick else usual


class Report:
    """What one command measures.

    Parameters
    ----------
    command
        Its name.
    path
        The JSON file, which other commands add to as well; None for none.
    """

    def __init__(self, command: str, options: Options, path: Path | None = None) -> None:
        self.figures: list[Figure] = []
        self.measurements: list[dict[str, Any]] = []
        self._command = command
        self._options = options
        self._path = path
        self._started_at = datetime.now(timezone.utc)

    def measured(self, what: str, **values: float | int | str) -> None:
        """Take note of a measurement, and print it."""
        self.measurements.append({"what": what, **values})
        line = "  ".join(f"{name}={shown(value)}" for name, value in values.items())
        print(f"  {what:32} {line}", flush=True)
        self._save()

    def figure(
        self,
        what: str,
        value: float,
        unit: str = "×",
        requirement: Requirement | None = None,
        *,
        is_spoiled: bool = False,
        note: str = "",
    ) -> None:
        """Take note of a figure that is judged."""
        self.figures.append(Figure(what, value, unit, requirement, is_spoiled, note))
        self._save()

    def print_figures(self) -> None:
        """Print the figures, those that are judged first."""
        print(f"\n{self._command:60}{'measured':>12}{'must':>10}{'aim':>8}")
        for figure in sorted(self.figures, key=lambda figure: figure.requirement is None):
            required = figure.requirement
            aim = "" if required is None or required.aim is None else f"{required.aim:g}"
            print(
                f"{figure.what:60}{shown(figure.value) + ' ' + figure.unit:>12}"
                f"{str(required or ''):>10}{aim:>8}  {figure.verdict:5}{figure.note}"
            )
        print(flush=True)

    def _save(self) -> None:
        """Write what there is so far, beside what other commands have written."""
        if self._path is None:
            return
        whole: dict[str, Any] = {"commands": {}}
        if self._path.exists():
            whole = json.loads(self._path.read_bytes())
        now = datetime.now(timezone.utc)
        whole["commands"][self._command] = {
            **circumstances(),
            "date": self._started_at.isoformat(timespec="seconds"),
            "took_s": round((now - self._started_at).total_seconds()),
            "is_quick": self._options.is_quick,
            "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in self.figures],
            "measurements": self.measurements,
        }
        new = self._path.with_name(self._path.name + ".new")
        new.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
        new.replace(self._path)


def circumstances() -> dict[str, Any]:
    """Return what figures depend on: the machine, the commit and the versions."""
    return {
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(_memory_bytes() / 2**30, 1),
            "load": os.getloadavg()[0],
        },
        "commit": _git("rev-parse", "--short", "HEAD"),
        "is_changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
