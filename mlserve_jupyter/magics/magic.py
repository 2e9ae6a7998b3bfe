"""The line magic ``%mlserve`` and what ``%load_ext mlserve_jupyter`` sets up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import needs_local_scope, no_var_expand

from mlserve_jupyter.magics.arguments import split
from mlserve_jupyter.magics.firing import print_firing
from mlserve_jupyter.magics.subcommands import overview, read_line, subcommand
from mlserve_jupyter.magics.warming import warm_in_background

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load(shell: InteractiveShell) -> None:
    """Register the magic and its completion, and have the server get ready for a deploy."""
    from mlserve_jupyter.magics.completion import install

    def mlserve(line: str, local_ns: dict[str, Any] | None = None) -> Any:
        """Serve the models of this notebook; ``%mlserve`` alone lists the subcommands."""
        if local_ns is None or local_ns is shell.user_ns:
            return run(line, shell.user_ns)
        return run(line, {**shell.user_ns, **local_ns})

    # A dict literal in a line is Python: which values are filled in, the arguments know.
    register: Any = shell.register_magic_function  # its type hints are those of a decorator
    magic = no_var_expand(needs_local_scope(mlserve))
    register(magic, magic_kind="line", magic_name="mlserve")
    install(shell)
    warm_in_background()


def run(line: str, namespace: dict[str, Any]) -> Any:
    """Run one line; what comes out depends on the subcommand, hence ``Any``.

    Raises
    ------
    MLServeError
        With one readable line.
    """
    name, rest = read_line(line)
    if name.startswith("#"):
        name = ""
    if name in ("", "help", "-h", "--help"):
        print(overview())
        if not name:
            print_firing()
        return None
    found = subcommand(name)
    if {"-h", "--help"} & set(split(rest)):
        print(found.usage.help)
        return None
    return found.run_line(found.usage.parse(rest, namespace), namespace)
