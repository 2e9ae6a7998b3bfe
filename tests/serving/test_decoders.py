"""Decoder processes: what they give, and what a bad body can do to them and to nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest

from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.artifacts.infer import infer_inputs
from mlserve_jupyter.artifacts.inputs import build_input
from mlserve_jupyter.errors import (
    DeadlineExceeded,
    InvalidBody,
    Overloaded,
    SignatureMismatch,
    TooLarge,
    UnsupportedMediaType,
)
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.serving import decoders as decoders_module
from mlserve_jupyter.serving.decoders import N_DECODERS, DecoderPool
from mlserve_jupyter.settings import MIB, Settings
from tests import toys
from tests.artifacts.equality import assert_identical
from tests.columnar import ARROW, PARQUET, parquet_file, stream
from tests.serving.versions import served

pytestmark = pytest.mark.anyio

FRAME = pd.DataFrame({"x": [0.1, np.nan, 3.0], "city": ["Bern", None, "Genf"]})
JSON = "application/json"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, decoder_memory_bytes=1024 * MIB)


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[DecoderPool]:
    pool = DecoderPool(settings)
    yield pool
    await pool.aclose()


@pytest.fixture
def version(tmp_path: Path) -> ServedVersion:
    ref = toys.write_model(toys.SumModel(), tmp_path)
    return served(ref, signature=Signature(infer_inputs(FRAME)))


def decoders() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        try:
            if "decoding.main" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def as_json(frame: pd.DataFrame) -> bytes:
    return b'{"dataframe_split":' + frame.to_json(orient="split", index=False).encode() + b"}"


async def test_all_forms_give_the_same_frame(pool: DecoderPool, version: ServedVersion) -> None:
    for body, content_type in (
        (as_json(FRAME), JSON),
        (FRAME.to_csv(index=False).encode(), "text/csv; charset=utf-8"),
        (stream(FRAME), ARROW),
        (parquet_file(FRAME), f"{PARQUET}; anything=else"),
    ):
        batch = await pool.decode(version, body, content_type)
        assert batch.n_rows == 3
        assert_identical(build_input(version.signature.inputs, batch.opened()), FRAME)
    assert len(decoders()) == 1
    assert await pool.is_json(b'[{"a": "\xc3\xa9"}]')
    assert not await pool.is_json(b"[1,")


async def test_a_misfit_is_refused_as_it_would_be_here(
    pool: DecoderPool, version: ServedVersion
) -> None:
    with pytest.raises(SignatureMismatch) as caught:
        await pool.decode(version, stream({"x": [1.0, 2.0], "city": [1, 2]}), ARROW)
    assert (caught.value.details["row"], caught.value.details["column"]) == (0, "city")


async def test_a_body_that_outgrows_the_memory_is_refused_and_the_next_is_read(
    settings: Settings, version: ServedVersion
) -> None:
    n_rows = 3_000_000
    city = pa.DictionaryArray.from_arrays(np.zeros(n_rows, "i4"), ["a" * 50])
    table = pa.table({"x": np.zeros(n_rows), "city": city})
    bodies = [
        (parquet_file(table), PARQUET),
        (stream(table, compression="lz4"), ARROW),
        (b'{"instances":[' + b"[[[[" * 2_000_000, JSON),
    ]
    del table, city
    pool = DecoderPool(replace(settings, decoder_memory_bytes=200 * MIB))
    before_bytes = psutil.Process().memory_info().rss
    try:
        for body, content_type in bodies:
            with pytest.raises((TooLarge, InvalidBody)):
                await pool.decode(version, body, content_type)
            assert (await pool.decode(version, as_json(FRAME), JSON)).n_rows == 3
    finally:
        await pool.aclose()
    assert psutil.Process().memory_info().rss - before_bytes < 50 * MIB


async def test_without_pyarrow_a_caller_is_told_what_to_install(
    pool: DecoderPool, version: ServedVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders_module, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedMediaType, match=r"pip install 'mlserve_jupyter\[arrow\]'"):
        await pool.decode(version, stream(FRAME), ARROW)
    assert not decoders()


async def test_a_body_that_ends_the_process_is_refused_and_the_next_is_read(
    pool: DecoderPool, version: ServedVersion
) -> None:
    await pool.decode(version, as_json(FRAME), JSON)
    [process] = decoders()
    process.suspend()
    asking = asyncio.create_task(pool.decode(version, as_json(FRAME), JSON))
    await asyncio.sleep(0.1)
    os.kill(process.pid, signal.SIGSEGV)
    process.resume()
    with pytest.raises(InvalidBody, match="SIGSEGV"):
        await asking
    assert (await pool.decode(version, as_json(FRAME), JSON)).n_rows == 3


async def test_a_body_that_takes_too_long_is_given_up_with_its_process(
    pool: DecoderPool, settings: Settings, version: ServedVersion
) -> None:
    await pool.decode(version, as_json(FRAME), JSON)
    [stuck] = decoders()
    stuck.suspend()
    pool.apply(replace(settings, predict_timeout_s=0.3))
    with pytest.raises(DeadlineExceeded):
        await pool.decode(version, as_json(FRAME), JSON)
    pool.apply(settings)
    assert (await pool.decode(version, as_json(FRAME), JSON)).n_rows == 3
    await gone(stuck)


async def test_a_caller_that_leaves_takes_its_body_along(
    pool: DecoderPool, version: ServedVersion
) -> None:
    await pool.decode(version, as_json(FRAME), JSON)
    [stuck] = decoders()
    stuck.suspend()
    asking = asyncio.create_task(pool.decode(version, as_json(FRAME), JSON))
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await gone(stuck)


async def test_few_processes_serve_many_bodies_and_too_many_are_refused(
    pool: DecoderPool, settings: Settings, version: ServedVersion
) -> None:
    async def one(i: int) -> Any:
        body = json.dumps({"instances": [[float(i), None]]}).encode()
        return (await pool.decode(version, body, JSON)).opened().columns

    results = await asyncio.gather(*map(one, range(20)))
    assert [columns[0].data.cast("d")[0] for columns in results] == list(range(20))
    assert len(decoders()) <= N_DECODERS
    pool.apply(replace(settings, max_queue_requests=3))
    outcomes = await asyncio.gather(*map(one, range(20)), return_exceptions=True)
    assert any(isinstance(outcome, Overloaded) for outcome in outcomes)
    assert any(isinstance(outcome, list) for outcome in outcomes)


async def test_nothing_is_left_behind(settings: Settings, version: ServedVersion) -> None:
    pool = DecoderPool(settings)
    await pool.decode(version, as_json(FRAME), JSON)
    assert decoders()
    await pool.aclose()
    assert not decoders()


async def gone(process: psutil.Process) -> None:
    await asyncio.to_thread(process.wait, 30)
