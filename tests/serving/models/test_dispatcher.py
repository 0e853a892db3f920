"""Limits of the dispatcher: images processed at once, images waiting, and early refusal of the rest."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest

from deploy.http.errors import TimeLimitExceeded
from deploy.serving.errors import Overloaded
from deploy.serving.models.dispatcher import Dispatcher


def test_the_queue_is_bounded_and_frees_itself():
    async def scenario() -> None:
        dispatcher, go_on = Dispatcher(workers=2, queue=1, timeout=180), threading.Event()
        held = [asyncio.create_task(dispatcher.run(lambda: go_on.wait(180))) for _ in range(3)]
        await asyncio.sleep(0)
        assert dispatcher.waiting == 1
        with pytest.raises(Overloaded, match="1 images are waiting; try again in 1 s") as caught:
            await dispatcher.run(lambda: None)
        assert caught.value.retry_after == 1
        go_on.set()
        assert await asyncio.gather(*held) == [True] * 3
        assert await dispatcher.run(lambda: "next") == "next"
        assert dispatcher.waiting == 0
        dispatcher.close()

    asyncio.run(scenario())


def test_what_waits_too_long_is_never_begun():
    async def scenario() -> None:
        dispatcher, go_on, begun = Dispatcher(workers=1, queue=2, timeout=0.05), threading.Event(), []
        held = asyncio.create_task(dispatcher.run(lambda: go_on.wait(180)))
        late = asyncio.create_task(dispatcher.run(lambda: begun.append(1)))
        for task in (held, late):
            with pytest.raises(TimeLimitExceeded, match="not answered within"):
                await task
        go_on.set()
        dispatcher.timeout = 180
        assert await dispatcher.run(lambda: "next") == "next"
        assert begun == []
        dispatcher.close()

    asyncio.run(scenario())


def test_an_error_of_the_work_is_the_callers():
    async def scenario() -> None:
        dispatcher = Dispatcher(workers=1, queue=1, timeout=180)
        with pytest.raises(ZeroDivisionError):
            await dispatcher.run(lambda: 1 / 0)
        assert await dispatcher.run(lambda: 1) == 1
        dispatcher.close()

    asyncio.run(scenario())


def test_a_batch_takes_a_place_for_each_worker_and_leaves_the_queue_to_others():
    async def scenario() -> None:
        dispatcher, go_on, begun = Dispatcher(workers=2, queue=1, timeout=180), threading.Event(), []

        def work(number: int) -> int:
            begun.append(number)
            assert go_on.wait(180)
            return number

        batch = asyncio.create_task(dispatcher.run_all([functools.partial(work, n) for n in range(10)]))
        await asyncio.sleep(0)
        assert dispatcher.waiting == 0
        single = asyncio.create_task(dispatcher.run(lambda: len(begun)))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await dispatcher.run_all([lambda: None] * 5)
        go_on.set()
        assert await batch == list(range(10))
        assert await single <= 4, "it waited behind the images in work, not behind the batch"
        assert dispatcher.waiting == 0
        dispatcher.close()

    asyncio.run(scenario())


def test_a_batch_that_fails_or_is_left_gives_its_places_back():
    async def scenario() -> None:
        dispatcher, go_on = Dispatcher(workers=2, queue=0, timeout=180), threading.Event()
        with pytest.raises(ZeroDivisionError):
            await dispatcher.run_all([lambda: 1 / 0, lambda: 1, lambda: 2])
        assert await dispatcher.run_all([lambda: 1] * 3) == [1] * 3
        left = asyncio.create_task(dispatcher.run_all([lambda: go_on.wait(180)] * 4))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        never_begun = asyncio.create_task(dispatcher.run(lambda: 1))
        never_begun.cancel()
        go_on.set()
        dispatcher.close()
        await asyncio.sleep(0)
        dispatcher.check()
        assert dispatcher._admitted == 0

    asyncio.run(scenario())
