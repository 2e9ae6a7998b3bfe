"""Log lines in JSON, also in a Jupyter server's own log."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlserve_jupyter.server.json_log import JsonLines
from mlserve_jupyter.server.request_context import REQUEST_ID
from tests import toys
from tests.live import start_server
from tests.server.conftest import Post
from tests.server.manifests import manifest_of
from tests.waiting import wait_for

LOGGING = {
    "formatters": {"json": {"()": "mlserve_jupyter.server.json_log.JsonLines"}},
    "handlers": {"json": {"class": "logging.StreamHandler", "formatter": "json"}},
    "loggers": {"mlserve_jupyter": {"level": "INFO", "handlers": ["json"]}},
}
"""As in docs/operations.md."""


@pytest.fixture
def logger() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("tests.json_log")
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, stream
    logger.removeHandler(handler)


def test_a_line_is_one_line_whatever_is_in_it(logger: Any) -> None:
    log, stream = logger
    try:
        raise ValueError("a\nb")
    except ValueError:
        log.exception("c\r\nd \x1b[31m %s", {"no": object})
    [line] = stream.getvalue().splitlines()
    found = json.loads(line)
    assert found["message"].startswith("c\r\nd \x1b[31m")
    assert "ValueError: a\nb" in found["exc_info"]
    assert "\x1b" not in line


def test_what_a_thread_says_for_a_request_has_the_requests_id(logger: Any) -> None:
    log, stream = logger

    async def answer(request_id: str) -> None:
        REQUEST_ID.set(request_id)
        await asyncio.to_thread(log.warning, "in a thread of %s", request_id)

    async def answer_all() -> None:
        await asyncio.gather(*(answer(f"request-{i}") for i in range(5)))
        log.warning("of none")

    asyncio.run(answer_all())
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 6
    for line in lines:
        assert line["message"].endswith(line.get("request_id", "of none"))


@pytest.mark.slow
def test_a_jupyter_server_logs_ours_as_json_where_it_is_told_to(
    tmp_path: Path, post_deploy: Post
) -> None:
    artifact = Path(toys.write_model(toys.SleepModel(), tmp_path).path)
    options = (f"--ServerApp.logging_config={LOGGING}", "--MLServeApp.slow_request_s=0.2")
    with start_server(tmp_path / "server", *options) as server:
        assert post_deploy(manifest_of("sleeper", artifact), artifact, server).status_code == 201
        body = {"instances": [[0.4]]}
        server.request(
            "POST", "api/v1/predict/sleeper", json=body, headers={"X-Request-Id": "slow"}
        )

        def lines() -> list[dict[str, Any]]:
            return [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]

        assert wait_for(lambda: [line for line in lines() if line.get("request_id") == "slow"], 30)
        [line] = [line for line in lines() if line.get("request_id") == "slow"]
        assert line["model"] == "owner~sleeper"
        assert line["predict_ms"] >= 400
