"""The line magic ``%mlserve`` and what ``%load_ext mlserve_jupyter`` sets up."""

from __future__ import annotations

import logging
import sys
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from IPython.core.magic import no_var_expand

from mlserve_jupyter.magics.arguments import split
from mlserve_jupyter.magics.subcommands import overview, subcommand

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

log = logging.getLogger(__name__)


def load(shell: InteractiveShell) -> None:
    """Register the magic and its completion, and have the server get ready for a deploy."""
    from mlserve_jupyter.magics.completion import install

    def mlserve(line: str) -> Any:
        """Serve the models of this notebook; ``%mlserve`` alone lists the subcommands."""
        return run(line, shell.user_ns)

    # A dict literal in a line is Python, and not a variable to be filled in.
    register: Any = shell.register_magic_function  # its type hints are those of a decorator
    register(no_var_expand(mlserve), magic_kind="line", magic_name="mlserve")
    install(shell)
    threading.Thread(target=_warm, name="mlserve-warm", daemon=True).start()


def run(line: str, namespace: dict[str, Any]) -> Any:
    """Run one line; what comes out depends on the subcommand, hence ``Any``.

    Raises
    ------
    MLServeError
        With one readable line.
    """
    name, _, rest = line.strip().partition(" ")
    if name in ("", "help", "-h", "--help"):
        print(overview())
        return None
    found = subcommand(name)
    if {"-h", "--help"} & set(split(rest)):
        print(found.usage.help)
        return None
    return found.run_line(found.usage.parse(rest), namespace)


def _warm() -> None:
    """Import what a deploy needs, and ask the server to start a worker for this interpreter.

    Only so that the first deploy is fast: whatever fails here, the deploy will say.
    """
    try:
        from mlserve_jupyter.client.http import connect
        from mlserve_jupyter.magics import deploy as _  # noqa: F401

        connect().warm(sys.executable, _likely_modules())
    except Exception:  # nothing that goes wrong here may reach the notebook
        log.debug("The server was not asked to get ready.", exc_info=True)


def _likely_modules() -> list[str]:
    """Name the modules that the models of this notebook will need, as far as one can tell."""
    loaded = [
        name
        for name in list(sys.modules)
        if name.startswith("sklearn.") and name.count(".") == 1 and "._" not in name
    ]
    if loaded:
        return [*sorted(loaded), *(["pandas"] if "pandas" in sys.modules else [])]
    # Nothing has been fitted yet: what most notebooks come to use.
    wanted = ("sklearn.compose", "sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline")
    return [*wanted, "pandas"] if find_spec("sklearn") else []
