"""Deadlines in the queue: refused at once, earliest first, and no work for expired requests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from deploy.http.errors import TimeLimitExceeded
from deploy.serving.errors import DeadlineMissed, Missed
from deploy.serving.models.dispatcher import Dispatcher
from deploy.serving.models.pace import Pace, Paces

FAR = 3600.0
"""Seconds; never waited for."""
SLOW = 0.2
"""Seconds of an image of the slow engine."""


def slow() -> None:
    """Do the work of a slow engine."""
    time.sleep(SLOW)


class Busy:
    """A dispatcher whose only worker is blocked until `let_go`, which records the order of images."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.begun: list[str] = []
        self._go_on = threading.Event()
        self._held = asyncio.create_task(dispatcher.run(lambda: self._go_on.wait(180)))

    def ask(self, name: str, seconds: float | None = None) -> asyncio.Task[None]:
        deadline = None if seconds is None else time.monotonic() + seconds
        return asyncio.create_task(self.dispatcher.run(lambda: self.begun.append(name), deadline=deadline))

    async def let_go(self) -> None:
        self._go_on.set()
        await self._held


def test_the_earliest_deadline_goes_first_and_the_others_keep_their_order():
    async def scenario() -> None:
        dispatcher = Dispatcher(workers=1, queue=10, timeout=2 * FAR)
        busy = Busy(dispatcher)
        await asyncio.sleep(0)
        requests = [
            busy.ask(name, seconds)
            for name, seconds in (("a", None), ("late", 900), ("b", None), ("soon", 300), ("mid", 600), ("c", None))
        ]
        await asyncio.sleep(0)
        await busy.let_go()
        await asyncio.gather(*requests)
        assert busy.begun == ["soon", "mid", "late", "a", "b", "c"]
        dispatcher.close()

    asyncio.run(scenario())


def test_who_has_no_deadline_goes_as_if_it_had_one_at_half_of_the_time_limit():
    async def scenario() -> None:
        dispatcher = Dispatcher(workers=1, queue=10, timeout=2 * FAR)
        busy = Busy(dispatcher)
        await asyncio.sleep(0)
        requests = [busy.ask(n, s) for n, s in (("none", None), ("after", FAR + 60), ("before", FAR - 60))]
        await asyncio.sleep(0)
        await busy.let_go()
        await asyncio.gather(*requests)
        # A far deadline is never worse than none: it came after, and goes right after.
        assert busy.begun == ["before", "none", "after"]
        dispatcher.close()

    asyncio.run(scenario())


def test_none_starves_behind_a_stream_of_requests_in_a_hurry():
    async def scenario() -> None:
        dispatcher = Dispatcher(workers=1, queue=100, timeout=8.0)
        begun: list[str] = []
        done = asyncio.Event()

        def work(name: str) -> Callable[[], None]:
            def run() -> None:
                begun.append(name)
                time.sleep(0.01)

            return run

        async def hurry() -> None:
            # There are always some that wait, each with a deadline before that of the patient one.
            while not done.is_set():
                try:
                    await dispatcher.run(work("hurried"), deadline=time.monotonic() + 0.3)
                except DeadlineMissed:
                    await asyncio.sleep(0.01)

        hurried = [asyncio.create_task(hurry()) for _ in range(8)]
        while len(begun) < 8:
            await asyncio.sleep(0.01)
        await dispatcher.run(work("patient"))
        done.set()
        await asyncio.gather(*hurried)
        assert begun.count("patient") == 1
        assert begun.index("patient") > 8
        dispatcher.close()

    asyncio.run(scenario())


def test_what_cannot_meet_its_deadline_is_refused_before_anything_is_computed():
    async def scenario() -> None:
        dispatcher, calls = Dispatcher(workers=1, queue=10, timeout=FAR), []
        await dispatcher.run(slow)
        with pytest.raises(DeadlineMissed, match="the answer would take about") as caught:
            await dispatcher.run(lambda: calls.append(1), deadline=time.monotonic() + SLOW / 4)
        assert caught.value.reason is Missed.REFUSED
        assert caught.value.headers == {}, "it would never be met"
        with pytest.raises(DeadlineMissed):
            dispatcher.check(time.monotonic() + SLOW / 4)
        assert await dispatcher.run(lambda: 1, deadline=time.monotonic() + FAR / 2) == 1
        assert calls == []
        dispatcher.close()

    asyncio.run(scenario())


def test_the_queue_ahead_counts_and_only_what_is_ahead():
    async def scenario() -> None:
        dispatcher = Dispatcher(workers=1, queue=10_000, timeout=2 * FAR)
        await dispatcher.run(slow)
        busy = Busy(dispatcher)
        await asyncio.sleep(0)
        deadline, admitted = time.monotonic() + 60, []

        async def admit(images: int) -> None:
            for _ in range(images):
                dispatcher.check(deadline)
                admitted.append(asyncio.create_task(dispatcher.run(slow, deadline=deadline)))
                await asyncio.sleep(0)

        with pytest.raises(DeadlineMissed, match="in the queue") as caught:
            await admit(5000)
        assert 0 < len(admitted) <= 60 / SLOW
        assert caught.value.retry_after > 1, "an empty queue would leave it time enough"
        assert caught.value.headers == {"Retry-After": str(caught.value.retry_after)}
        dispatcher.check(deadline - 30)  # goes before all of them
        dispatcher.check(deadline + 600)
        for task in admitted:
            task.cancel()
        await asyncio.gather(*admitted, return_exceptions=True)
        dispatcher.check(deadline)
        await busy.let_go()
        dispatcher.close()

    asyncio.run(scenario())


