"""``jupyter mlserve db``: the database's schema, size and archives, at the server's machine."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta, timezone
from typing import TYPE_CHECKING

import msgspec

from mlserve_jupyter.errors import InvalidRequest
from mlserve_jupyter.plain_text import plain
from mlserve_jupyter.server.standalone.admin import operator_origin
from mlserve_jupyter.settings import MAX_RETENTION_DAYS, Settings

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from mlserve_jupyter.analytics.database_status import DatabaseStatus
    from mlserve_jupyter.analytics.retention import Retention

_KEPT_DAYS = 7
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGTP]i?)?B?", re.IGNORECASE)


class ArchivedDay(msgspec.Struct, frozen=True):
    """What ``archive --json`` says of a day."""

    day: str
    n_rows: int
    size_bytes: int
    key: str


class RestoredDay(msgspec.Struct, frozen=True):
    """What ``restore --json`` says of a day."""

    day: str
    n_rows: int
    n_without_model: int
    kept_until: datetime


class Upgrade(msgspec.Struct, frozen=True):
    """What ``upgrade --json`` says: the schema's revision before and after."""

    before: str | None
    after: str


def run_db_command(arguments: Sequence[str], settings_of: Callable[[list[str]], Settings]) -> int:
    """Run ``db upgrade``, ``status``, ``archive`` or ``restore``; returns the exit code.

    Parameters
    ----------
    arguments
        Those after ``db``.
    settings_of
        Reads the server's configuration with the arguments that are not this command's own.

    Raises
    ------
    MLServeError
        Saying why it could not be done.
    """
    asked, others = _parser().parse_known_args(arguments)
    settings = settings_of(others)
    if not asked.json:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        logging.getLogger("alembic").setLevel(logging.WARNING)
    answer, text = asked.run(settings, asked)
    print(msgspec.json.encode(answer).decode() if asked.json else plain(text))
    return 0


def _upgrade(settings: Settings, asked: argparse.Namespace) -> tuple[Upgrade, str]:
    from mlserve_jupyter.storage.schema import HEAD_REVISION, prepare_schema, revision_of

    with _opened(settings) as engine:
        before = revision_of(engine)
        prepare_schema(engine)
    change = f"upgraded from {before or 'nothing'} to" if before != HEAD_REVISION else "at"
    return Upgrade(before, HEAD_REVISION), f"The schema is {change} revision {HEAD_REVISION}."


def _status(settings: Settings, asked: argparse.Namespace) -> tuple[DatabaseStatus, str]:
    from mlserve_jupyter.analytics.database_status import read_status

    _check_exists(settings)
    with _opened(settings) as engine:
        status = read_status(engine, settings, asked.capacity)
    return status, _shown(status)


def _archive(settings: Settings, asked: argparse.Namespace) -> tuple[list[ArchivedDay], str]:
    days = settings.retention_days if asked.older_than_days is None else asked.older_than_days
    if asked.older_than_days is None and not days:
        raise InvalidRequest(
            "retention_days is 0, so that all predictions are kept: say --older-than-days."
        )
    from mlserve_jupyter.archiving import cutoff

    before = cutoff(days)
    with _retention(settings) as retention:
        done = [
            ArchivedDay(archive.day, archive.n_rows or 0, archive.size_bytes or 0, archive.key)
            for archive in retention.archive(before)
        ]
    n_rows = sum(day.n_rows for day in done)
    return done, (
        f"{_counted(n_rows, 'prediction')} of {_counted(len(done), 'day')} before {before.date()} "
        f"{'was' if n_rows == 1 else 'were'} archived."
        if done
        else f"There is nothing to archive before {before.date()}."
    )


def _restore(settings: Settings, asked: argparse.Namespace) -> tuple[list[RestoredDay], str]:
    begins_at = _midnight(asked.since)
    ends_at = datetime.combine(asked.until or asked.since, time.max, timezone.utc)
    kept_until = datetime.now(timezone.utc) + timedelta(days=asked.keep_days)
    with _retention(settings) as retention:
        done = [
            RestoredDay(archive.day, restored.n_rows, restored.n_without_model, kept_until)
            for archive, restored in retention.restore(begins_at, ends_at, kept_until)
        ]
    if not done:
        return done, "There is no archive of these days."
    n_without = sum(day.n_without_model for day in done)
    without = ""
    if n_without:
        without = f" {n_without} {_are(n_without)} of models that were deleted since."
    n_rows = sum(day.n_rows for day in done)
    return done, (
        f"{_counted(n_rows, 'prediction')} {_are(n_rows)} back until "
        f"{kept_until:%Y-%m-%d %H:%M} UTC.{without}"
    )


def _check_exists(settings: Settings) -> None:
    """Refuse to make a database for a question, which a misspelled folder would come to.

    Raises
    ------
    InvalidRequest
        Opening the database would make its file.
    SettingsInvalid
        The URL cannot be read.
    """
    from mlserve_jupyter.storage.engine import missing_file

    path = missing_file(settings)
    if path is not None:
        raise InvalidRequest(
            f"There is no database at {path}: say where it is by --data-dir or --database-url. "
            "The first start of a server makes it, and so does `jupyter mlserve db upgrade`."
        )


