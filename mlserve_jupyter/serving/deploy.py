"""The walk of a deploy on the server: check, verify in a fresh worker, publish, keep it warm."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from mlserve_jupyter.api.compiled import CompiledRecord
from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.api.log_policy import LogPolicy, check_columns
from mlserve_jupyter.api.manifest import Manifest
from mlserve_jupyter.api.profile import check_profile
from mlserve_jupyter.api.resources import Verification
from mlserve_jupyter.errors import (
    ArtifactRejected,
    DeadlineExceeded,
    EnvironmentUnusable,
    InvalidRequest,
    MLServeError,
    PermissionDenied,
    Unavailable,
    VerificationFailed,
)
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.registry.queries import Journal, no_journal
from mlserve_jupyter.registry.registry import Registry
from mlserve_jupyter.serving.live_catalog import LiveCatalog
from mlserve_jupyter.serving.predict import model_ref
from mlserve_jupyter.serving.protocol import ModelRef
from mlserve_jupyter.serving.runtimes.compilation import Compiler
from mlserve_jupyter.serving.trust import check_may_deploy, check_own_interpreter
from mlserve_jupyter.serving.verify import Check
from mlserve_jupyter.serving.worker_process import WorkerProcess
from mlserve_jupyter.serving.workers import WorkerPool
from mlserve_jupyter.settings import Settings, check_name
from mlserve_jupyter.storage.staging import StagedArtifact
from mlserve_jupyter.storage.users import User

log = logging.getLogger(__name__)

MAX_PUBLISHERS = 4
"""Deploys that are published at once; others wait."""

MAX_COLUMNS = 16_384
MAX_METHODS = 1000
MAX_TEXT_CHARS = 10_000

UNPUBLISHED = "unpublished"
"""The key of the artifact in the fresh worker, as long as the version has no id."""

_MAGIC = {"joblib": b"\x80", "cloudpickle": b"\x80", "skops": b"PK\x03\x04"}


@dataclass(frozen=True)
class Deployed:
    """What a deploy made.

    Attributes
    ----------
    timings_ms
        By step: ``verify``, ``publish``, ``warm``; ``compile`` where the deploy waited for it.
    warnings
        What its owner should know, in sentences.
    """

    version: ServedVersion
    timings_ms: dict[str, float]
    warnings: list[str]


class Deployer:
    """Turns uploads into versions.

    Parameters
    ----------
    registry, catalog, workers, settings
        The rooms that a deploy walks through.
    """

    def __init__(
        self,
        registry: Registry,
        catalog: LiveCatalog,
        workers: WorkerPool,
        settings: Settings,
    ) -> None:
        self._registry = registry
        self._catalog = catalog
        self._workers = workers
        self._settings = settings
        # Where artifacts lie elsewhere, publishing waits for another machine.
        self._publishers = ThreadPoolExecutor(MAX_PUBLISHERS, "mlserve-publish")
        self._compiler = Compiler(registry, catalog, workers, settings, self._publishers)
        self._background: set[asyncio.Task[None]] = set()

    def apply(self, settings: Settings) -> None:
        """Go on with other limits and deadlines."""
        self._settings = settings
        self._compiler.apply(settings)

    async def deploy(
        self,
        owner: User,
        manifest: Manifest,
        staged: StagedArtifact,
        journal: Journal = no_journal,
    ) -> Deployed:
        """Verify an upload and publish it as the model's next version.

        Raises
        ------
        InvalidRequest, ArtifactRejected, EnvironmentUnusable
            If the manifest or the artifact cannot be served.
        PermissionDenied
            If it could run code, ``allow_pickle`` is off, and no administrator has approved it; or
            if the caller's key is limited to other models.
        VerificationFailed
            If a fresh worker answers otherwise than the kernel did.
        StorageFull, StorageUnavailable
            If it cannot be kept. Nothing is left behind in any of these cases.
        """
        timings: dict[str, float] = {}
        check_manifest(manifest)
        self._catalog.current.check_deployable(owner, manifest.name)
        await self._check_trust(manifest)
        with _timed(timings, "store"):
            sha256, size_bytes = await asyncio.to_thread(staged.finish)
            await asyncio.to_thread(check_artifact, manifest, staged, sha256, size_bytes)
        ref = ModelRef(
            key=UNPUBLISHED,
            path=str(staged.path),
            format=manifest.format,
            sha256=sha256,
            size_bytes=size_bytes,
            inputs=manifest.signature.inputs,
        )
        with _timed(timings, "verify"):
            worker, verification = await self._verify(manifest, ref)
        graph, runtime = b"", "native"
        try:
            if manifest.runtime == "native":
                native = dict.fromkeys(manifest.methods, "the deploy asked for that")
                verification = msgspec.structs.replace(
                    verification, compiled=CompiledRecord(native=native)
                )
            if manifest.runtime == "onnx":
                with _timed(timings, "compile"):
                    compiled = await self._compiler.required(manifest, worker, ref)
                graph, runtime = compiled.graph, "onnx"
                verification = msgspec.structs.replace(verification, compiled=compiled.record)
            with _timed(timings, "publish"):
                version = await asyncio.get_running_loop().run_in_executor(
                    self._publishers,
                    self._registry.publish,
                    owner,
                    msgspec.structs.replace(manifest, runtime=runtime),
                    staged,
                    verification,
                    graph,
                    journal,
                )
                await self._catalog.changed()
        except BaseException:
            await worker.aclose()
            raise
        with _timed(timings, "warm"):
            warnings = await self._keep_warm(worker, version)
        if manifest.runtime == "auto":
            # A graph takes longer than a deploy may; until it is there, the model itself answers.
            self._start(self._compiler.when_published(manifest, version, model_ref(version)))
        logging = self._catalog.current.by_id(version.model_id).logging
        warnings += [*_warnings(manifest, verification), *_unknown_columns(manifest, logging)]
        return Deployed(version, timings, warnings)

    def warm_in_background(self, interpreter: str, modules: Sequence[str]) -> None:
        """Start an environment's supervisor without waiting for it.

        Raises
        ------
        EnvironmentUnusable
            If ``interpreter`` is not a program.
        PermissionDenied
            If it is not the server's own, and ``allow_pickle`` is off.
        """
        check_interpreter(interpreter)
        if not self._settings.allow_pickle:
            check_own_interpreter(interpreter)
            modules = ()  # importing what a caller names runs code, too
        self._start(self._warm(interpreter, list(modules)))

    async def aclose(self) -> None:
        """Stop what runs in the background."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._publishers.shutdown(wait=False, cancel_futures=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _warm(self, interpreter: str, modules: list[str]) -> None:
        try:
            await self._workers.environment(interpreter).warm(modules)
        except MLServeError as error:
            log.warning("The environment of %s could not be warmed: %s", interpreter, error)

    async def _check_trust(self, manifest: Manifest) -> None:
        """Refuse what could run code; it may have been approved in another process just now."""
        try:
            check_may_deploy(manifest, self._catalog.current, self._settings)
        except PermissionDenied:
            await self._catalog.catch_up()
            check_may_deploy(manifest, self._catalog.current, self._settings)

    async def _verify(
        self, manifest: Manifest, ref: ModelRef
    ) -> tuple[WorkerProcess, Verification]:
        """Load the artifact in a fresh worker and compare its answers with the kernel's."""
        environment = self._workers.environment(manifest.environment.interpreter)
        worker = await environment.fresh_worker()
        try:
            verification = await asyncio.wait_for(
                Check(manifest, ref, worker).run(), self._settings.verify_timeout_s
            )
        except asyncio.TimeoutError:
            await worker.aclose()
            raise DeadlineExceeded(
                "The model did not load and answer its sample within "
                f"{self._settings.verify_timeout_s:g} s. Deploy with a smaller sample, or raise "
                "verify_timeout_s."
            ) from None
        except Unavailable as error:
            await worker.aclose()
            raise VerificationFailed(
                f"The model ends its process when it is loaded or called: {error.message}"
            ) from error
        except BaseException:
            await worker.aclose()
            raise
        return worker, verification

    async def _keep_warm(self, worker: WorkerProcess, version: ServedVersion) -> list[str]:
        environment = self._workers.environment(version.interpreter)
        try:
            modules = await worker.new_modules()
            await environment.adopt(worker, UNPUBLISHED, model_ref(version))
            # The workers after this one, and the next deploy, find these libraries loaded.
            self.warm_in_background(version.interpreter, modules)
        except MLServeError as error:
            log.warning("Version %s could not be warmed: %s", version.id, error)
            return [f"It is published, but could not be loaded ahead of the first call: {error}"]
        return []


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    """Note the milliseconds of a block under a name."""
    started = time.perf_counter()
    yield
    timings[name] = round((time.perf_counter() - started) * 1e3, 2)


