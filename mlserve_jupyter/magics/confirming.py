"""Asks the person at the notebook before something that programs depend on is taken away."""

from __future__ import annotations

from mlserve_jupyter.errors import InvalidUsage


def confirmed(question: str, what: str) -> bool:
    """Ask a question, and tell whether the answer was yes.

    Parameters
    ----------
    question
        What is asked.
    what
        What it is about, such as ``archive version 1 of clf``.

    Raises
    ------
    InvalidUsage
        Nobody is there to be asked.
    """
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, OSError, NotImplementedError, RuntimeError) as error:
        # A kernel without a person at it, such as nbconvert's, refuses to ask.
        raise InvalidUsage(
            f"Nobody can be asked here whether to {what}: add --yes (yes=True)."
        ) from error
