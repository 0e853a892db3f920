"""Run the work of requests on a fixed number of threads, and refuse requests early when the queue is full.

A queue that takes longer than clients wait is useless. So a request is refused at once if ``queue`` images are
waiting, and one that has waited for ``timeout`` seconds is removed before any work is done on it.

A request may have a deadline. It is refused at once if it cannot meet the deadline, by the current time per image. The
waiting request with the earliest deadline goes first. A request without a deadline is ordered as if its deadline were
at half of ``timeout``: so such requests keep their order, and none waits forever behind requests with short deadlines.
"""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from deploy.http.errors import TimeLimitExceeded
from deploy.serving.errors import DeadlineMissed, Missed, Overloaded
from deploy.serving.models.pace import Paces

__all__ = ["Dispatcher"]

_Result = TypeVar("_Result")
_PATIENCE = 0.5
"""Share of the time limit that serves as the deadline of a request without one, for ordering only."""
_STALE_SECONDS = 1.0
"""Seconds after which the pace of an idle server is too old to refuse requests by."""


@dataclasses.dataclass(order=True, slots=True)
class _Job:
    """One image that is waiting or being processed. The job with the smallest ``rank`` goes first."""

    rank: float
    number: int
    """Sequence number: of two jobs with the same rank, the older one goes first."""
    work: Callable[[], Any] = dataclasses.field(compare=False)
    kind: str = dataclasses.field(compare=False)
    deadline: float | None = dataclasses.field(compare=False)
    begun: float = dataclasses.field(default=0.0, compare=False)
    future: Future[Any] = dataclasses.field(default_factory=Future, compare=False)


