"""Alerts of real calls, keys and disks, on each database, and a real receiver of them."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.alert_rows import (
    LAST_RETRY_S,
    UNSEEN,
    list_alerts,
    note_readings,
    write_limit,
)
from mlserve_jupyter.analytics.alert_states import END_AFTER, Reading
from mlserve_jupyter.analytics.alert_watches import (
    KEY_FIRST_DAY,
    MIN_CALLS,
    MIN_KEY_REQUESTS,
    calls_look,
    disks_look,
    keys_look,
)
from mlserve_jupyter.analytics.alerts import Alerts, Watch, open_alerts
from mlserve_jupyter.analytics.drift_watch import drift_look
from mlserve_jupyter.analytics.histogram_rows import Counted, Counts, Period, add_counted
from mlserve_jupyter.analytics.rollups import count_calls
from mlserve_jupyter.analytics.webhook import SIGNATURE, Webhook
from mlserve_jupyter.api.alerts import AlertState, DescribeAlert
from mlserve_jupyter.api.profile import FeatureProfile, Profile
from mlserve_jupyter.api.resources import UpdateVersion
from mlserve_jupyter.errors import SettingsInvalid, StorageUnavailable
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.monitoring_tables import key_uses
from mlserve_jupyter.storage.tables import api_keys
from tests.accounts.people import Person, add_person
from tests.analytics.calls import call, opened_log
from tests.registry.deploys import Deploys
from tests.webhook import Receiver, receiving

NOON = datetime(2026, 5, 1, 12, 0, 30, tzinfo=timezone.utc)
WAIT_S = 30.0


class Clock:
    """A clock that goes on by a minute a look."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        return self.at

    def go_on(self, **length: float) -> None:
        self.at += timedelta(**length)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def told(settings: Settings, receiver: Receiver) -> Settings:
    return replace(settings, alert_webhook_url=receiver.url, alert_webhook_secret="s3cret")


class Calls:
    """Logs calls as of the clock."""

    def __init__(self, engine: Engine, settings: Settings, clock: Clock) -> None:
        self._engine, self._settings, self._clock = engine, settings, clock

    def __call__(
        self, version: ServedVersion, n: int, *, n_failed: int = 0, total_ms: float = 5.0
    ) -> None:
        with opened_log(self._engine, self._settings, [count_calls]) as log:
            for i in range(n):
                status = "model_failed" if i < n_failed else "ok"
                log.append(
                    call(version, i, created_at=self._clock(), status=status, total_ms=total_ms)
                )
            assert log.flush(WAIT_S)


@pytest.fixture
def calls(engine: Engine, settings: Settings, clock: Clock) -> Calls:
    return Calls(engine, settings, clock)


def alerts_on(engine: Engine, settings: Settings, clock: Clock, *watches: Watch) -> Alerts:
    return Alerts(engine, settings, watches, (), "this-host", clock)


def models(engine: Engine) -> Watch:
    return Watch(("p95_ms", "error_rate"), calls_look(engine))


def found(engine: Engine, state: AlertState | None = None) -> list[DescribeAlert]:
    with reading(engine) as connection:
        page = list_alerts(
            connection, user_id=None, model_ids=None, state=state, limit=100, cursor=None
        )
    return list(page.items)


def note_uses(
    engine: Engine, person: Person, made_at: datetime, uses: Mapping[datetime, int]
) -> None:
    """Write when a person's key was made, and how often it was used in which hours."""
    with writing(engine) as connection:
        of_person = api_keys.c.user_id == person.id
        id = connection.scalar(sa.select(api_keys.c.id).where(of_person))
        connection.execute(api_keys.update().where(of_person).values(created_at=made_at))
        rows = [{"api_key_id": id, "at": at, "n_requests": n} for at, n in uses.items()]
        connection.execute(key_uses.insert(), rows)


def look(alerts: Alerts, clock: Clock, times: int = 1) -> None:
    for _ in range(times):
        alerts.look()
        clock.go_on(minutes=1)


