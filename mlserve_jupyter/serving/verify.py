"""Holds a fresh worker's answers against the kernel's, before a version is published."""

from __future__ import annotations

import asyncio

import msgspec

from mlserve_jupyter.api.compare import compare_answers
from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.api.manifest import Manifest
from mlserve_jupyter.api.resources import Verification
from mlserve_jupyter.api.signature import InputBatch
from mlserve_jupyter.errors import EnvironmentUnusable, VerificationFailed
from mlserve_jupyter.serving.protocol import Compare, Load, ModelRef
from mlserve_jupyter.serving.replies import Reply
from mlserve_jupyter.serving.worker_errors import checked_json
from mlserve_jupyter.serving.worker_process import WorkerProcess

TOLERANCE = 1e-9
"""Numbers may differ by this much, relative to the larger one or to 1 if that is more: threads of
BLAS may add up in another order."""


class Check:
    """One verification.

    Parameters
    ----------
    manifest
        With the sample, and the kernel's own answers to it.
    ref
        The artifact, and the key under which the worker is to know it.
    worker
        A fresh one.
    """

    def __init__(self, manifest: Manifest, ref: ModelRef, worker: WorkerProcess) -> None:
        self._manifest = manifest
        self._ref = ref
        self._worker = worker
        self._predict_ms = 0.0
        self._max_abs_difference = 0.0

    async def run(self) -> Verification:
        """Load, and compare each method's answers on the sample."""
        self._worker.introduce(self._ref)
        loaded, _ = await self._ask(Load(self._ref.key, tuple(self._manifest.methods)), "be loaded")
        sample = self._manifest.sample
        loaded_only = Verification(
            verified=False,
            load_ms=loaded.load_ms,
            loaded_bytes=loaded.loaded.get(self._ref.key, 0),
        )
        if sample is None:
            return loaded_only
        decoder = InputDecoder(self._manifest.signature.inputs, self._manifest.extra_columns)
        batch = await asyncio.to_thread(decoder.decode, bytes(sample.body), "application/json")
        row_by_row = []
        for method, expected in sample.answers.items():
            if await self._compare(
                method, batch, bytes(expected), sample.deterministic.get(method, True)
            ):
                row_by_row.append(method)
        return msgspec.structs.replace(
            loaded_only,
            verified=True,
            n_rows=batch.n_rows,
            methods=list(sample.answers),
            max_abs_difference=self._max_abs_difference,
            not_deterministic=[m for m, same in sample.deterministic.items() if not same],
            row_by_row=row_by_row,
            predict_ms=self._predict_ms,
        )

    async def _compare(
        self, method: str, batch: InputBatch, expected: bytes, is_deterministic: bool
    ) -> bool:
        """Compare a method's answers; return whether it answers row by row."""
        call = Compare(self._ref.key, method, batch)
        reply, body = await self._ask(call, f"answer its sample with {method}")
        self._predict_ms += reply.predict_ms
        if not is_deterministic:
            return False
        found = await asyncio.to_thread(
            compare_answers, expected, checked_json(body, self._manifest.name)
        )
        if found.max_difference > TOLERANCE:
            raise VerificationFailed(
                f"A fresh worker answers otherwise than the notebook: {method} gives {found.got} "
                f"instead of {found.expected} at {found.where}. The usual reasons are a model that "
                "depends on state of the notebook, or one that was fitted again meanwhile. "
                "`--no-verify` deploys it all the same.",
                method=method,
                where=found.where,
            )
        self._max_abs_difference = max(self._max_abs_difference, found.max_abs_difference)
        return reply.row_by_row

    async def _ask(self, message: Load | Compare, purpose: str) -> tuple[Reply, bytes]:
        reply, body = await self._worker.ask(message, key=self._ref.key)
        error = reply.error or next((answer.error for answer in reply.answers), None)
        if error is None:
            return reply, body
        interpreter = self._manifest.environment.interpreter
        if error.kind == "missing_module":
            raise EnvironmentUnusable(
                f"The model needs the module {error.module!r}, which a fresh process of "
                f"{interpreter} cannot import. Run `pip install {error.distribution}` there, or "
                "define what it needs in the notebook, and deploy again.",
                module=error.module,
                interpreter=interpreter,
            )
        shown = f"{error.type}: {error.message}"
        if error.kind == "memory":
            shown = "it takes more memory than worker_memory_bytes allows"
        raised = VerificationFailed(
            f"In a fresh process the model cannot {purpose}: {shown}", step=error.kind
        )
        raised.traceback_text = error.traceback
        raise raised
