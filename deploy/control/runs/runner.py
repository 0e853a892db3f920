"""Process the queue: start waiting runs, watch running ones, stop cancelled ones, and store how each ended."""

from __future__ import annotations

import dataclasses
import logging
import signal
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from deploy.control.runs.launcher import Launcher, RunObservation, Stage
from visionops.errors import StackError, VisionOpsError, one_line
from visionops.review.errors import ReviewError
from visionops.runs.ports import RunStore
from visionops.runs.states import Run, RunState, advance

__all__ = ["LEASE", "Runner"]

LEASE = timedelta(seconds=10)
"""Time after which another service may take over the runs of a service that died."""
_TICK_SECONDS = 0.5
_LAST_LINE = 4096
_KILLED = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP})
"""Exit codes of a run that was killed from outside, so that its result is unknown."""
_log = logging.getLogger("visionops.control")


class Runner:
    """Run the queue of one service.

    Args:
        owner: Name of this service, different for each start.
        command: Returns the command line of a run; raises if the use case does not exist any more.
        clock: Returns the current time, time-zone aware.
        grace: Time that a cancelled run has to end before it is killed.
        lease: Time after which another service may take over the runs of a service that died.
        tick_seconds: Seconds between two checks of all runs.
        on_end: Called with each run that has ended.
    """

    def __init__(
        self,
        store: RunStore,
        launcher: Launcher,
        owner: str,
        command: Callable[[Run], list[str]],
        clock: Callable[[], datetime],
        *,
        grace: timedelta,
        lease: timedelta = LEASE,
        tick_seconds: float = _TICK_SECONDS,
        on_end: Callable[[Run], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._launcher = launcher
        self._owner = owner
        self._command = command
        self._clock = clock
        self._grace = grace
        self._lease = lease
        self._tick_seconds = tick_seconds
        self._on_end = on_end
        self._stopped = threading.Event()
        self._interrupted: set[str] = set()
        self._thread = threading.Thread(target=self._loop, name="runs", daemon=True)

    def start(self) -> None:
        """Start the loop in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the loop. Runs continue, and the next service takes them over."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def tick(self) -> None:
        """Check every run once.

        Raises:
            ReviewError: The database cannot be reached; the next tick tries again.
        """
        now = self._clock()
        for run in self._store.hold(self._owner, self._launcher.place, now, now + self._lease):
            try:
                self._watch(run, now)
            except StackError as error:  # the cluster did not answer this time, so the run's state is unknown
                _log.warning("run_not_seen", extra={"fields": _fields(run) | {"reason": str(error)}})
        while (taken := self._store.take(self._owner, self._launcher.place, now, now + self._lease)) is not None:
            _log.info("run_started", extra={"fields": _fields(taken)})
            self._begin(taken, now)

    def _loop(self) -> None:
        while not self._stopped.wait(self._tick_seconds):
            try:
                self.tick()
            except ReviewError as error:
                _log.warning("runs_not_seen", extra={"fields": {"reason": str(error)}})
            except Exception:  # noqa: BLE001 - logged in full; the loop must survive an error of one run
                _log.exception("runs_not_seen")

    def _begin(self, run: Run, now: datetime) -> None:
        try:
            self._launcher.start(run, self._command(run))
        except VisionOpsError as error:
            self._end(run, RunState.FAILED, now, message=str(error))

    def _watch(self, run: Run, now: datetime) -> None:
        seen = self._launcher.observe(run)
        if seen.stage is Stage.ENDED:
            self._end(run, _ended_as(run, seen), now, exit_code=seen.exit_code, message=self._last_line(run, seen))
        elif seen.stage is Stage.REFUSED:
            self._end(run, RunState.FAILED, now, message=seen.reason)
        elif seen.stage is Stage.GONE:
            state = RunState.LOST if run.cancelled_at is None else RunState.CANCELLED
            self._end(run, state, now, message=self._last_line(run, seen))
        elif run.cancelled_at is not None:
            self._stop(run, seen, now)
        elif seen.stage is Stage.WAITING:
            self._begin(run, now)  # the service that took the run died before it started it

    def _stop(self, run: Run, seen: RunObservation, now: datetime) -> None:
        assert run.cancelled_at is not None
        hard = now - run.cancelled_at > self._grace
        if hard or run.id not in self._interrupted:
            self._launcher.stop(run, hard=hard)
            if seen.stage is Stage.ALIVE:
                self._interrupted.add(run.id)

    def _end(
        self, run: Run, state: RunState, now: datetime, *, exit_code: int | None = None, message: str = ""
    ) -> None:
        ended = advance(run, state, now, exit_code=exit_code, message=message)
        if state is RunState.SUCCEEDED:
            ended = dataclasses.replace(ended, summary=self._launcher.summary(run))
        self._interrupted.discard(run.id)
        if self._store.end(ended):
            _log.info("run_ended", extra={"fields": _fields(ended) | {"message": message}})
            self._on_end(ended)

    def _last_line(self, run: Run, seen: RunObservation) -> str:
        lines = [line for line in self._launcher.log_tail(run, _LAST_LINE).splitlines() if line.strip()]
        last = one_line(lines[-1].strip()) if lines else "it printed nothing"
        what = "its process is gone" if seen.stage is Stage.GONE else _signal_of(seen)
        said = f"{what}; the last line of its log: {last}" if what else last
        return f"{seen.reason}; {said}" if seen.reason else said


def _ended_as(run: Run, seen: RunObservation) -> RunState:
    if seen.exit_code == 0:
        return RunState.SUCCEEDED  # it ended before the cancellation reached it
    if run.cancelled_at is not None:
        return RunState.CANCELLED
    return RunState.LOST if seen.exit_code in _KILLED else RunState.FAILED


def _signal_of(seen: RunObservation) -> str:
    """Return a sentence on the signal that ended a run; "" if no signal did."""
    if seen.exit_code is None or seen.exit_code >= 0:
        return ""
    number = -seen.exit_code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if seen.exit_code == -signal.SIGKILL:
        return f"its process was killed from outside ({name}), as happens when memory runs out"
    return f"its process was ended {'from outside ' if seen.exit_code in _KILLED else ''}by {name}"


def _fields(run: Run) -> dict[str, str]:
    return {"run": run.id, "kind": run.request.kind.value, "use_case": run.request.use_case, "state": run.state.value}
