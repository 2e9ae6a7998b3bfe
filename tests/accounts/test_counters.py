from __future__ import annotations

import os
import time

from mlserve_jupyter.accounts import counters as module
from mlserve_jupyter.accounts.counters import OwnCounters, SharedCounters, SharedMemory


def later(seconds: int = 600) -> int:
    return int(time.time()) + seconds


def test_counts_are_kept_by_key_until_their_window_ends() -> None:
    for counters in (OwnCounters(), SharedCounters(SharedMemory(2), 0)):
        ends_at_s = later()
        for _ in range(3):
            counters.add("ada", ends_at_s)
        counters.add("grace", later(-1))
        assert counters.count("ada") == 3
        assert counters.ends_at_s("ada") == ends_at_s
        assert counters.count("grace") == counters.ends_at_s("grace") == 0, "it has ended"
        counters.add("grace", ends_at_s)
        assert counters.count("grace") == 1, "a new window begins at nothing"


def test_processes_that_share_memory_count_together() -> None:
    memory = SharedMemory(4)
    ends_at_s = later()
    pids = []
    for index in range(1, 4):
        pid = os.fork()
        if not pid:
            counters = SharedCounters(memory, index)
            for _ in range(1000):
                counters.add("ada", ends_at_s)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    here = SharedCounters(memory, 0)
    assert here.count("ada") == 3000
    assert here.share("ada", 100) == 100, "the limit is that of all of them"
    assert SharedCounters(memory, 1).count("ada") == 3000, "a replaced process goes on"


def test_a_key_without_a_slot_is_counted_against_a_part_of_the_limit(monkeypatch) -> None:
    monkeypatch.setattr(module, "N_SETS", 1)
    counters = SharedCounters(SharedMemory(2), 0)
    ends_at_s = later()
    for i in range(module.SET_SIZE):
        counters.add(f"user {i}", ends_at_s)
    counters.add("one more", ends_at_s)
    assert counters.count("one more") == 1
    assert counters.share("one more", 100) == 50
    assert [counters.count(f"user {i}") for i in range(module.SET_SIZE)] == [1] * module.SET_SIZE


def test_a_slot_whose_window_has_ended_is_given_to_another_key(monkeypatch) -> None:
    monkeypatch.setattr(module, "N_SETS", 1)
    memory = SharedMemory(2)
    old, new = SharedCounters(memory, 0), SharedCounters(memory, 1)
    for i in range(module.SET_SIZE):
        old.add(f"user {i}", later(-1))
    for i in range(module.SET_SIZE):
        new.add(f"other {i}", later())
    assert new.share("other 0", 100) == 100
    assert old.count("user 0") == 0
    old.add("user 0", later())
    assert new.count("other 0") == 1, "whoever lost its slot does not count into another's"


def test_windows_that_have_ended_are_let_go(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_OWN_KEYS", 10)
    counters = OwnCounters()
    for i in range(1000):
        counters.add(f"user {i}", later(-1))
    assert len(counters._windows) <= 21
