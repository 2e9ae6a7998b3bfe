"""What is said of a model or a version that is not there: what there is instead.

Nothing here may show whether a model that the caller cannot see exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mlserve_jupyter.api.nearest import nearest_names
from mlserve_jupyter.errors import ModelNotFound, VersionNotFound

if TYPE_CHECKING:
    from mlserve_jupyter.registry.catalog import CatalogModel

_MAX_LISTED = 10
_SHARED = (
    "Models of others can be called once they are shared with you: `%mlserve list --scope all` "
    "lists which are."
)


def model_not_found(
    model_ref: str, own: Iterable[str], elsewhere: Sequence[str] = ()
) -> ModelNotFound:
    """Return the error of a model that the caller does not see.

    Parameters
    ----------
    own
        Names of the caller's own models.
    elsewhere
        References to models of others that the caller sees and that have this name.
    """
    shown = model_ref if len(model_ref) <= 80 else model_ref[:77] + "..."
    own = list(own)
    near = [*elsewhere[:3], *nearest_names(model_ref[:80].rpartition("~")[2], own, 3)][:3]
    if near:
        advice = f"Did you mean {' or '.join(repr(name) for name in near)}?"
    elif own:
        listed = ", ".join(repr(name) for name in own[:5]) + (", …" if len(own) > 5 else "")
        advice = f"The models here are {listed}."
        if "~" in model_ref:
            advice += f" {_SHARED}"
    elif "~" in model_ref:
        advice = _SHARED
    else:
        advice = (
            "You have deployed none yet: deploy one with `%mlserve deploy`, or see with `%mlserve "
            "list --scope all` which others have shared with you."
        )
    return ModelNotFound(f"There is no model {shown!r}. {advice}", model=shown, near=near)


def version_not_found(model: CatalogModel, version: int) -> VersionNotFound:
    """Return the error of a version that never was."""
    return VersionNotFound(
        f"Model {model.name!r} has no version {version}: call {_available(model)}.",
        model=model.name,
        version=version,
    )


def version_archived(model: CatalogModel, version: int) -> VersionNotFound:
    """Return the error of a version that does not answer any more."""
    return VersionNotFound(
        f"Version {version} of model {model.name!r} is archived and does not answer: set "
        f'its status to "active" to serve it again, or call {_available(model)}.',
        model=model.name,
        version=version,
    )


def none_active(model: CatalogModel) -> VersionNotFound:
    """Return the error of a model of which no version answers where none is named."""
    if any(served.status == "deprecated" for served in model.versions.values()):
        advice = f"name one to call it ({_available(model)})"
    else:
        advice = "all are archived"
    return VersionNotFound(
        f"No version of model {model.name!r} is active: {advice}, set the status of one to "
        '"active", or deploy the next.',
        model=model.name,
    )


def _available(model: CatalogModel) -> str:
    """Return in words which versions answer where they are named."""
    numbers = sorted(v.version for v in model.versions.values() if v.status != "archived")
    if not numbers:
        return "none, since all are archived"
    if len(numbers) == 1:
        return f"version {numbers[0]}"
    *others, last = [str(number) for number in numbers[-_MAX_LISTED:]]
    left_out = "…, " if len(numbers) > _MAX_LISTED else ""
    return f"version {left_out}{', '.join(others)} or {last}"