def test_calls_that_fail_fire_an_alert_that_ends_when_they_succeed(
    engine: Engine, told: Settings, deploy: Deploys, calls: Calls, clock: Clock, receiver: Receiver
) -> None:
    version = deploy()
    alerts = alerts_on(engine, told, clock, models(engine))
    calls(version, 100, n_failed=5)
    look(alerts, clock, 2)
    assert found(engine) == []  # five of a hundred are just what is allowed
    calls(version, 100, n_failed=50)
    look(alerts, clock)
    assert found(engine) == []
    assert [alert.state for alert in found(engine, "pending")] == ["pending"]
    assert receiver.told() == []
    look(alerts, clock)
    [alert] = found(engine)
    assert (alert.rule, alert.title, alert.state) == ("error_rate", "owner~clf", "firing")
    assert alert.value == pytest.approx(55 / 200)
    assert alert.is_told
    assert receiver.told() == [("error_rate", "firing")]
    clock.go_on(minutes=6)
    calls(version, 100)
    look(alerts, clock, END_AFTER)
    [alert] = found(engine)
    assert alert.state == "ended"
    assert alert.worst == pytest.approx(55 / 200)
    assert alert.ended_at is not None
    assert receiver.told() == [("error_rate", "firing"), ("error_rate", "ended")]
    look(alerts, clock, 5)
    assert len(receiver.messages) == 2


def test_a_slow_model_fires_by_the_p95_of_its_calls(
    engine: Engine, settings: Settings, deploy: Deploys, calls: Calls, clock: Clock
) -> None:
    slow, quick = deploy("slow"), deploy("quick")
    calls(slow, 90, total_ms=10)
    calls(slow, 10, total_ms=3000)
    calls(quick, 97, total_ms=10)
    calls(quick, 3, total_ms=3000)
    look(alerts_on(engine, settings, clock, models(engine)), clock, 2)
    [alert] = found(engine)
    assert (alert.rule, alert.title) == ("p95_ms", "owner~slow")
    assert alert.value == pytest.approx(3000, rel=0.02)
    assert alert.text.startswith("The p95 of owner~slow is ")
    assert alert.text.endswith(" ms, over its limit of 1000 ms, since 2026-05-01 12:00 UTC.")


def test_a_few_calls_say_nothing_until_there_are_enough_in_an_hour(
    engine: Engine, settings: Settings, deploy: Deploys, calls: Calls, clock: Clock
) -> None:
    version = deploy()
    alerts = alerts_on(engine, settings, clock, models(engine))
    calls(version, MIN_CALLS - 1, n_failed=MIN_CALLS - 1)
    look(alerts, clock, 3)
    assert found(engine) == found(engine, "pending") == []
    clock.go_on(minutes=20)
    calls(version, 1, n_failed=1)
    look(alerts, clock, 2)
    assert [alert.value for alert in found(engine)] == [1.0]


def test_a_model_that_nobody_calls_any_more_ends_its_alert_after_an_hour(
    engine: Engine, settings: Settings, deploy: Deploys, calls: Calls, clock: Clock
) -> None:
    alerts = alerts_on(engine, settings, clock, models(engine))
    calls(deploy(), 50, n_failed=50)
    look(alerts, clock, 2)
    clock.go_on(minutes=30)
    look(alerts, clock)
    assert [alert.state for alert in found(engine)] == ["firing"]
    clock.go_on(hours=1, minutes=40)
    look(alerts, clock)
    assert [alert.state for alert in found(engine)] == ["ended"]


def test_a_model_may_have_limits_of_its_own(
    engine: Engine, settings: Settings, deploy: Deploys, calls: Calls, clock: Clock
) -> None:
    strict, silent, usual = deploy("strict"), deploy("silent"), deploy("usual")
    with writing(engine) as connection:
        write_limit(connection, strict.model_id, "p95_ms", 2.0)
        write_limit(connection, silent.model_id, "error_rate", 0.0)
    for version in (strict, usual):
        calls(version, 50, total_ms=5)
    calls(silent, 50, n_failed=50)
    look(alerts_on(engine, settings, clock, models(engine)), clock, 2)
    assert [(alert.rule, alert.title) for alert in found(engine)] == [("p95_ms", "owner~strict")]
    with writing(engine) as connection:
        write_limit(connection, strict.model_id, "p95_ms", None)
    assert [alert.limit for alert in found(engine)] == [2.0]


