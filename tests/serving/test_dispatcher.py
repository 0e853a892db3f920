"""So many at a time, so many waiting, the rest refused while it is fresh."""

from __future__ import annotations

import asyncio
import threading

import pytest

from deploy.serving.dispatcher import Dispatcher
from deploy.serving.errors import Overloaded, TookTooLong


def test_the_queue_is_bounded_and_frees_itself():
    async def scenario() -> None:
        dispatcher, go_on = Dispatcher(workers=2, queue=1, timeout=30), threading.Event()
        held = [asyncio.create_task(dispatcher.run(lambda: go_on.wait(30))) for _ in range(3)]
        await asyncio.sleep(0)
        assert dispatcher.waiting == 1
        with pytest.raises(Overloaded, match="1 images wait already; try again in 1 s") as caught:
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
        held = asyncio.create_task(dispatcher.run(lambda: go_on.wait(30)))
        late = asyncio.create_task(dispatcher.run(lambda: begun.append(1)))
        for task in (held, late):
            with pytest.raises(TookTooLong, match="not answered within"):
                await task
        go_on.set()
        assert await dispatcher.run(lambda: "next") == "next"
        assert begun == []
        dispatcher.close()

    asyncio.run(scenario())


def test_an_error_of_the_work_is_the_callers():
    async def scenario() -> None:
        dispatcher = Dispatcher(workers=1, queue=1, timeout=30)
        with pytest.raises(ZeroDivisionError):
            await dispatcher.run(lambda: 1 / 0)
        assert await dispatcher.run(lambda: 1) == 1
        dispatcher.close()

    asyncio.run(scenario())
