"""Installs peers, each into a virtual environment of its own.

``python -m benchmarks.peers.install --into FOLDER fastapi mlserver litserve``; without names, all.
Each then fits and saves the models with the libraries that it has come with.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.peers.catalog import PEERS, Peer

ROOT = Path(__file__).parents[2]
DEFAULT_FOLDER = Path("~/.cache/mlserve_jupyter/peers").expanduser()


def install(peer: Peer, folder: Path) -> None:
    """Install a peer, unless it is there already.

    Raises
    ------
    subprocess.CalledProcessError
        If ``pip`` does, or if the models cannot be saved.
    """
    venv = folder / peer.name
    if is_installed(peer, folder):
        return
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = str(venv / "bin" / "python")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         *peer.requirements, "scikit-learn"],
        check=True,
    )  # fmt: skip
    subprocess.run(
        [python, "-m", "benchmarks.peers.save", str(venv / "models")], check=True, cwd=ROOT
    )


def is_installed(peer: Peer, folder: Path) -> bool:
    """Whether a peer can be started."""
    return (folder / peer.name / "models" / "saved").exists()


def version_of(peer: Peer, folder: Path) -> str:
    """Return the version of a peer that is installed."""
    code = f"import importlib.metadata as m; print(m.version({peer.distribution!r}))"
    python = str(folder / peer.name / "bin" / "python")
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main() -> int:
    """Install; returns 1 if any peer could not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("names", nargs="*", metavar="peer", help=", ".join(PEERS))
    options = parser.parse_args()
    failed = 0
    for name in options.names or PEERS:
        started = time.monotonic()
        try:
            install(PEERS[name], options.into.resolve())
        except subprocess.CalledProcessError as error:
            print(f"{name:10} was not installed: {error}", flush=True)
            failed = 1
        else:
            print(f"{name:10} {time.monotonic() - started:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
