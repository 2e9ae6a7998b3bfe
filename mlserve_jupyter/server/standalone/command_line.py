"""What the command line and the configuration files may say: misspelled words are refused.

traitlets warns of them, once for each time that it reads them, and goes on without.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from traitlets import HasTraits
from traitlets.config import Config
from traitlets.config.application import Application

from mlserve_jupyter.errors import SettingsInvalid

COMMANDS: Mapping[str, str] = {
    "key": "print the key that callers send",
    "admin": "make an administrator, or set a password",
    "db": "look at the database, upgrade it, archive and restore predictions",
    "openapi": "print the description of the REST API",
}

_HELP = ("h", "help", "help-all", "version")
_OPTION = re.compile(r"--?([A-Za-z][^=]*)")


def check_options(app: Application, arguments: Sequence[str]) -> None:
    """Refuse arguments that name no option.

    Raises
    ------
    SettingsInvalid
        Naming the option that was probably meant.
    """
    known = _options(app)
    for argument in arguments:
        if argument == "--":
            return
        found = _OPTION.match(argument)
        if found is not None and found[1] not in known:
            written = argument.partition("=")[0]
            meant = _closest(found[1], known)
            raise SettingsInvalid(f"There is no option {written[:80]}.{_did_you_mean('--', meant)}")


def check_words(words: Sequence[str]) -> None:
    """Refuse what is neither an option nor an option's value.

    Raises
    ------
    SettingsInvalid
        Listing the commands.
    """
    if not words:
        return
    if words[0] in COMMANDS:
        raise SettingsInvalid(
            f"A command comes first, and its options then: `jupyter mlserve {words[0]} …`."
        )
    listed = "; ".join(f"`{name}` ({what})" for name, what in COMMANDS.items())
    meant = _did_you_mean("", _closest(words[0], COMMANDS))
    raise SettingsInvalid(
        f"There is no command {words[0][:80]!r}.{meant} The commands are {listed}; options alone "
        "start a server."
    )


def check_config(app: Application, config: Config) -> None:
    """Refuse a value of this application that is none of its options.

    Raises
    ------
    SettingsInvalid
        Naming the option that was probably meant.
    """
    section = type(app).__name__
    names = app.trait_names(config=True)
    for name in config.get(section, {}):
        if name not in names:
            meant = _did_you_mean(f"c.{section}.", _closest(name, names))
            raise SettingsInvalid(f"There is no option c.{section}.{name[:80]}.{meant}")


def _options(app: Application) -> set[str]:
    names = {*_HELP}
    for keys in (*app.aliases, *app.flags):
        names.update((keys,) if isinstance(keys, str) else keys)
    for each in type(app).__mro__:
        if issubclass(each, HasTraits):
            names.update(f"{each.__name__}.{name}" for name in each.class_trait_names(config=True))
    return names


def _closest(word: str, known: Iterable[str]) -> str | None:
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def _did_you_mean(prefix: str, word: str | None) -> str:
    return f" Did you mean {prefix}{word}?" if word else ""