def test_an_alert_keeps_the_limit_that_it_fired_by(
    engine: Engine, settings: Settings, clock: Clock, deploy: Deploys, calls: Calls
) -> None:
    served = deploy()
    calls(served, 30, n_failed=15)
    alerts = alerts_on(engine, settings, clock, models(engine))
    look(alerts, clock, 2)
    [alert] = found(engine, "firing")
    assert alert.limit == 0.05
    with writing(engine) as connection:
        write_limit(connection, served.model_id, "error_rate", 0.9)
    look(alerts, clock, END_AFTER)
    [ended] = found(engine, "ended")
    assert (ended.limit, ended.value, ended.worst) == (0.05, 0.5, 0.5)
    assert "is 50.0%, over its limit of 5.0% when it fired" in ended.text


def test_a_deleted_model_takes_its_alerts_along(
    engine: Engine, settings: Settings, deploy: Deploys, calls: Calls, clock: Clock
) -> None:
    version = deploy()
    alerts = alerts_on(engine, settings, clock, models(engine))
    calls(version, 50, n_failed=50)
    look(alerts, clock, 2)
    with writing(engine) as connection:
        write_limit(connection, version.model_id, "drift", 1.0)
    deploy.registry.update_version(version.model_id, 1, UpdateVersion(status="archived"))
    deploy.registry.delete_model(version.model_id)
    assert found(engine) == []
    look(alerts, clock, 2)
    assert found(engine) == []


def test_a_column_that_has_moved_fires_and_one_that_has_not_does_not(
    engine: Engine, settings: Settings, deploy: Deploys, clock: Clock
) -> None:
    sample = FeatureProfile(name="size", kind="number", edges=[0.0], counts=[500, 500])
    profile = Profile(n_rows=1000, features=[sample])
    counts = {"moved": [950, 50, 0], "still": [480, 520, 0], "rare": [5, 0, 0]}
    for name, live in counts.items():
        version = deploy(name, baseline=profile)
        counted = Counted(sum(live), Counts(features={"size": live}))
        hour = clock.at.replace(minute=0, second=0)
        with writing(engine) as connection:
            add_counted(connection, Period(version.id, hour, version.model_id), counted)
    watch = Watch(("drift",), drift_look(engine))
    look(alerts_on(engine, settings, clock, watch), clock, 2)
    [alert] = found(engine)
    assert (alert.rule, alert.title) == ("drift", "owner~moved")
    assert alert.value > 1
    assert "a PSI of 1." in alert.text
    clock.go_on(days=2)
    look(alerts_on(engine, settings, clock, watch), clock)
    assert [alert.state for alert in found(engine)] == ["ended"]


def test_an_unusual_use_of_a_key_fires_and_a_usual_one_does_not(
    engine: Engine, settings: Settings, clock: Clock
) -> None:
    this_hour = clock.at.replace(minute=0, second=0)
    before = [this_hour - timedelta(hours=hours) for hours in range(2, 100)]
    long_ago = clock.at - timedelta(days=30)
    for name, usual, now, made_at in (
        ("ann", 300, 1600, long_ago),
        ("bob", 3000, 4000, long_ago),
        ("eve", 1, MIN_KEY_REQUESTS - 1, long_ago),
        ("new", 1, 9000, clock.at - KEY_FIRST_DAY / 2),
    ):
        uses = {**dict.fromkeys(before, usual), this_hour: now}
        note_uses(engine, add_person(engine, "", name), made_at, uses)
    watch = Watch(("key_use",), keys_look(engine, "mls_"))
    look(alerts_on(engine, settings, clock, watch), clock, 2)
    [alert] = found(engine)
    assert alert.rule == "key_use"
    assert alert.title.startswith("key mls_")
    assert alert.title.endswith(" of ann")
    assert alert.value == pytest.approx(1600 / 300)


