"""Places to compute: never more than there are, and the most awaited stage is next."""

from __future__ import annotations

import threading

from tasks.running.slots import Slots


def served(*turns: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the order in which those are served who have come while the one place was held."""
    slots, order = Slots(1), list[tuple[int, int]]()

    def work(turn: tuple[int, int]) -> None:
        with slots.place(*turn):
            order.append(turn)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in turns]
    with slots.place(0):
        for thread in threads:
            thread.start()
        while len(slots._waiting) < len(turns):
            pass
    for thread in threads:
        thread.join()
    return order


def test_the_highest_priority_is_next_and_of_equals_the_first_by_position() -> None:
    assert served((1, 0), (3, 9), (2, 1)) == [(3, 9), (2, 1), (1, 0)]
    assert served((1, 3), (1, 1), (1, 2)) == [(1, 1), (1, 2), (1, 3)]


def test_a_better_one_that_comes_in_the_pause_is_served_first() -> None:
    slots, order = Slots(1, pause=600.0), list[int]()

    def work(priority: int) -> None:
        with slots.place(priority):
            order.append(priority)

    lesser = threading.Thread(target=work, args=(1,))
    with slots.place(3):  # its end makes 2 ready
        lesser.start()
        while not slots._waiting:
            pass
    work(2)
    lesser.join()
    assert order == [2, 1]


def test_one_than_whom_none_better_can_come_does_not_wait_for_the_pause() -> None:
    slots = Slots(1, pause=600.0)
    for priority in (3, 2, 1, 5):
        with slots.place(priority):
            assert not slots._free


def test_equal_priorities_fill_every_place_and_no_more() -> None:
    slots, inside, lock = Slots(2), [0, 0], threading.Lock()
    together = threading.Barrier(2)

    def work() -> None:
        with slots.place(1):
            with lock:
                inside[0] += 1
                inside[1] = max(inside)
            together.wait(timeout=30)  # passes only when two are inside at once
            with lock:
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == [0, 2]


def test_one_that_is_alone_holds_every_place_and_waits_for_all() -> None:
    slots, order = Slots(2), list[str]()
    inside, go_on = threading.Event(), threading.Event()

    def be_alone() -> None:
        with slots.place(2, alone=True):
            order.append("alone")
            inside.set()
            go_on.wait(timeout=30)
            order.append("left")

    def work() -> None:
        with slots.place(1):
            order.append("other")

    alone, other = threading.Thread(target=be_alone), threading.Thread(target=work)
    with slots.place(0):  # one place is free, and not given to either of them
        alone.start()
        while not slots._waiting:
            pass
        other.start()
        while len(slots._waiting) < 2:
            pass
        order.append("first")
    inside.wait(timeout=30)
    assert not slots._free
    go_on.set()
    for thread in (alone, other):
        thread.join()
    assert order == ["first", "alone", "left", "other"]
