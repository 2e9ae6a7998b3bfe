"""Compiles a version: asks a worker for the graph, judges it, and puts it beside the artifact."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import msgspec

from mlserve_jupyter.api.compiled import CompiledRecord
from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.api.manifest import Manifest
from mlserve_jupyter.errors import DeadlineExceeded, MLServeError, NotFound, VerificationFailed
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.serving.live_catalog import LiveCatalog
from mlserve_jupyter.serving.protocol import Compile, ModelRef
from mlserve_jupyter.serving.replies import Reply
from mlserve_jupyter.serving.runtimes.session import missing_libraries
from mlserve_jupyter.serving.runtimes.verification import VerifiedGraph, verify_graph
from mlserve_jupyter.serving.worker_process import WorkerProcess
from mlserve_jupyter.serving.workers import WorkerPool
from mlserve_jupyter.settings import Settings

if TYPE_CHECKING:
    from mlserve_jupyter.registry.registry import Registry

log = logging.getLogger(__name__)


class Compiler:
    """Makes compiled graphs of versions.

    Parameters
    ----------
    registry, catalog, workers, settings
        The rooms that it walks through.
    publishers
        Threads in which it may wait for the registry.
    """

    def __init__(
        self,
        registry: Registry,
        catalog: LiveCatalog,
        workers: WorkerPool,
        settings: Settings,
        publishers: Executor,
    ) -> None:
        self._publishers = publishers
        self._registry = registry
        self._catalog = catalog
        self._workers = workers
        self._settings = settings

    def apply(self, settings: Settings) -> None:
        """Go on with other deadlines."""
        self._settings = settings

    async def required(
        self, manifest: Manifest, worker: WorkerProcess, ref: ModelRef
    ) -> VerifiedGraph:
        """Compile a model that is to be published compiled or not at all.

        Parameters
        ----------
        worker
            One that knows the model as ``ref``.

        Raises
        ------
        VerificationFailed
            If its default method cannot be answered by a graph, saying why.
        """
        found = await self._verified(manifest, worker, ref, within_tolerance=True)
        if manifest.method not in found.record.methods:
            reason = found.record.native.get(manifest.method, "there is no graph of it")
            raise VerificationFailed(
                f"The compiled runtime cannot answer {manifest.method}: {reason}. Deploy with "
                "runtime 'auto', which runs natively what cannot be compiled.",
                method=manifest.method,
            )
        return found

    async def when_published(
        self, manifest: Manifest, version: ServedVersion, ref: ModelRef
    ) -> None:
        """Compile a version that answers natively meanwhile, and switch it over if it verifies."""
        try:
            worker = await self._workers.environment(version.interpreter).fresh_worker()
            try:
                worker.introduce(ref)
                found = await self._verified(manifest, worker, ref, within_tolerance=False)
            finally:
                await worker.aclose()
            await self._record(version, found)
        except NotFound:
            # It was deleted meanwhile.
            return
        except MLServeError as error:
            log.warning(
                "%s version %s runs natively, since it could not be compiled: %s",
                version.model, version.version, error,
            )  # fmt: skip
            reason = f"it could not be compiled: {error.message}"
            native = CompiledRecord(native=dict.fromkeys(manifest.methods, reason))
            with contextlib.suppress(MLServeError):  # then it is in the log alone
                await self._record(version, VerifiedGraph(b"", native))

    async def _record(self, version: ServedVersion, found: VerifiedGraph) -> None:
        await asyncio.get_running_loop().run_in_executor(
            self._publishers, self._registry.set_compiled, version.model_id, version.version,
            found.record, found.graph,
        )  # fmt: skip
        await self._catalog.changed()

    async def _verified(
        self,
        manifest: Manifest,
        worker: WorkerProcess,
        ref: ModelRef,
        *,
        within_tolerance: bool,
    ) -> VerifiedGraph:
        reason = _why_not(manifest)
        if reason is not None:
            native = dict.fromkeys(manifest.methods, reason)
            return VerifiedGraph(b"", CompiledRecord(native=native))
        sample = manifest.sample
        assert sample is not None
        decoder = InputDecoder(manifest.signature.inputs, manifest.extra_columns)
        batch = await asyncio.to_thread(decoder.decode, bytes(sample.body), "application/json")
        random = [name for name, same in sample.deterministic.items() if not same]
        methods = tuple(name for name in manifest.methods if name not in random)
        reply, body = await self._asked(worker, ref, Compile(ref.key, methods, batch))
        if reply.compiled is None:
            said = reply.error.message if reply.error is not None else "the worker said nothing"
            native = dict.fromkeys(methods, f"it could not be loaded: {said}")
            return VerifiedGraph(b"", CompiledRecord(native=native))
        found = await asyncio.to_thread(
            verify_graph,
            reply.compiled,
            body,
            manifest.signature.inputs,
            within_tolerance=within_tolerance,
        )
        native = {**found.record.native, **dict.fromkeys(random, "its answers are random")}
        sha256 = hashlib.sha256(found.graph).hexdigest() if found.graph else ""
        record = msgspec.structs.replace(
            found.record, native=native, sha256=sha256, size_bytes=len(found.graph)
        )
        return VerifiedGraph(found.graph, record)

    async def _asked(
        self, worker: WorkerProcess, ref: ModelRef, message: Compile
    ) -> tuple[Reply, bytes]:
        timeout_s = self._settings.verify_timeout_s
        try:
            return await asyncio.wait_for(worker.ask(message, key=ref.key), timeout_s)
        except asyncio.TimeoutError:
            raise DeadlineExceeded(
                f"It was not compiled within {timeout_s:g} s: raise verify_timeout_s.",
                timeout_s=timeout_s,
            ) from None


def _why_not(manifest: Manifest) -> str | None:
    """Say what makes compiling pointless from the start."""
    if manifest.sample is None:
        return "there is no sample to verify it by (deployed with --no-verify)"
    missing = missing_libraries()
    if missing:
        return (
            f"{' and '.join(missing)} cannot be imported beside the server: run "
            "`pip install 'mlserve_jupyter[onnx]'`"
        )
    return None
