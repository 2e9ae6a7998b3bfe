"""Which artifacts may be loaded: those that cannot run code, and those that somebody answers for.

Loading joblib and cloudpickle artifacts runs whatever code they hold. Where ``allow_pickle`` is
off, an administrator must have approved the very bytes; that is asked at the deploy, and again
before each use, so that an approval that is taken back holds for what was deployed under it.
"""

from __future__ import annotations

import os
import sys

from mlserve_jupyter.api.manifest import Manifest
from mlserve_jupyter.errors import PermissionDenied
from mlserve_jupyter.registry.catalog import Catalog, ServedVersion
from mlserve_jupyter.settings import Settings

RUNS_CODE = frozenset({"joblib", "cloudpickle"})
"""Formats whose loading runs whatever code the artifact holds."""


def check_may_deploy(manifest: Manifest, catalog: Catalog, settings: Settings) -> None:
    """Refuse a deploy with which its sender could run code on this machine.

    Raises
    ------
    PermissionDenied
        Naming the artifact's sha256, and what would let it in.
    """
    if settings.allow_pickle:
        return
    # First, since neither an approval nor another format lets another interpreter in.
    check_own_interpreter(manifest.environment.interpreter)
    if manifest.format in RUNS_CODE and manifest.sha256 not in catalog.approved:
        raise PermissionDenied(
            f"Loading a {manifest.format} artifact runs code, and this server's setting "
            "allow_pickle is off. Deploy with `--format skops` (in the kernel, `%pip install "
            f"skops` first if it is missing); or have {_approval(manifest.sha256)}, then deploy "
            "the same file again.",
            sha256=manifest.sha256[:64],
            format=manifest.format,
            setting="allow_pickle",
        )


def check_may_run(version: ServedVersion, catalog: Catalog, settings: Settings) -> None:
    """Refuse to load or call a version that could not be deployed now.

    Raises
    ------
    PermissionDenied
        Naming the artifact's sha256.
    """
    if settings.allow_pickle or version.format not in RUNS_CODE:
        return
    if version.sha256 not in catalog.approved:
        raise PermissionDenied(
            f"{version.model} version {version.version} is not served: loading its "
            f"{version.format} artifact runs code, and no administrator approves of it. Have "
            f"{_approval(version.sha256)}; or start the server with --allow-pickle.",
            sha256=version.sha256,
            format=version.format,
            setting="allow_pickle",
        )


def check_own_interpreter(interpreter: str) -> None:
    """Refuse an interpreter that is not the server's own.

    Raises
    ------
    PermissionDenied
        Naming the setting that would allow it.
    """
    asked, own = os.path.abspath(interpreter), os.path.abspath(sys.executable)
    # A virtual environment is its folder; what its program links to is many environments' own.
    is_own = os.path.dirname(asked) == os.path.dirname(own)
    if not is_own or os.path.realpath(asked) != os.path.realpath(own):
        raise PermissionDenied(
            f"This server starts no other program than its own interpreter, {sys.executable}, "
            f"since its setting allow_pickle is off; the deploy asks for {interpreter[:200]!r}. "
            "Deploy from a kernel of the server's own environment, or have the server started with "
            "--allow-pickle.",
            setting="allow_pickle",
        )


def _approval(sha256: str) -> str:
    """Return what approves an artifact; what it names are variables of the shell."""
    return (
        'an administrator approve the artifact: `curl -X PUT -H "X-MLServe-Key: $MLSERVE_KEY" '
        f'"${{MLSERVE_URL}}api/v1/artifact-approvals/{sha256[:64]}"` (on a standalone server\'s '
        "machine, `jupyter mlserve key` prints such a key)"
    )
