"""Puts the work of requests on threads, so many at a time, and turns the rest away while it is fresh.

A queue that is longer than a client waits answers nobody: beyond ``queue`` waiting images a request is refused at
once, and one that has waited for ``timeout`` seconds is taken out before any work is done on it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from deploy.http.errors import TookTooLong
from deploy.serving.errors import Overloaded

__all__ = ["Dispatcher"]

_Result = TypeVar("_Result")
_MEMORY = 0.9
"""Weight of the past in the mean time of an image."""


class Dispatcher:
    """Runs work of images off the event loop. To be called from one event loop.

    Args:
        workers: Images in work at once.
        queue: Images that may wait beside.
        timeout: Seconds from the call to the answer.
    """

    def __init__(self, workers: int, queue: int, timeout: float) -> None:
        self.workers = workers
        self.queue = queue
        self.timeout = timeout
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="predict")
        self._admitted = 0
        self._seconds = 0.0

    @property
    def waiting(self) -> int:
        """Images admitted and not in work."""
        return max(0, self._admitted - self.workers)

    def check(self) -> None:
        """Refuse before the body is read, where there is no room for it now.

        Raises:
            Overloaded: The queue is full.
        """
        if self._admitted >= self.workers + self.queue:
            seconds = self._seconds * self._admitted / self.workers
            raise Overloaded(
                f"{self.waiting} images wait already; try again in {max(1, math.ceil(seconds))} s",
                retry_after=max(1, math.ceil(seconds)),
            )

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """The result of ``work``, called on one of the threads.

        Raises:
            Overloaded: The queue is full.
            TookTooLong: Not done within the time limit.
        """
        return (await self.run_all([work]))[0]

    async def run_all(self, works: Sequence[Callable[[], _Result]]) -> list[_Result]:
        """The results of the works of one request, in their order.

        They take at most one place for each worker, and the next of them goes in when one is done: beside a batch of
        any length, a single image waits no longer than the queue is long. An error of one work ends them all.

        Raises:
            Overloaded: There is no place for the first of them.
            TookTooLong: Not all done within the time limit.
        """
        self.check()
        lanes = min(len(works), self.workers, max(1, self.workers + self.queue - self._admitted))
        self._admitted += lanes
        results: dict[int, _Result] = {}
        in_work: list[Future[tuple[_Result, float]] | None] = [None] * lanes
        todo = iter(list(enumerate(works)))

        async def work_off(lane: int) -> None:
            for index, work in todo:
                in_work[lane] = future = self._pool.submit(self._timed, work)
                results[index], seconds = await asyncio.wrap_future(future)
                self._seconds = seconds if not self._seconds else _MEMORY * self._seconds + (1 - _MEMORY) * seconds

        tasks: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(self.timeout):
                if lanes == 1:
                    await work_off(0)
                else:
                    tasks = [asyncio.create_task(work_off(lane)) for lane in range(lanes)]
                    await asyncio.gather(*tasks)
        except TimeoutError as error:
            raise TookTooLong(f"not answered within {self.timeout:g} s; send fewer images at once") from error
        finally:
            for task in tasks:
                task.cancel()
            for future in in_work:
                self._leave(future)
        return [results[index] for index in range(len(works))]

    def close(self) -> None:
        """Wait for what is in work."""
        self._pool.shutdown()

    def _leave(self, last: Future[tuple[_Result, float]] | None) -> None:
        # Whoever waits may leave before the work is done: the place is taken until it is.
        if last is None or last.done():
            self._release()
        else:
            loop = asyncio.get_running_loop()
            last.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))

    def _release(self) -> None:
        self._admitted -= 1

    @staticmethod
    def _timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
        start = time.perf_counter()
        return work(), time.perf_counter() - start
