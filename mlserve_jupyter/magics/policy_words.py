"""What the prediction log keeps of a model's calls, as it is written in a line and said."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlserve_jupyter.api.log_policy import LogPolicy
from mlserve_jupyter.errors import InvalidUsage
from mlserve_jupyter.magics.arguments import Argument

LOG = Argument(
    "--log",
    "What is logged of its calls: all, 10% of them, no-inputs, or none.",
    value="all|N%|no-inputs|none",
)
LOG_WITHOUT = Argument(
    "--log-without", "Input columns that are left out of the log.", "list", value="COLUMN,…"
)

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%")


def policy_of(log: str | float | None, without: Sequence[str] | None) -> LogPolicy | None:
    """Return the policy that is meant; None where nothing is said.

    Parameters
    ----------
    log
        ``all``, ``none``, ``no-inputs``, a share such as ``10%`` or 0.1.
    without
        Input columns that are left out.

    Raises
    ------
    InvalidUsage
        It is none of these.
    """
    if log is None and without is None:
        return None
    if isinstance(without, str):
        raise InvalidUsage(f"log_without is a list of columns, such as [{without!r}].")
    columns = list(without or ())
    if log is None or log == "all":
        return LogPolicy(without=columns)
    if log == "no-inputs":
        return LogPolicy(inputs=False, without=columns)
    share = 0.0 if log == "none" else _share(log)
    if share is None or not 0 <= share <= 1:
        raise InvalidUsage(f"{log!r} cannot be logged: say all, 10%, no-inputs or none.")
    return LogPolicy(share=share, without=columns)


def policy_words(policy: LogPolicy) -> str:
    """Say what is logged."""
    if policy.share <= 0:
        return "no calls, which are only counted"
    calls = (
        "all calls" if policy.share >= 1 else f"{policy.share * 100:g} % of the calls, at random"
    )
    if not policy.inputs:
        return f"{calls}, without their inputs"
    if policy.without:
        return f"{calls}, without {', '.join(policy.without)}"
    return calls


def _share(log: str | float) -> float | None:
    if isinstance(log, str):
        found = _SHARE.fullmatch(log.strip())
        return None if found is None else float(found[1]) / 100
    return float(log)