@contextmanager
def _opened(settings: Settings) -> Iterator[Engine]:
    from mlserve_jupyter.storage.engine import open_engine

    engine = open_engine(settings)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _retention(settings: Settings) -> Iterator[Retention]:
    from mlserve_jupyter.archiving import opened_retention
    from mlserve_jupyter.storage.schema import prepare_schema

    _check_exists(settings)
    with _opened(settings) as engine:
        prepare_schema(engine)
        with opened_retention(settings, engine, operator_origin()) as retention:
            yield retention


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "jupyter mlserve db",
        description="Other options are the server's, such as --data-dir and --database-url.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def add(
        name: str,
        # What it answers is of a type of its own, hence ``object``.
        run: Callable[[Settings, argparse.Namespace], tuple[object, str]],
        what: str,
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="print JSON")
        return command

    add("upgrade", _upgrade, "bring the schema to the revision of this release")
    status = add("status", _status, "say how large it is, and when its disk will be full")
    status.add_argument(
        "--capacity", type=_bytes, help="what a database server may take, such as 500GiB"
    )
    archive = add("archive", _archive, "archive old predictions now")
    archive.add_argument(
        "--older-than-days", type=_n_days, help="whole days before that; else retention_days"
    )
    restore = add("restore", _restore, "put archived predictions back for a time")
    restore.add_argument("--since", type=_day, required=True, help="the first day")
    restore.add_argument("--until", type=_day, help="the last day; else the first")
    restore.add_argument("--keep-days", type=_n_days, default=_KEPT_DAYS, help="how long they stay")
    return parser


def _shown(status: DatabaseStatus) -> str:
    lines = [f"{status.database}: {_size(status.size_bytes)}"]
    if status.advice is not None:
        lines.append(status.advice)
    about = "about " if status.sizes_are_estimated else ""
    width = max((len(table.name) for table in status.tables), default=0)
    lines += [
        f"  {table.name:<{width}}  {about}{_size(table.size_bytes):>10}  "
        f"{_counted(table.n_rows, 'row'):>16}"
        for table in status.tables
        if table.n_rows
    ]
    if status.archives is None:
        return "\n".join(lines)
    if status.oldest_prediction_at is None:
        lines.append("No predictions are in the log, so that nothing can be said of its growth.")
    else:
        lines.append(
            f"It grows by {_size(status.growth_bytes_per_day or 0)} a day "
            f"({_counted(round(status.predictions_per_day or 0), 'prediction')}){_caveat(status)}."
        )
    free = "an unknown size (say --capacity)"
    if status.free_bytes is not None:
        free = _size(status.free_bytes)
    lines.append(f"Free: {free}. Full in: {_days(status)}.")
    kept = _counted(status.retention_days, "day") if status.retention_days else "for ever"
    oldest_at = status.oldest_prediction_at
    oldest = "" if oldest_at is None else f"; the oldest is of {oldest_at.date()}"
    lines.append(f"Predictions are kept {kept}{oldest}.")
    archives = status.archives
    if archives.n_days:
        lines.append(
            f"Archives: {_counted(archives.n_days, 'day')} from {archives.first_day} to "
            f"{archives.last_day}, {_counted(archives.n_rows, 'prediction')}, "
            f"{_size(archives.size_bytes)}; {archives.n_unfinished} of them under way, restored "
            "or in the database as well."
        )
    return "\n".join(lines)


def _caveat(status: DatabaseStatus) -> str:
    """Say how little a rate says that is of less than a day."""
    span = timedelta(days=status.growth_span_days or 0)
    if span >= timedelta(days=1):
        return ""
    minutes = max(round(span / timedelta(minutes=1)), 1)
    shown = _counted(minutes, "minute") if minutes < 120 else _counted(minutes // 60, "hour")
    return f", reckoned from no more than {shown} of predictions"


def _days(status: DatabaseStatus) -> str:
    if status.free_bytes is None:
        return "unknown"
    if status.days_until_full is None:
        return "never, at this rate"
    return _counted(round(status.days_until_full), "day")


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _size(n_bytes: float) -> str:
    for unit in _UNITS:
        if n_bytes < 1024 or unit == _UNITS[-1]:
            break
        n_bytes /= 1024
    return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 500GiB or 2TB")
    unit = (found[2] or "").upper()
    base = 1024 if unit.endswith("I") else 1000
    power = " KMGTP".index(unit[0]) if unit else 0
    return round(float(found[1]) * float(base) ** power)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2026-05-31") from None


def _n_days(text: str) -> int:
    digits = text.lstrip("0") or text
    if not text.isdecimal() or len(digits) > 9 or int(digits) > MAX_RETENTION_DAYS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of days from 0 to {MAX_RETENTION_DAYS:,}"
        )
    return int(digits)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), timezone.utc)