def test_a_disk_is_looked_at_once_however_many_folders_it_has(
    engine: Engine, settings: Settings, tmp_path: Path, clock: Clock
) -> None:
    folders = [tmp_path / name for name in ("a", "b", "gone")]
    for folder in folders[:2]:
        folder.mkdir()
    disk = os.statvfs(tmp_path)
    used = (disk.f_blocks - disk.f_bfree) / (disk.f_blocks - disk.f_bfree + disk.f_bavail)
    watch = Watch(("disk_used",), disks_look(folders, "this-host"))
    low = replace(settings, alert_disk_used=used / 2)
    look(alerts_on(engine, low, clock, watch), clock, 2)
    [alert] = found(engine)
    assert alert.title == f"{tmp_path / 'a'} on this-host"
    assert alert.value == pytest.approx(used, abs=0.05)
    look(alerts_on(engine, replace(settings, alert_disk_used=0.0), clock, watch), clock)
    assert [alert.state for alert in found(engine)] == ["firing"]
    clock.go_on(seconds=UNSEEN.total_seconds() + 60)
    look(alerts_on(engine, replace(settings, alert_disk_used=0.0), clock, watch), clock)
    assert [alert.state for alert in found(engine)] == ["ended"]


def test_what_one_process_has_begun_another_one_carries_on(
    engine: Engine, settings: Settings, deploy: Deploys, calls: Calls, clock: Clock
) -> None:
    calls(deploy(), 50, n_failed=50)
    look(alerts_on(engine, settings, clock, models(engine)), clock)
    assert found(engine) == []
    look(alerts_on(engine, settings, clock, models(engine)), clock)
    assert len(found(engine)) == 1


def test_two_processes_at_once_open_one_alert(engine: Engine) -> None:
    reading_ = Reading(rule="disk_used", subject="d", title="d", value=0.9, limit=0.8)
    with writing(engine) as connection:
        note_readings(connection, ["disk_used"], [reading_], NOON)
        # As if the other one had read before this one wrote.
        note_readings(connection, [], [reading_], NOON)
    assert len(found(engine, "pending")) == 1


def firing(engine: Engine, n: int = 1) -> list[Reading]:
    readings = [
        Reading(rule="disk_used", subject=f"d{i}", title=f"d{i}", value=0.9, limit=0.8)
        for i in range(n)
    ]
    with writing(engine) as connection:
        for _ in range(2):
            note_readings(connection, ["disk_used"], readings, NOON)
    return readings


def test_a_message_is_signed_and_says_all_of_it(
    engine: Engine, told: Settings, clock: Clock, receiver: Receiver
) -> None:
    firing(engine)
    look(alerts_on(engine, told, clock), clock)
    [message] = receiver.messages
    assert message["server"] == "this-host"
    assert message["text"].startswith("The used share of the disk d0 is 90.0%, over its limit of ")
    assert (message["state"], message["value"], message["limit"]) == ("firing", 0.9, 0.8)
    digest = hmac.new(b"s3cret", receiver.bodies[0], hashlib.sha256).hexdigest()
    [headers] = receiver.headers
    assert headers[SIGNATURE] == f"sha256={digest}"
    assert headers["Content-Type"] == "application/json"
    assert not {"Authorization", "Cookie", "X-MLServe-Key"} & headers.keys()


