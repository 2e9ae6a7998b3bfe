"""Learns from an object and a sample what a deploy has to say: methods, signature and answers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from mlserve_jupyter.api.manifest import Sample
from mlserve_jupyter.api.profile import Profile
from mlserve_jupyter.api.signature import OutputSpec, Signature
from mlserve_jupyter.errors import MLServeError, NotServable, SampleUnusable
from mlserve_jupyter.magics.baseline import baseline_of
from mlserve_jupyter.magics.calling import call_on_copy, in_short
from mlserve_jupyter.magics.sampling import (
    FoundSample,
    check_sample,
    feature_names,
    find_sample,
    head,
    is_rows,
    n_rows,
)
from mlserve_jupyter.magics.unservable import why_not_servable

_MAX_EXAMPLE_BYTES = 16 * 2**10


@dataclass(frozen=True)
class Prepared:
    """What is known of an object before it is packed.

    Attributes
    ----------
    method
        Answers a call that names none.
    methods
        All that may be called.
    signature
        What they take and give.
    sample
        Rows and the kernel's own answers to them.
    source
        Where the sample comes from, in words.
    modules
        Top-level modules that input and answers need, beside the model's own.
    notes
        What the owner should know.
    baseline
        How the values of the sample are distributed; None where it is too small to say.
    """

    method: str
    methods: list[str]
    signature: Signature
    sample: Sample
    source: str
    modules: list[str]
    notes: list[str]
    baseline: Profile | None


def prepare(
    obj: Any, namespace: Mapping[str, Any], *, sample: Any = None, method: str | None = None
) -> Prepared:
    """Find the sample, learn the signature and ask the object for its own answers.

    Parameters
    ----------
    obj
        The object to deploy (a user's, hence ``Any``).
    namespace
        The notebook's variables.
    sample
        Rows as the object takes them; None looks for some in ``namespace``.
    method
        The default method; None takes ``predict``, or what there is instead.

    Raises
    ------
    NotServable
        The object has no method to serve, or is not fitted.
    SampleUnusable
        No sample was found, or the one that was given does not fit.
    """
    from mlserve_jupyter.artifacts.infer import choose_rows, encode_body, infer_inputs

    methods, method = _methods(obj, method)
    try:
        if sample is None:
            found = find_sample(obj, method, namespace)
        else:
            check_sample(obj, method, sample)
            found = FoundSample(sample, f"the {type(sample).__name__} that was given")
    except SampleUnusable as error:
        if _is_unfitted(obj):
            raise NotServable(
                f"This {type(obj).__name__} is not fitted: call its `fit` first, then deploy."
            ) from error
        raise
    inputs = infer_inputs(found.data, feature_names(obj))
    rows = choose_rows(found.data, inputs)
    answers = _Answers(obj, rows)
    answers.must_ask(method)
    for other in methods:
        if other != method:
            answers.try_to_ask(other)
    example = encode_body(head(rows, 1), inputs)
    if len(example) <= _MAX_EXAMPLE_BYTES:
        inputs = replace(inputs, example=_by_name(msgspec.json.decode(example)))
    signature = Signature(inputs, answers.outputs)
    return Prepared(
        method=method,
        methods=list(answers.outputs),
        signature=signature,
        sample=Sample(
            body=msgspec.Raw(encode_body(rows, inputs)),
            answers=answers.encoded,
            deterministic=answers.deterministic,
        ),
        source=found.source,
        modules=_modules(signature),
        notes=[*found.warnings, *answers.notes],
        baseline=baseline_of(obj, method, found.data, inputs),
    )


class _Answers:
    """The object's own answers to the rows that are verified."""

    def __init__(self, obj: Any, rows: Any) -> None:
        self._obj = obj
        self._rows = rows
        self.outputs: dict[str, OutputSpec] = {}
        self.encoded: dict[str, msgspec.Raw] = {}
        self.deterministic: dict[str, bool] = {}
        self.notes: list[str] = []

    def ask(self, method: str) -> None:
        """Call a method twice, to see whether it gives the same again.

        Raises
        ------
        Exception
            Whatever a user's model raises.
        ModelFailed
            Its answer has no form in JSON.
        """
        from mlserve_jupyter.artifacts.outputs import describe_output, encode_output

        answer = call_on_copy(self._obj, method, self._rows)
        encoded = encode_output(answer)
        output = describe_output(answer, n_rows(self._rows) or 0)
        if _has_index_of(self._rows, answer):
            output = replace(output, keeps_index=True)
        again = encode_output(call_on_copy(self._obj, method, self._rows))
        self.outputs[method] = output
        self.encoded[method] = msgspec.Raw(encoded)
        self.deterministic[method] = encoded == again

    def must_ask(self, method: str) -> None:
        """Ask the method that the deploy is for.

        Raises
        ------
        SampleUnusable
            It fails on the sample.
        """
        try:
            self.ask(method)
        except MLServeError:
            raise
        except Exception as error:  # whatever a user's model raises
            raise SampleUnusable(
                f"`{method}` of this {type(self._obj).__name__} fails on the sample: "
                f"{in_short(error)}"
            ) from error

    def try_to_ask(self, method: str) -> None:
        """Ask a method that need not work, and leave it out if it does not."""
        try:
            self.ask(method)
        except MLServeError as error:
            self.notes.append(f"`{method}` is left out: {error.message}")
        except Exception as error:  # whatever a user's model raises
            self.notes.append(
                f"`{method}` is left out, as it fails on the sample: {in_short(error)}"
            )


def _methods(obj: Any, method: str | None) -> tuple[list[str], str]:
    """List the methods that can be served, and choose the default."""
    from mlserve_jupyter.artifacts.methods import can_be_asked, default_method, servable_methods

    if isinstance(obj, type) or is_rows(obj):
        raise why_not_servable(obj)
    methods = servable_methods(obj)
    if method is None:
        method = default_method(methods)
        if method is None:
            raise why_not_servable(obj)
    elif method not in methods:
        if not can_be_asked(obj, method):
            raise NotServable(
                f"This {type(obj).__name__} has no method `{method}` that can be served: it has "
                f"{', '.join(methods) or 'none'}."
            )
        methods = [method, *methods]
    return methods, method


def _has_index_of(rows: Any, answer: Any) -> bool:
    """Whether an answer (both any, hence ``Any``) has the index of the rows.

    Where the rows are merely numbered, so is what was made anew, and nobody can tell.
    """
    if not (hasattr(rows, "iloc") and hasattr(answer, "iloc")):
        return False
    is_numbered = list(rows.index) == list(range(len(rows)))
    return not is_numbered and bool(answer.index.equals(rows.index))


def _is_unfitted(obj: Any) -> bool:
    """Whether an estimator of scikit-learn says that it has not been fitted."""
    if "sklearn" not in sys.modules:
        return False
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(obj)
    except NotFittedError:
        return True
    except Exception:  # not an estimator at all
        return False
    return False


def _by_name(body: dict[str, Any]) -> dict[str, Any]:
    """Write the rows of a frame, any values, as records, which are easier to read."""
    split = body.get("dataframe_split")
    if split is None:
        return body
    return {
        "dataframe_records": [
            dict(zip(split["columns"], row, strict=True)) for row in split["data"]
        ]
    }


def _modules(signature: Signature) -> list[str]:
    """Name the modules that make the input and the answers."""
    containers = {
        signature.inputs.container,
        *(out.container for out in signature.outputs.values()),
    }
    needed = {"dataframe": "pandas", "series": "pandas", "sparse": "scipy", "ndarray": "numpy"}
    return sorted({needed[container] for container in containers if container in needed})