def check_manifest(manifest: Manifest) -> None:
    """Refuse a manifest that does not make sense.

    Raises
    ------
    InvalidName, InvalidRequest, EnvironmentUnusable
        Saying what would.
    """
    check_name(manifest.name)
    if len(manifest.methods) > MAX_METHODS:
        raise InvalidRequest(f"A model has at most {MAX_METHODS} methods that may be called.")
    if manifest.method not in manifest.methods:
        raise InvalidRequest(
            f"The default method {manifest.method[:40]!r} is not among the methods "
            f"({', '.join(manifest.methods)[:1000]})."
        )
    for name in manifest.methods:
        if name != "__call__" and (not name.isidentifier() or name.startswith("_")):
            raise InvalidRequest(f"{name[:40]!r} is not the name of a public method.")
    if len(manifest.note) > MAX_TEXT_CHARS or len(manifest.description) > MAX_TEXT_CHARS:
        raise InvalidRequest(f"A note has at most {MAX_TEXT_CHARS} characters.")
    if len(manifest.signature.inputs.columns) > MAX_COLUMNS:
        raise InvalidRequest(f"A signature has at most {MAX_COLUMNS} columns.")
    try:
        InputDecoder(manifest.signature.inputs, manifest.extra_columns)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"The signature cannot be used: {error}.") from None
    if manifest.logging is not None:
        check_columns(manifest.logging, [(manifest.signature.inputs, manifest.extra_columns)])
    if manifest.baseline is not None:
        check_profile(manifest.baseline)
    check_interpreter(manifest.environment.interpreter)