class Dispatcher:
    """Run the work of images on threads. All methods must be called from one event loop.

    Deadlines are times of `time.monotonic`. Jobs of one ``kind`` should take about the same time.

    Args:
        workers: Number of images processed at once.
        queue: Maximum number of waiting images.
        timeout: Maximum seconds from the call to the answer.
    """

    def __init__(self, workers: int, queue: int, timeout: float) -> None:
        self.workers = workers
        self.queue = queue
        self.timeout = timeout
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="predict")
        self._admitted = 0
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # guards all attributes below
        self._waiting: list[_Job] = []  # a heap
        self._in_work: dict[int, _Job] = {}
        self._paces = Paces()

    @property
    def waiting(self) -> int:
        """Number of images that are accepted and not being processed yet."""
        return max(0, self._admitted - self.workers)

    def check(self, deadline: float | None = None, kind: str = "", images: int = 1) -> None:
        """Refuse a request before its body is read, if the queue is full or the deadline cannot be met.

        Raises:
            Overloaded: The queue is full.
            DeadlineMissed: The answer cannot be ready by the deadline.
        """
        if self._admitted >= self.workers + self.queue:
            seconds = math.ceil(self._seconds_of_all(kind)) or 1
            raise Overloaded(f"{self.waiting} images are waiting; try again in {seconds} s", retry_after=seconds)
        if deadline is not None:
            self._check_deadline(deadline, kind, images)

    async def run(self, work: Callable[[], _Result], *, deadline: float | None = None, kind: str = "") -> _Result:
        """Call ``work`` on one of the threads and return its result.

        Raises:
            Overloaded: The queue is full.
            DeadlineMissed: The answer was not, or cannot be, ready by the deadline.
            TimeLimitExceeded: The work exceeds the time limit.
        """
        return (await self.run_all([work], deadline=deadline, kind=kind))[0]

    async def run_all(
        self, works: Sequence[Callable[[], _Result]], *, deadline: float | None = None, kind: str = ""
    ) -> list[_Result]:
        """Run all jobs of one request, and return their results in order.

        They use at most one queue place per worker, and the next job enters when one is done. So a batch of any length
        does not delay a single image by more than the queue's length. An error in one job ends them all.

        Raises:
            Overloaded: The queue has no place for the first job.
            DeadlineMissed: Not all jobs were, or can be, done by the deadline.
            TimeLimitExceeded: The jobs exceed the time limit.
        """
        self.check(deadline, kind, len(works))
        start = time.monotonic()
        limit = self.timeout if deadline is None else min(self.timeout, deadline - start)
        lanes = min(len(works), self.workers, max(1, self.workers + self.queue - self._admitted))
        self._admitted += lanes
        results: dict[int, _Result] = {}
        jobs: list[_Job | None] = [None] * lanes
        todo = iter(list(enumerate(works)))

        async def work_off(lane: int) -> None:
            for index, work in todo:
                jobs[lane] = job = self._submit(work, deadline, kind)
                results[index] = await asyncio.wrap_future(job.future)

        tasks: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(limit):
                if lanes == 1:
                    await work_off(0)
                else:
                    tasks = [asyncio.create_task(work_off(lane)) for lane in range(lanes)]
                    await asyncio.gather(*tasks)
        except TimeoutError as error:
            if deadline is not None and limit < self.timeout:
                is_begun = any(job and job.begun for job in jobs)
                raise _missed(deadline, start, Missed.LATE if is_begun else Missed.EXPIRED) from error
            raise TimeLimitExceeded(f"not answered within {self.timeout:g} s; send fewer images at once") from error
        finally:
            for task in tasks:
                task.cancel()
            for job in jobs:
                self._leave(job.future if job else None)
        return [results[index] for index in range(len(works))]

    def close(self) -> None:
        """Wait for the jobs that are being processed."""
        self._pool.shutdown()

    # Estimates

    def _check_deadline(self, deadline: float, kind: str, images: int) -> None:
        now = time.monotonic()
        with self._lock:
            pace, busy = self._paces.of(kind), len(self._in_work)
            ahead = [job for job in self._waiting if job.rank <= deadline and not job.future.cancelled()]
            wait = 0.0
            if busy + len(ahead) >= self.workers:
                left = sum(
                    max(0.0, self._paces.of(job.kind).mean(self.workers) - (now - job.begun))
                    for job in self._in_work.values()
                )
                wait = (left + sum(self._paces.of(job.kind).mean(self.workers) for job in ahead)) / self.workers
        lanes = min(images, self.workers)
        rounds, together = math.ceil(images / lanes), min(self.workers, busy + len(ahead) + lanes)
        needed = (rounds - 1) * pace.mean(together) + pace.most(together)
        left_over = deadline - now
        if left_over > wait + needed:
            return
        is_idle, is_stale = busy == 0 and not ahead, now - pace.measured > _STALE_SECONDS
        # An outdated slow pace would refuse every request that could correct it.
        if is_idle and is_stale and left_over > rounds * pace.fastest:
            return
        reason = Missed.REFUSED if left_over > 0 else Missed.EXPIRED
        retry_after = math.ceil(wait) if wait and left_over > needed else 0
        raise DeadlineMissed(
            f"the deadline is in {max(0.0, left_over) * 1000:.0f} ms, and the answer would take about "
            f"{(wait + needed) * 1000:.0f} ms, {wait * 1000:.0f} ms of them in the queue",
            reason,
            retry_after=retry_after,
        )

    def _seconds_of_all(self, kind: str) -> float:
        with self._lock:
            return self._paces.of(kind).mean(self.workers) * self._admitted / self.workers

    # Places

    def _leave(self, last: Future[Any] | None) -> None:
        # A client may stop waiting before the work is done; its place is free only afterwards.
        if last is None or last.done():
            self._release()
        else:
            loop = asyncio.get_running_loop()
            last.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))

    def _release(self) -> None:
        self._admitted -= 1

    # On the threads

    def _submit(self, work: Callable[[], Any], deadline: float | None, kind: str) -> _Job:
        patient = time.monotonic() + _PATIENCE * self.timeout
        rank = patient if deadline is None else min(deadline, patient)
        job = _Job(rank, next(self._numbers), work, kind, deadline)
        with self._lock:
            heapq.heappush(self._waiting, job)
        # Each call runs whichever job is first at that moment; there are as many calls as jobs.
        self._pool.submit(self._run_first)
        return job

    def _run_first(self) -> None:
        with self._lock:
            job = heapq.heappop(self._waiting)
            if not job.future.set_running_or_notify_cancel():
                return
            job.begun = start = time.monotonic()
            if job.deadline is None or start < job.deadline:
                self._in_work[job.number] = job
                together = len(self._in_work)
            else:
                job.begun = together = 0
        if not together:
            assert job.deadline is not None
            job.future.set_exception(_missed(job.deadline, start, Missed.EXPIRED))
            return
        try:
            result = job.work()
        except BaseException as error:  # noqa: BLE001 - the caller that waits for the job gets it
            self._done(job, None)
            job.future.set_exception(error)
        else:
            self._done(job, (start, together))
            job.future.set_result(result)

    def _done(self, job: _Job, measured: tuple[float, int] | None) -> None:
        now = time.monotonic()
        with self._lock:
            del self._in_work[job.number]
            if measured:
                start, together = measured
                self._paces.of(job.kind).add(now - start, together, now)


def _missed(deadline: float, since: float, reason: Missed) -> DeadlineMissed:
    what = "started, but not finished" if reason is Missed.LATE else "not started"
    return DeadlineMissed(f"the deadline has passed: {what} within {max(0.0, deadline - since) * 1000:.0f} ms", reason)
