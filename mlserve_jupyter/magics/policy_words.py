"""What the prediction log keeps of a model's calls, as it is written in a line and said."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import UNSET

from mlserve_jupyter.api.log_policy import LogChanges, LogPolicy
from mlserve_jupyter.errors import InvalidUsage
from mlserve_jupyter.magics.arguments import Argument

LOG = Argument(
    "--log",
    "What is logged of its calls: all, 10% of them, or none; with or without inputs.",
    value="all|N%|none|inputs|no-inputs",
)
LOG_WITHOUT = Argument(
    "--log-without",
    "Input columns that are left out of the log from now on; '' for none.",
    "list",
    value="COLUMN,…",
)

_SHARES = {"all": 1.0, "none": 0.0}
_INPUTS = {"inputs": True, "no-inputs": False}

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)(\s*%)?")


def changes_of(log: str | float | None, without: Sequence[str] | None) -> LogChanges | None:
    """Return what is to change of the policy; None where nothing is said.

    Parameters
    ----------
    log
        ``all``, ``none``, or a share such as ``10%`` or 0.1; ``inputs`` or ``no-inputs``.
    without
        All the input columns that are left out; ``[]`` or ``[""]`` for none.

    Raises
    ------
    InvalidUsage
        It is none of these.
    """
    if log is None and without is None:
        return None
    if isinstance(without, str):
        raise InvalidUsage(f"log_without is a list of columns, such as [{without!r}].")
    columns = UNSET if without is None else [name for name in without if name]
    if log is None:
        return LogChanges(without=columns)
    if isinstance(log, str) and log in _INPUTS:
        return LogChanges(inputs=_INPUTS[log], without=columns)
    share = _share(log)
    if share is None or not 0 <= share <= 1:
        raise InvalidUsage(
            f"{log!r} cannot be logged: say all, 10% or 0.1, none, inputs or no-inputs."
        )
    return LogChanges(share=share, without=columns)


def policy_words(policy: LogPolicy) -> str:
    """Say what is logged, and what is left out, also of what is not logged anyway."""
    columns = ", ".join(policy.without)
    if policy.share <= 0:
        words = "no calls, which are only counted"
        left_out = ["their inputs"] * (not policy.inputs) + [columns] * bool(columns)
        return f"{words} (still left out: {', '.join(left_out)})" if left_out else words
    calls = (
        "all calls" if policy.share >= 1 else f"{policy.share * 100:g} % of the calls, at random"
    )
    if not policy.inputs:
        words = f"{calls}, without their inputs"
        return f"{words} ({columns} would be left out of them)" if columns else words
    return f"{calls}, without {columns}" if columns else calls


def _share(log: str | float) -> float | None:
    if not isinstance(log, str):
        return float(log)
    if log in _SHARES:
        return _SHARES[log]
    found = _SHARE.fullmatch(log.strip())
    if found is None:
        return None
    return float(found[1]) / 100 if found[2] else float(found[1])