def check_interpreter(interpreter: str) -> None:
    """Refuse what cannot be an interpreter.

    Raises
    ------
    EnvironmentUnusable
        If it is not the absolute path of a program.
    """
    is_program = (
        "\0" not in interpreter
        and os.path.isabs(interpreter)
        and os.path.isfile(interpreter)
        and os.access(interpreter, os.X_OK)
    )
    if not is_program:
        raise EnvironmentUnusable(
            f"The interpreter {interpreter!r} is not a program on the server's machine. Deploy "
            "from a kernel that runs beside the server.",
            interpreter=interpreter,
        )


def check_artifact(
    manifest: Manifest, staged: StagedArtifact, sha256: str, size_bytes: int
) -> None:
    """Refuse an artifact that is not the announced one, going by its bytes.

    Raises
    ------
    ArtifactRejected
        Saying how it differs.
    """
    if (sha256, size_bytes) != (manifest.sha256, manifest.size_bytes):
        raise ArtifactRejected(
            f"The artifact that arrived ({size_bytes} bytes) is not the one that was sent "
            f"({manifest.size_bytes} bytes): the upload was damaged. Deploy again."
        )
    with open(staged.path, "rb") as file:
        start = file.read(4)
    if not start.startswith(_MAGIC[manifest.format]):
        raise ArtifactRejected(
            f"The artifact is not in the format {manifest.format!r} that it claims, or it is "
            "compressed: artifacts are stored uncompressed, so that they can be memory-mapped."
        )


def _unknown_columns(manifest: Manifest, logging: LogPolicy) -> list[str]:
    """Warn where what the log must not have may come under another name now."""
    known = {column.name for column in manifest.signature.inputs.columns}
    unknown = [name for name in logging.without if name not in known]
    if not unknown or manifest.extra_columns == "drop":
        return []
    return [
        f"The log leaves out {', '.join(unknown)[:200]}, which this version does not take: if the "
        "same comes under another name now, leave that out, too (`%mlserve logging`)."
    ]


def _warnings(manifest: Manifest, verification: Verification) -> list[str]:
    warnings = []
    if not verification.verified:
        warnings.append("Its answers were not verified, since the deploy asked for none.")
    if verification.max_abs_difference:
        warnings.append(
            f"Its numbers differ from the notebook's by at most "
            f"{verification.max_abs_difference:.3g}, the order in which threads add up."
        )
    for method in verification.not_deterministic:
        warnings.append(
            f"{method} gives other answers each time it is called; only that it answers was "
            "verified."
        )
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not manifest.environment.python_version.startswith(ours + "."):
        warnings.append(
            f"It runs under Python {manifest.environment.python_version}, the kernel's, beside a "
            f"server under Python {ours}."
        )
    return warnings
