"""Tests of ckptctl.marks."""

from __future__ import annotations

import threading
import time

from ckptctl.marks import Marks


def test_directory_is_held_once() -> None:
    """However often it is marked: a look may take hours, and a trainer writes its log all the while."""
    marks = Marks()
    for _ in range(1000):
        marks.put("a")
        marks.put("b")
    assert marks._calls.qsize() == 1
    assert marks.take(0) == ["a", "b"]
    assert marks.take(0) == []
    marks.put("a")
    assert marks.take(60) == ["a"]


def test_wait_is_ended() -> None:
    """By a mark, by whoever wakes it, or by the clock."""
    marks = Marks()
    began = time.monotonic()
    assert marks.take(0.01) == []
    for call in (marks.wake, lambda: marks.put("a")):
        timer = threading.Timer(0.05, call)
        timer.start()
        taken = marks.take(60)
        timer.join()
        assert taken == ([] if call == marks.wake else ["a"])
    assert time.monotonic() - began < 30


def test_no_mark_is_lost() -> None:
    """Whatever is marked while others are taken is among them or among the next."""
    marks = Marks()
    names = [[f"{thread}-{number}" for number in range(2000)] for thread in range(4)]

    def mark(mine: list[str]) -> None:
        for name in mine:
            marks.put(name)

    threads = [threading.Thread(target=mark, args=(mine,)) for mine in names]
    for thread in threads:
        thread.start()
    taken: list[str] = []
    while any(thread.is_alive() for thread in threads):
        taken += marks.take(0.01)
    taken += marks.take(0)
    assert sorted(taken) == sorted(name for mine in names for name in mine)
    assert marks._calls.qsize() <= 1
