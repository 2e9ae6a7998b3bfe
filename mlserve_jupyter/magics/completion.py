"""What Tab offers behind ``%mlserve``: subcommands, options, objects and models."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.magics.arguments import Argument, Usage
from mlserve_jupyter.magics.namespace import variables
from mlserve_jupyter.magics.sampling import is_rows
from mlserve_jupyter.magics.subcommands import SUBCOMMANDS

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult
    from IPython.core.interactiveshell import InteractiveShell

IDENTIFIER = "mlserve"
SERVER_TIMEOUT_S = 0.5

log = logging.getLogger(__name__)


def install(shell: InteractiveShell) -> None:
    """Have IPython's completer ask here too; again, where the extension is loaded again."""

    @context_matcher(identifier=IDENTIFIER)  # type: ignore[untyped-decorator]
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        offered = complete(context.text_until_cursor, context.token, shell.user_ns)
        found = [text for text in offered if text.startswith(context.token)]
        # What is offered here is all that makes sense there, so that Python's names stay away.
        return {
            "completions": [SimpleCompletion(text) for text in found],
            "matched_fragment": context.token,
            "ordered": False,
            "suppress": bool(found),
            "do_not_suppress": set(),
        }

    matchers = shell.Completer.custom_matchers
    matchers[:] = [
        each for each in matchers if getattr(each, "matcher_identifier", "") != IDENTIFIER
    ]
    matchers.append(matcher)


def complete(line: str, word: str, namespace: Mapping[str, Any]) -> list[str]:
    """List what may stand where the cursor is, whether or not it begins like ``word``.

    Parameters
    ----------
    line
        The line up to the cursor.
    word
        What of it is completed.
    namespace
        The notebook's variables.
    """
    words = line.split()
    if not words or words.pop(0) != "%mlserve":
        return []
    if words and not line[-1:].isspace():
        words.pop()
    if not words:
        return list(SUBCOMMANDS)
    if words[0] not in SUBCOMMANDS:
        return []
    usage = SUBCOMMANDS[words[0]].usage
    if word.startswith("-"):
        given = {each.partition("=")[0] for each in words}
        return [a.name for a in usage.arguments if a.is_option and a.name not in given]
    argument = _argument_at_cursor(usage, words[1:])
    return [] if argument is None else _values(argument, namespace)


def _argument_at_cursor(usage: Usage, words: list[str]) -> Argument | None:
    """Tell which argument the next word is, behind the words before it."""
    options = {argument.name: argument for argument in usage.arguments if argument.is_option}
    places = [argument for argument in usage.arguments if not argument.is_option]
    waiting: Argument | None = None
    for word in words:
        if waiting is not None:
            waiting = None
        elif word.startswith("--"):
            option = options.get(word)
            waiting = option if option is not None and option.kind != "flag" else None
        elif places:
            places.pop(0)
    return waiting or (places[0] if places else None)


def _values(argument: Argument, namespace: Mapping[str, Any]) -> list[str]:
    if argument.choices:
        return list(argument.choices)
    if argument.completes == "models":
        return _models()
    if argument.completes == "servables":
        return [name for name, value in variables(namespace) if _is_servable(value)]
    if argument.completes == "frames":
        return [name for name, value in variables(namespace) if is_rows(value)]
    return []


def _is_servable(value: Any) -> bool:
    """Whether a variable is offered for a deploy; of functions only the notebook's own are."""
    from mlserve_jupyter.artifacts.methods import servable_methods

    if isinstance(value, type | ModuleType) or is_rows(value):
        return False
    methods = servable_methods(value)
    if list(methods) == ["__call__"]:
        return getattr(value, "__module__", None) == "__main__"
    return bool(methods)


def _models() -> list[str]:
    """Ask the server for its models; without one, Tab offers nothing."""
    from mlserve_jupyter.client.http import connect

    try:
        return [model.name for model in connect().models(timeout_s=SERVER_TIMEOUT_S)]
    except MLServeError:
        log.debug("The models' names could not be completed.", exc_info=True)
        return []
