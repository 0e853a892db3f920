"""Choose how many images an engine computes side by side, from the rates of live requests.

Each number of streams is a mode. The fastest mode depends on the model, the CPU, its quota, the decoding and the other
load of the machine, so a trial before live traffic cannot find it. While requests queue, the tuner runs other modes in
short turns between turns of the current one, and compares adjacent turns. It switches when another mode is clearly
faster. A stable result makes comparisons rarer; a change of the current rate starts a new one.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping

__all__ = ["StreamTuner", "TunerState", "Turn", "first_streams", "stream_modes"]

_TURN_SECONDS = 0.3
"""Shortest turn that is measured, in seconds."""
_MOST_SLACK = 0.1
"""Share of a turn in which no request may have waited; a turn above it is dropped."""
_GAIN = 1.08
"""Ratio of rates from which a switch is worthwhile."""
_LEAST_PAIRS, _MOST_PAIRS = 3, 12
"""Number of pairs of turns before a switch, and in one comparison."""
_SURE, _LIKELY = 3.0, 2.0
"""Standard errors required: of a gain before a switch, and of a loss before a mode is no longer tried."""
_CLEAR_LOSS = math.log(1 / 1.05)
"""Log ratio below which one pair of turns is enough to reject a mode."""
_LEAST_SPREAD = 0.04
"""Least standard deviation of log ratios that is assumed, because a few equal pairs prove little."""
_HALF_LIFE = 30.0
_KEPT_SECONDS = 120.0
"""Half-life of a measurement in seconds; older comparisons are dropped."""
_CHANGE = math.log(1.2)
_CHANGE_TURNS = (4, 8, 16)
_CHANGE_ERRORS = 6
_CHANGE_OLDER = 10
"""The conditions have changed where the mean log rate of the last few turns differs from that of older ones by 20 % and
by this many standard errors. There must be at least this many older turns."""
_SHARE = 0.05
"""Largest share of the time under load that other modes get, beyond the reserve."""
_RESERVE_SECONDS, _RESERVE_TURNS = 6.0, 12
"""Time for other modes that may be saved up; the larger of both applies."""
_NEEDED, _NEEDED_SOON = 0.5, 0.3
"""Share of the reserve with which a comparison begins: one by schedule, one after a change."""
_FIRST_PAUSE, _CLEAR_PAUSE, _LAST_PAUSE = 4.0, 16.0, 60.0
"""Seconds of load between comparisons: at first, after one that was clear for all modes, and at most. They double while
the result stays the same."""


def stream_modes(threads: int) -> tuple[int, ...]:
    """Return the stream counts worth trying with this many threads, ascending; at most four, to save memory."""
    return tuple(sorted({1, threads, max(1, threads // 2), max(1, threads // 4)}))


def first_streams(threads: int, graph_bytes: int) -> int:
    """Return the initial stream count, before any traffic was measured.

    One image on each core is best for small graphs on few cores. Many cores, and large graphs whose weights exceed the
    cache, are limited by memory bandwidth: they get two or four cores for each image.

    Args:
        threads: Maximum number of threads at once.
        graph_bytes: Size of the graph's file.
    """
    share = (2 if threads > 4 else 1) * (2 if graph_bytes > 100_000_000 else 1)
    return max(1, threads // share)


@dataclasses.dataclass(eq=False, slots=True)
class Turn:
    """A period in which new images are computed in one mode."""

    streams: int
    began: float
    in_work: int = 0
    """Number of images of this turn in the engine."""
    since: float | None = None
    """Start of the measurement; None while images of the previous turn are still in the engine."""
    slack: float = 0.0
    """Value of ``slack`` at the start."""
    images: int = 0
    """Number of images finished since the start."""


@dataclasses.dataclass(slots=True)
class _Mean:
    """Mean with exponentially fading weights of old values."""

    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    at: float = 0.0

    def add(self, value: float, now: float) -> None:
        fade = 0.5 ** ((now - self.at) / _HALF_LIFE)
        self.weight = self.weight * fade + 1
        self.total = self.total * fade + value
        self.squares = self.squares * fade + value * value
        self.at = now

    @property
    def value(self) -> float:
        return self.total / self.weight

    @property
    def spread(self) -> float:
        """Return the standard deviation."""
        return math.sqrt(max(0.0, self.squares / self.weight - self.value**2))


class _Change:
    """Detector of a change of the current rate."""

    def __init__(self) -> None:
        self._recent: collections.deque[float] = collections.deque()
        self._older = _Mean()

    def add(self, rate: float, now: float) -> bool:
        """Add a rate; return whether the latest rates differ from the earlier ones."""
        self._recent.append(math.log(rate))
        if len(self._recent) > max(_CHANGE_TURNS):
            self._older.add(self._recent.popleft(), now)
        if self._older.weight < _CHANGE_OLDER:
            return False
        recent = list(self._recent)
        return any(
            abs(sum(recent[-turns:]) / turns - self._older.value)
            > max(_CHANGE, _CHANGE_ERRORS * max(_LEAST_SPREAD, self._older.spread) / math.sqrt(turns))
            for turns in _CHANGE_TURNS
        )


@dataclasses.dataclass(slots=True)
class _Comparison:
    """Comparison of the current mode with others, one after the other."""

    waiting: list[int]
    before: float
    """Rate of the current mode in the turn before the trial."""
    is_urgent: bool
    """Whether it is the first comparison, or the first after a change."""
    pairs: int = 0
    trial: float | None = None
    """Rate of the other mode in the last turn."""
    paid: float = 0.0
    """Seconds spent in other modes."""
    is_clear: bool = True
    """Whether all modes so far were much slower."""


@dataclasses.dataclass(frozen=True, slots=True)
class TunerState:
    """Snapshot of a tuner."""

    streams: int
    """Number of streams of the current mode."""
    modes: tuple[int, ...]
    """Stream counts that are compiled and can be chosen."""
    images_per_second: Mapping[int, float]
    """Rate by the number of streams, measured while requests waited; old values fade."""
    measured: Mapping[int, float]
    """Seconds since each of these rates was last measured."""
    switches: int
    """Number of switches since the start."""
    trial_seconds: float
    """Seconds spent in modes that did not win."""


class StreamTuner:
    """Choose the mode of each image and learn from its completion. Safe to use from several threads.

    Args:
        modes: Stream counts that may be used from the start; `allow` adds others.
        first: Initial mode, one of ``modes``.
        slack: Total seconds in which no request waited for a core; grows with the clock while there is no load.
        threads: Cores of the engine; turns have at least two images for each.
        clock: Function that returns the time in seconds.
        on_switch: Called with the new state after each switch, by the thread that ended the last image; must not wait.
    """

    def __init__(
        self,
        modes: Iterable[int],
        first: int,
        slack: Callable[[], float],
        *,
        threads: int,
        clock: Callable[[], float] = time.monotonic,
        on_switch: Callable[[TunerState], None] = lambda _: None,
    ) -> None:
        self._lock = threading.Lock()
        self._modes = {*modes}
        self._current = first
        self._slack, self._clock, self._on_switch = slack, clock, on_switch
        self._least_images = max(4, 2 * threads)
        self._in_engine = 0
        self._turn = Turn(first, clock())
        self._comparison: _Comparison | None = None
        self._evidence: dict[int, list[tuple[float, float]]] = {}
        self._rates: dict[int, _Mean] = {}
        self._change = _Change()
        self._loaded = 0.0
        """Seconds of load that were measured."""
        self._pause, self._next = _FIRST_PAUSE, -math.inf
        self._is_urgent = True
        """The first comparison, or the first after a change, does not wait for a reserve."""
        self._reserve = _RESERVE_SECONDS
        self._switches, self._trial_seconds = 0, 0.0

    @property
    def streams(self) -> int:
        """Return the number of streams of the current mode."""
        return self._current

    @property
    def state(self) -> TunerState:
        """Return a snapshot of the tuner."""
        with self._lock:
            return self._state()

    def allow(self, streams: int) -> None:
        """Allow a mode that has been compiled meanwhile."""
        with self._lock:
            self._modes.add(streams)
            self._compare_soon()

    def begin(self) -> Turn:
        """Return the turn of an image that enters the engine; pass it to `end`."""
        with self._lock:
            self._in_engine += 1
            self._turn.in_work += 1
            return self._turn

    def end(self, turn: Turn, *, counts: bool = True) -> None:
        """Record that an image has left the engine.

        Args:
            counts: False after a failure, which must not be measured.
        """
        with self._lock:
            self._in_engine -= 1
            turn.in_work -= 1
            if turn is not self._turn or not counts:
                return
            before = self._switches
            self._note(turn, self._clock())
            state = self._state() if self._switches != before else None
        if state is not None:
            self._on_switch(state)

    # Called under the lock

    def _state(self) -> TunerState:
        now = self._clock()
        return TunerState(
            streams=self._current,
            modes=tuple(sorted(self._modes)),
            images_per_second={streams: mean.value for streams, mean in sorted(self._rates.items())},
            measured={streams: now - mean.at for streams, mean in sorted(self._rates.items())},
            switches=self._switches,
            trial_seconds=self._trial_seconds,
        )

    def _note(self, turn: Turn, now: float) -> None:
        if turn.since is None:
            if self._in_engine == turn.in_work:  # the images of the previous turn have left
                turn.since, turn.slack, turn.images = now, self._slack(), 0
            return
        turn.images += 1
        elapsed = now - turn.since
        if self._slack() - turn.slack > _MOST_SLACK * max(elapsed, _TURN_SECONDS):
            self._interrupt(turn, now)
        elif turn.images >= self._least_images and elapsed >= _TURN_SECONDS:
            self._measured(turn, turn.images / elapsed, now)

    def _interrupt(self, turn: Turn, now: float) -> None:
        """Drop the current measurement because the queue was empty."""
        if turn.streams != self._current:
            self._pay(now - turn.began)
        if self._comparison is not None:
            self._is_urgent |= self._comparison.is_urgent
            self._comparison = None
        self._go_on(self._current, now)
        self._turn.since = None

    def _measured(self, turn: Turn, rate: float, now: float) -> None:
        if turn.streams == self._current:
            self._note_current(turn, rate, now)
        else:
            self._pay(now - turn.began)
            self._rates.setdefault(turn.streams, _Mean()).add(rate, now)
            if self._comparison:
                self._comparison.trial = rate
            self._go_on(self._current, now)

    def _note_current(self, turn: Turn, rate: float, now: float) -> None:
        elapsed = now - (turn.since or now)
        most = max(_RESERVE_SECONDS, _RESERVE_TURNS * elapsed)
        self._reserve = min(self._reserve + _SHARE * elapsed, most)
        self._loaded += elapsed
        if self._change.add(rate, now):
            self._rates[self._current] = _Mean()
            self._forget()
        self._rates.setdefault(self._current, _Mean()).add(rate, now)
        if (comparison := self._comparison) is None:
            others = sorted(self._modes - {self._current}, key=lambda mode: abs(math.log(mode / self._current)))
            needed = most * (_NEEDED_SOON if self._is_urgent else _NEEDED)
            if not others or self._loaded < self._next or self._reserve < needed:
                self._go_on(self._current, now)
            else:
                self._comparison, self._is_urgent = _Comparison(others, rate, self._is_urgent), False
                self._go_on(others[0], now)
            return
        other = comparison.waiting[0]
        if comparison.trial is not None:
            ratio = math.log(comparison.trial / math.sqrt(comparison.before * rate))
            self._evidence.setdefault(other, []).append((now, ratio))
            comparison.pairs += 1
        comparison.before, comparison.trial = rate, None
        self._judge(comparison, other, now)

    def _judge(self, comparison: _Comparison, other: int, now: float) -> None:
        gain, error, count = self._gain(other, now)
        if comparison.pairs >= _LEAST_PAIRS and gain >= math.log(_GAIN) and gain >= _SURE * error:
            self._pay(-comparison.paid)  # time in the faster mode is no loss
            self._switch(other, now)
            return
        is_clear = gain + _LIKELY * error < _CLEAR_LOSS
        is_lost = is_clear or (count >= _LEAST_PAIRS - 1 and gain + _LIKELY * error < math.log(_GAIN))
        if is_lost or comparison.pairs >= _MOST_PAIRS or self._reserve <= 0:
            comparison.is_clear &= is_clear
            comparison.waiting.pop(0)
            comparison.pairs, comparison.paid = 0, 0.0
        if comparison.waiting and self._reserve > 0:
            self._go_on(comparison.waiting[0], now)
            return
        self._comparison = None
        pause = max(self._pause, _CLEAR_PAUSE) if comparison.is_clear and not comparison.waiting else self._pause
        self._next, self._pause = self._loaded + pause, min(2 * pause, _LAST_PAUSE)
        self._go_on(self._current, now)

    def _gain(self, other: int, now: float) -> tuple[float, float, float]:
        """Return the mean log ratio of rates, its standard error, and its weight in pairs."""
        recent = [(at, ratio) for at, ratio in self._evidence.get(other, ()) if now - at < _KEPT_SECONDS]
        self._evidence[other] = recent
        weighted = [(0.5 ** ((now - at) / _HALF_LIFE), ratio) for at, ratio in recent]
        total = sum(weight for weight, _ in weighted)
        if not total:
            return 0.0, math.inf, 0.0
        mean = sum(weight * ratio for weight, ratio in weighted) / total
        count = total**2 / sum(weight**2 for weight, _ in weighted)
        variance = sum(weight * (ratio - mean) ** 2 for weight, ratio in weighted) / total
        if count > 1:
            variance *= count / (count - 1)
        return mean, math.sqrt(max(variance, _LEAST_SPREAD**2) / count), count

    def _switch(self, streams: int, now: float) -> None:
        self._current = streams
        self._switches += 1
        self._forget()
        self._go_on(streams, now)

    def _forget(self) -> None:
        self._change = _Change()
        self._evidence.clear()
        self._comparison = None
        self._compare_soon()

    def _compare_soon(self) -> None:
        self._pause, self._next, self._is_urgent = _FIRST_PAUSE, -math.inf, True

    def _pay(self, seconds: float) -> None:
        self._reserve -= seconds
        self._trial_seconds += seconds
        if self._comparison:
            self._comparison.paid += seconds

    def _go_on(self, streams: int, now: float) -> None:
        """Start a new measurement in the same mode without a pause."""
        if streams == self._turn.streams:
            self._turn.since, self._turn.slack, self._turn.images = now, self._slack(), 0
        else:
            self._turn = Turn(streams, now)