def test_a_webhook_that_fails_is_told_again_later_and_only_once(
    engine: Engine, told: Settings, clock: Clock, receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    firing(engine)
    receiver.status = 503
    alerts = alerts_on(engine, told, clock)
    alerts.look()
    assert len(receiver.messages) == 1
    alerts.look()
    assert len(receiver.messages) == 1  # not at once
    assert "127.0.0.1 has answered 503" in caplog.text
    assert "planted-secret" not in caplog.text
    assert not found(engine)[0].is_told
    clock.go_on(seconds=LAST_RETRY_S)
    alerts.look()
    assert len(receiver.messages) == 2
    receiver.status = 204
    clock.go_on(seconds=LAST_RETRY_S)
    look(alerts, clock, 5)
    assert len(receiver.messages) == 3
    assert found(engine)[0].is_told


def test_a_webhook_that_fails_for_a_day_is_not_told_any_more(
    engine: Engine, told: Settings, clock: Clock, receiver: Receiver
) -> None:
    firing(engine)
    clock.go_on(days=1, minutes=1)
    look(alerts_on(engine, told, clock), clock, 3)
    assert receiver.messages == []


def test_a_redirect_is_not_followed(
    engine: Engine, told: Settings, clock: Clock, receiver: Receiver
) -> None:
    firing(engine)
    with receiving() as inside:
        receiver.status, receiver.location = 307, inside.url
        look(alerts_on(engine, told, clock), clock)
        assert len(receiver.messages) == 1
        assert inside.bodies == []
    assert not found(engine)[0].is_told


def test_one_alert_that_is_not_taken_does_not_keep_the_others_for_ever(
    engine: Engine, told: Settings, clock: Clock, receiver: Receiver
) -> None:
    firing(engine, 3)
    receiver.status = 500
    alerts = alerts_on(engine, told, clock)
    look(alerts, clock)
    assert len(receiver.messages) == 1
    receiver.status = 200
    look(alerts, clock, 10)
    assert sorted(message["title"] for message in receiver.messages[1:]) == ["d0", "d1", "d2"]


def test_a_webhook_that_is_silent_or_gone_is_given_up_in_time(receiver: Receiver) -> None:
    receiver.delay_s = 1.0
    problem = Webhook(receiver.url, timeout_s=0.2).send(b"{}")
    assert problem == "127.0.0.1 has not answered within 0.2 s"
    gone = Webhook("http://127.0.0.1:9/hook?token=planted-secret").send(b"{}")
    assert gone == "127.0.0.1 cannot be reached (ConnectionRefusedError)"


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://host/", "gopher://host/", "host/hook", "http://?x", "https:///x", "http://user:pass@host/",
     "http://host:99999/", "http://ho st/", "http://host/\nX: y", "unix:///run/docker.sock"],
)  # fmt: skip
def test_a_webhook_that_is_none_is_refused_without_being_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsInvalid, match="alert_webhook_url must be") as caught:
        Settings(data_dir=tmp_path, alert_webhook_url=url)
    assert url not in str(caught.value)


@pytest.mark.parametrize("name", ["alert_error_rate", "alert_disk_used"])
def test_a_share_over_one_is_refused_where_percent_was_meant(tmp_path: Path, name: str) -> None:
    Settings(data_dir=tmp_path, **{name: 1.0})
    with pytest.raises(SettingsInvalid, match=f"{name} is a share, at most 1, not 5.0"):
        Settings(data_dir=tmp_path, **{name: 5.0})


def test_settings_do_not_show_the_webhook(told: Settings) -> None:
    assert "planted-secret" not in repr(told)
    assert "s3cret" not in repr(told)


def test_a_look_that_fails_does_not_keep_the_others_from_theirs(
    engine: Engine, settings: Settings, clock: Clock
) -> None:
    def fail(now: datetime, settings: Settings) -> Sequence[Reading]:
        raise StorageUnavailable("gone")

    def over(now: datetime, settings: Settings) -> Sequence[Reading]:
        return [Reading(rule="disk_used", subject="d", title="d", value=0.9, limit=0.8)]

    watches = (Watch(("p95_ms",), fail), Watch(("disk_used",), over))
    look(alerts_on(engine, settings, clock, *watches), clock, 2)
    assert len(found(engine)) == 1


def test_the_disks_of_a_host_are_looked_at_with_either_database(
    engine: Engine, settings: Settings
) -> None:
    low = replace(settings, alert_disk_used=1e-9)
    alerts = open_alerts(engine, low, "mls_")
    is_server = engine.dialect.name == "postgresql"
    assert [job.name for job in alerts.host_jobs()] == (["host alerts"] if is_server else [])
    for _ in range(2):
        for job in [*alerts.host_jobs(), alerts.job()]:
            job.run(lambda: True)
    assert [alert.rule for alert in found(engine)] == ["disk_used"]
    assert alerts.n_firing == {"disk_used": 1}
