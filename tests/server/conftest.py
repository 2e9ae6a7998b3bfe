from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlserve_jupyter.api.manifest import Manifest, encode_json
from tests.live import LiveServer

Post = Callable[..., httpx.Response]


@pytest.fixture
def notebook(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package as a notebook of the shared server uses it."""
    import mlserve_jupyter

    monkeypatch.setenv("MLSERVE_URL", live_server.url)
    monkeypatch.setenv("MLSERVE_KEY", live_server.key)
    return mlserve_jupyter


@pytest.fixture
def post_deploy(live_server: LiveServer) -> Post:
    """Deploy with a manifest and bytes, as they are given."""

    def post(manifest: Manifest, artifact: Path | bytes, server: LiveServer = live_server) -> Any:
        content = artifact if isinstance(artifact, bytes) else artifact.read_bytes()
        return server.request(
            "POST",
            "api/v1/models",
            files=[
                ("manifest", (None, encode_json(manifest), "application/json")),
                ("artifact", ("model", content, "application/octet-stream")),
            ],
        )

    return post
