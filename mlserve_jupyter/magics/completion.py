"""What Tab offers behind ``%mlserve``: subcommands, options, objects and models."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.magics.arguments import Argument, Usage, split_open, unquoted
from mlserve_jupyter.magics.namespace import variables
from mlserve_jupyter.magics.sampling import is_rows
from mlserve_jupyter.magics.subcommands import GROUPS, SUBCOMMANDS

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult
    from IPython.core.interactiveshell import InteractiveShell

    from mlserve_jupyter.api.resources import DescribeVersion

IDENTIFIER = "mlserve"
SERVER_TIMEOUT_S = 0.5

_KEY_OF_VARIABLE = re.compile(r"""(\w+)\s*\[.*["']([^"'\]]*)""", re.DOTALL)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """What may stand at the cursor.

    Attributes
    ----------
    typed
        What stands there already.
    words
        What it may become.
    """

    typed: str
    words: Sequence[str]


def install(shell: InteractiveShell) -> None:
    """Have IPython's completer ask here too; again, where the extension is loaded again."""

    @context_matcher(identifier=IDENTIFIER)  # type: ignore[untyped-decorator]
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        offer = complete(context.text_until_cursor, shell.user_ns)
        typed = context.token if offer is None else offer.typed
        found = [] if offer is None else [w for w in offer.words if w.startswith(typed)]
        if offer is not None and not found:
            # IPython keeps Python's names away only where there is something in their place.
            found = [typed]
        return {
            "completions": [SimpleCompletion(text) for text in found],
            "matched_fragment": typed,
            "ordered": False,
            # What is offered here is all that makes sense there.
            "suppress": offer is not None,
            "do_not_suppress": set(),
        }

    matchers = shell.Completer.custom_matchers
    matchers[:] = [
        each for each in matchers if getattr(each, "matcher_identifier", "") != IDENTIFIER
    ]
    matchers.append(matcher)


def complete(line: str, namespace: Mapping[str, Any]) -> Offer | None:
    """Offer what may stand at the end of a line; None leaves it to Python's own completion.

    Parameters
    ----------
    line
        The line up to the cursor.
    namespace
        The notebook's variables.
    """
    words, typed, _ = split_open(line)
    if not words or words.pop(0) != "%mlserve":
        return None
    if not words:
        return Offer(typed, list(dict.fromkeys(name.split()[0] for name in SUBCOMMANDS)))
    subcommand = words.pop(0)
    if subcommand in GROUPS:
        if not words:
            return Offer(typed, GROUPS[subcommand])
        subcommand += f" {words.pop(0)}"
    if subcommand not in SUBCOMMANDS:
        return Offer(typed, [])
    usage = SUBCOMMANDS[subcommand].usage
    argument, given = _at_cursor(usage, words)
    options = {each.name: each for each in usage.arguments if each.is_option}
    name, equals, value = typed.partition("=")
    if equals and name in options:
        argument, typed = options[name], value
    elif typed.startswith("-") or argument is None:
        taken = {word.partition("=")[0] for word in words}
        return Offer(typed, [each for each in options if each not in taken])
    if argument.kind == "expression" and typed and not typed.isidentifier():
        return _keys(typed, namespace)
    values = _values(argument, given, namespace)
    if argument.kind == "list":
        before = typed.rpartition(",")
        values = ["".join(before[:2]) + each for each in values if each not in typed.split(",")]
    return Offer(typed, values)


def _at_cursor(usage: Usage, words: list[str]) -> tuple[Argument | None, dict[str, str]]:
    """Tell which argument the next word is, and what the words before it are."""
    options = {argument.name: argument for argument in usage.arguments if argument.is_option}
    places = [argument for argument in usage.arguments if not argument.is_option]
    given: dict[str, str] = {}
    waiting: Argument | None = None
    for word in words:
        if waiting is not None:
            waiting = None
        elif word.startswith("--"):
            option = options.get(word)
            waiting = option if option is not None and option.kind != "flag" else None
        elif places:
            given[places.pop(0).key] = word
    return waiting or (places[0] if places else None), given


def _keys(typed: str, namespace: Mapping[str, Any]) -> Offer | None:
    """Offer the columns of a frame, or the keys of a dict, behind an opening quote."""
    found = _KEY_OF_VARIABLE.fullmatch(typed)
    if found is None:
        return None
    holder = namespace.get(found[1])
    keys = getattr(holder, "columns", holder if isinstance(holder, Mapping) else ())
    return Offer(found[2], [key for key in keys if isinstance(key, str)])


def _values(
    argument: Argument, given: Mapping[str, str], namespace: Mapping[str, Any]
) -> list[str]:
    if argument.choices:
        return list(argument.choices)
    if argument.completes == "models":
        return _models()
    if argument.completes == "versions":
        return [str(each.version) for each in _versions(given)]
    if argument.completes == "keys":
        return _names_of_keys()
    if argument.completes == "methods":
        return _methods(given, namespace)
    if argument.completes == "servables":
        return [name for name, value in variables(namespace) if _is_servable(value)]
    if argument.completes == "frames":
        return [name for name, value in variables(namespace) if is_rows(value)]
    return []


def _methods(given: Mapping[str, str], namespace: Mapping[str, Any]) -> list[str]:
    """List the methods of the object that is deployed, or of the model that is called."""
    from mlserve_jupyter.artifacts.methods import servable_methods

    if "obj" in given:
        obj = namespace.get(given["obj"])
        return [] if obj is None or is_rows(obj) else servable_methods(obj)
    versions = _versions(given)
    return list(dict.fromkeys(method for each in versions for method in each.methods))


def _is_servable(value: Any) -> bool:
    """Whether a variable is offered for a deploy; of functions only the notebook's own are."""
    from mlserve_jupyter.artifacts.methods import servable_methods

    if isinstance(value, type | ModuleType) or is_rows(value):
        return False
    methods = servable_methods(value)
    if methods == ["__call__"]:
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


def _names_of_keys() -> list[str]:
    """Ask the server for the names of the caller's keys."""
    from mlserve_jupyter.client.http import connect

    try:
        return [key.name for key in connect().keys(timeout_s=SERVER_TIMEOUT_S)]
    except MLServeError:
        log.debug("The keys' names could not be completed.", exc_info=True)
        return []


def _versions(given: Mapping[str, str]) -> list[DescribeVersion]:
    """Ask the server for the versions of the model that a line names."""
    from mlserve_jupyter.client.http import connect

    try:
        name = unquoted(given.get("name", ""))
        return connect().versions(name, timeout_s=SERVER_TIMEOUT_S) if name else []
    except MLServeError:
        log.debug("The versions could not be completed.", exc_info=True)
        return []