def test_a_batch_needs_the_time_of_all_its_images():
    async def scenario() -> None:
        dispatcher = Dispatcher(workers=2, queue=10, timeout=2 * FAR)
        await dispatcher.run_all([slow, slow])
        deadline = time.monotonic() + 5
        dispatcher.check(deadline, images=2)
        with pytest.raises(DeadlineMissed):
            dispatcher.check(deadline, images=100)
        dispatcher.close()

    asyncio.run(scenario())


def test_each_kind_of_image_has_its_own_pace():
    async def scenario() -> None:
        dispatcher = Dispatcher(workers=1, queue=10, timeout=2 * FAR)
        await dispatcher.run(slow, kind="large")
        deadline = time.monotonic() + SLOW / 4
        with pytest.raises(DeadlineMissed):
            dispatcher.check(deadline, "large")
        dispatcher.check(deadline, "small")
        dispatcher.close()

    asyncio.run(scenario())


def test_what_expires_in_the_queue_is_never_begun():
    async def scenario() -> None:
        dispatcher = Dispatcher(workers=1, queue=10, timeout=FAR)
        busy = Busy(dispatcher)
        await asyncio.sleep(0)
        with pytest.raises(DeadlineMissed, match="not started") as caught:
            await busy.ask("hurried", 0.05)
        assert caught.value.reason is Missed.EXPIRED
        await busy.let_go()
        assert await dispatcher.run(lambda: "next") == "next"
        assert busy.begun == []
        dispatcher.close()

    asyncio.run(scenario())


def test_a_thread_begins_nothing_whose_deadline_has_passed():
    dispatcher, begun = Dispatcher(workers=1, queue=10, timeout=FAR), []
    job = dispatcher._submit(lambda: begun.append(1), time.monotonic() - 0.001, "")
    error = job.future.exception(timeout=180)
    assert isinstance(error, DeadlineMissed)
    assert error.reason is Missed.EXPIRED
    assert begun == []
    dispatcher.close()


def test_what_is_not_done_by_its_deadline_is_answered_then():
    async def scenario() -> None:
        dispatcher, go_on = Dispatcher(workers=1, queue=10, timeout=FAR), threading.Event()
        with pytest.raises(DeadlineMissed, match="started, but not finished") as caught:
            await dispatcher.run(lambda: go_on.wait(180), deadline=time.monotonic() + 0.2)
        assert caught.value.reason is Missed.LATE
        go_on.set()
        dispatcher.close()

    asyncio.run(scenario())


def test_a_deadline_beyond_the_time_limit_does_not_extend_it():
    async def scenario() -> None:
        dispatcher, go_on = Dispatcher(workers=1, queue=10, timeout=0.05), threading.Event()
        with pytest.raises(TimeLimitExceeded):
            await dispatcher.run(lambda: go_on.wait(180), deadline=time.monotonic() + FAR)
        go_on.set()
        dispatcher.close()

    asyncio.run(scenario())


def test_one_slow_image_does_not_refuse_for_ever(monkeypatch: pytest.MonkeyPatch):
    async def scenario() -> None:
        dispatcher = Dispatcher(workers=1, queue=10, timeout=FAR)
        await dispatcher.run(lambda: time.sleep(0.001))
        for _ in range(20):
            await dispatcher.run(lambda: time.sleep(0.02))
        fastest = dispatcher._paces.of("").fastest
        between, impossible = (fastest + 0.02) / 2, fastest / 2
        with pytest.raises(DeadlineMissed):
            dispatcher.check(time.monotonic() + between)
        monkeypatch.setattr("deploy.serving.models.dispatcher._STALE_SECONDS", 0.0)
        dispatcher.check(time.monotonic() + between)
        with pytest.raises(DeadlineMissed):
            dispatcher.check(time.monotonic() + impossible)
        dispatcher.close()

    asyncio.run(scenario())


def test_a_pace_tells_apart_how_many_images_are_in_work():
    pace = Pace()
    assert (pace.mean(1), pace.most(1)) == (0.0, 0.0)
    for _ in range(100):
        pace.add(1.0, 1, 0.0)
        pace.add(4.0, 4, 0.0)
    assert pace.mean(1) == pytest.approx(1.0)
    assert pace.mean(3) == pace.mean(9) == pytest.approx(4.0)
    assert pace.most(4) == pytest.approx(4.0, rel=0.01)
    assert pace.fastest == 1.0
    for seconds in (2.0, 6.0) * 100:
        pace.add(seconds, 2, 0.0)
    assert pace.mean(2) == pytest.approx(4.0, rel=0.1)
    assert pace.most(2) > 6.0


def test_paces_of_models_long_gone_are_forgotten():
    paces = Paces()
    first = paces.of("0")
    first.add(1.0, 1, 0.0)
    for number in range(63):
        paces.of(str(number))
    assert paces.of("0") is first
    for number in range(1, 65):
        paces.of(str(number))
    assert paces.of("0") is not first
