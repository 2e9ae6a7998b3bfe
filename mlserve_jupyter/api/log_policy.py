"""What the prediction log keeps of a model's calls: all, a share, without some columns, nothing."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Literal

import msgspec

from mlserve_jupyter.api.layout import Shape, shape_of
from mlserve_jupyter.api.signature import InputSpec
from mlserve_jupyter.errors import InvalidRequest

MAX_COLUMNS = 1000


class LogPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the prediction log keeps of a model's calls.

    All calls are counted, whatever it keeps.

    Attributes
    ----------
    share
        How many of the calls are logged, chosen at random: 1 for all, 0 for none.
    inputs
        Whether what was sent is kept of those that are.
    without
        Input columns that are left out, such as personal data. Of such a model the log keeps no
        inputs of calls that failed, none that did not come as JSON, and no messages of errors,
        which may quote values.
    """

    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    inputs: bool = True
    without: Annotated[list[str], msgspec.Meta(max_length=MAX_COLUMNS)] = []

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is left out."""
        return self.share >= 1 and self.inputs and not self.without

    def keeps_column(self, name: str) -> bool:
        """Whether anything of an input column is kept: values, or what is computed of them."""
        return self.share > 0 and self.inputs and name not in self.without


class LogChanges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is changed of a :class:`LogPolicy`; what is not given stays as it is.

    So nothing that was left out of the log comes back unless a change names it.

    Attributes
    ----------
    share, inputs
        See :class:`LogPolicy`.
    without
        All the input columns that are left out from now on; none where it is empty.
    """

    share: Annotated[float, msgspec.Meta(ge=0, le=1)] | msgspec.UnsetType = msgspec.UNSET
    inputs: bool | msgspec.UnsetType = msgspec.UNSET
    without: Annotated[list[str], msgspec.Meta(max_length=MAX_COLUMNS)] | msgspec.UnsetType = (
        msgspec.UNSET
    )

    def applied_to(self, policy: LogPolicy) -> LogPolicy:
        """Return the policy with these changes."""
        fields = msgspec.structs.asdict(self).items()
        given = {name: value for name, value in fields if value is not msgspec.UNSET}
        return msgspec.structs.replace(policy, **given)


class LoggedAs(msgspec.Struct, frozen=True):
    """The policy of a version's model, as the log applies it.

    Attributes
    ----------
    share, keeps_inputs, without
        See :class:`LogPolicy`.
    names
        The version's columns, in the order of rows without names.
    shape
        What its rows look like.
    is_sparse
        Whether a row may also be an object with indices and values.
    """

    share: float
    keeps_inputs: bool
    without: frozenset[str]
    names: tuple[str, ...]
    shape: Shape
    is_sparse: bool


def logged_as(policy: LogPolicy | None, inputs: InputSpec) -> LoggedAs | None:
    """Return how calls of a version are logged; None for whole."""
    if policy is None or policy.keeps_all:
        return None
    names = tuple(column.name for column in inputs.columns)
    return LoggedAs(
        share=policy.share,
        keeps_inputs=policy.inputs,
        without=frozenset(policy.without),
        names=names,
        shape=shape_of(inputs),
        is_sparse=inputs.container == "sparse",
    )


def check_columns(
    changes: LogChanges, versions: Iterable[tuple[InputSpec, Literal["refuse", "drop"]]]
) -> None:
    """Refuse to leave out columns that nobody sends: a slip would let personal data through.

    Parameters
    ----------
    versions
        What the model's versions take, and what they do with further columns.

    Raises
    ------
    InvalidRequest
        Naming the column, and the nearest that there is.
    """
    if changes.without is msgspec.UNSET:
        return
    known: set[str] = set()
    for inputs, extra_columns in versions:
        if extra_columns == "drop":
            return  # callers may send any
        known.update(column.name for column in inputs.columns)
    for name in changes.without:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else "see the model's signature."
            raise InvalidRequest(
                f"The model has no input column {name[:80]!r} to leave out of the log: {advice}",
                column=name[:80],
            )
