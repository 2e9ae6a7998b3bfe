"""Set everything up and run all tests; ``--quick`` leaves out the slow ones.

All run on what an installation has embedded, and then those that touch a store once more on servers
(``tests/server_stores.py``). Other arguments go to pytest as they are, such as
``tests/serving -k deadline``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

from environment import ROOT, Environment, SetupFailed, Steps

STORES = ("embedded", "servers")
NO_TESTS = 5
"""Pytest's exit code where it found none to run."""

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def main() -> int:
    """Run the command; the exit code is pytest's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the slow tests")
    parser.add_argument(
        "--stores",
        choices=STORES,
        help="run on these only; with --quick the default is embedded",
    )
    options, arguments = parser.parse_known_args()
    passes = (options.stores,) if options.stores else STORES[:1] if options.quick else STORES
    steps = Steps((1 if options.quick else 2) + len(passes))
    environment = Environment(
        ".venv-test", ("dev", "docs", "lab", "sklearn", "test"), editable=True
    )
    variables = environment.variables
    try:
        steps.say(f"Installing into {environment.path} (the first time takes a minute or two)")
        environment.ensure()
        if not options.quick:
            steps.say("Looking for Chromium, Docker Compose and promtool")
            install_missing()
            variables["MLSERVE_CHROMIUM"] = require_chromium()
    except SetupFailed as error:
        print(f"test: {error}", file=sys.stderr)
        return 1
    selection = ["-m", "not slow"] if options.quick else []
    exit_codes = []
    for stores in passes:
        steps.say(f"Running the tests on {stores} stores")
        command = [str(environment.python), "-m", "pytest", "--stores", stores]
        done = subprocess.run(
            [*command, *selection, *arguments], cwd=ROOT, env=variables, check=False
        )
        exit_codes.append(done.returncode)
    if len(passes) > 1 and exit_codes[-1] == NO_TESTS:
        exit_codes.pop()  # none of those that were asked for touches a store
    return max(exit_codes)


def find_chromium() -> str | None:
    """Return the path of a Chromium or a Chrome, or None."""
    named = os.environ.get("MLSERVE_CHROMIUM")
    if named:
        return named
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def require_chromium() -> str:
    """Return the path of a Chromium or a Chrome.

    Raises
    ------
    SetupFailed
        There is none; the message says what to install.
    """
    found = find_chromium()
    if found is None:
        raise SetupFailed(
            "The browser tests need Chromium: install it (on Debian: apt-get install chromium), or "
            "set MLSERVE_CHROMIUM to the path of a Chrome, or leave them out with --quick."
        )
    return found


def find_compose() -> str | None:
    """Return how Docker Compose is called, or None."""
    asked = ["docker", "compose", "version"]
    if shutil.which("docker") and not subprocess.run(asked, capture_output=True).returncode:
        return "docker compose"
    return shutil.which("docker-compose")


def install_missing() -> None:
    """Install what tests need from the system's packages, if this process may.

    Tests of the files for operators are skipped without the programs that read them.
    """
    wanted = {
        "chromium": find_chromium,
        "docker-compose": find_compose,
        "prometheus": lambda: shutil.which("promtool"),
    }
    missing = [package for package, find in wanted.items() if find() is None]
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if missing and is_root and shutil.which("apt-get"):
        print(f"      installing {', '.join(missing)} with apt-get", flush=True)
        variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["install", "--yes", "--no-install-recommends"]
        # One by one: a package that there is not would keep the others out.
        for command in (["update"], *([*install, package] for package in missing)):
            subprocess.run(
                ["apt-get", "-q", *command], env=variables, capture_output=True, check=False
            )
    for package in missing:
        if wanted[package]() is None and package != "chromium":
            print(f"      without {package}, tests of docs/operations are skipped", flush=True)


if __name__ == "__main__":
    sys.exit(main())
