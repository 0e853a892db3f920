"""The mode follows the rates of live requests. Engine and clock are simulated: ten minutes take a second."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionops.inference.autotune import StreamTuner, first_streams, stream_modes

Rates = Mapping[int, float]
WORKERS = 4


class Simulation:
    """An engine that answers at given rates, with a queue that is never empty.

    Args:
        noise: Standard deviation of the log rate, which changes twice a second, as on a machine with other load.
    """

    def __init__(self, *, modes: tuple[int, ...] = (1, 2), first: int = 2, noise: float = 0.0, seed: int = 0) -> None:
        self.now, self.slack = 0.0, 0.0
        self.switches: list[tuple[float, int]] = []
        self._random, self._noise, self._factor, self._next = random.Random(seed), noise, 1.0, 0.0
        self.tuner = StreamTuner(
            modes,
            first,
            lambda: self.slack,
            threads=2,
            clock=lambda: self.now,
            on_switch=lambda state: self.switches.append((self.now, state.streams)),
        )

    def load(self, seconds: float, rates: Rates | Callable[[float], Rates]) -> None:
        """Queue requests for a period."""
        end = self.now + seconds
        in_work = deque(self.tuner.begin() for _ in range(WORKERS))
        while self.now < end:
            if self.now >= self._next:
                self._factor = math.exp(self._random.gauss(0, self._noise))
                self._next = self.now + self._random.expovariate(2)
            turn = in_work.popleft()
            self.now += max(0.2, self._random.gauss(1, 0.1)) * self._factor / rates[turn.streams]
            self.tuner.end(turn)
            in_work.append(self.tuner.begin())
        for turn in in_work:
            self.tuner.end(turn)

    def idle(self, seconds: float) -> None:
        """Let time pass without requests."""
        self.now += seconds
        self.slack += seconds

    def trickle(self, requests: int, seconds_each: float) -> None:
        """Send two requests at a time, so that none waits for a core."""
        for _ in range(requests):
            turns = [self.tuner.begin(), self.tuner.begin()]
            for turn in turns:
                self.idle(seconds_each / 2)
                self.tuner.end(turn)


def test_bursts_cost_no_more_trials_than_the_same_load_at_once():
    at_once, bursts = Simulation(), Simulation()
    at_once.load(30, {1: 55.0, 2: 80.0})
    for _ in range(6):
        bursts.load(5, {1: 55.0, 2: 80.0})
        bursts.idle(45)
    assert bursts.tuner.state.trial_seconds <= at_once.tuner.state.trial_seconds + 0.5


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise", [0.0, 0.15])
def test_the_mode_follows_a_flip_within_ten_seconds_and_stays(noise: float, seed: int):
    simulation = Simulation(first=1, noise=noise, seed=seed)
    simulation.load(120 + seed, {1: 28.0, 2: 20.0})
    assert simulation.tuner.streams == 1
    flipped, before = simulation.now, len(simulation.switches)
    simulation.load(600, {1: 20.0, 2: 28.0})
    after = simulation.switches[before:]
    assert after[0][1] == 2
    assert after[0][0] - flipped <= 10
    assert len(after) <= 2
    assert simulation.tuner.streams == 2


@pytest.mark.parametrize("seed", range(4))
def test_equal_modes_in_noise_are_left_alone(seed: int):
    simulation = Simulation(noise=0.2, seed=seed)
    simulation.load(600, {1: 30.0, 2: 30.0})
    assert len(simulation.switches) <= 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("modes", [(1, 2), (1, 2, 4)])
def test_a_wrong_first_guess_on_a_busy_machine_is_corrected_within_twenty_seconds_of_load(modes, seed: int):
    rates = {1: 10.0, 2: 14.0, 4: 22.0}
    simulation = Simulation(modes=modes, first=1, noise=0.15, seed=seed)
    simulation.idle(3600)
    simulation.load(20, rates)
    assert simulation.tuner.streams == max(modes, key=lambda mode: rates[mode])


def test_a_gain_below_the_threshold_is_not_worth_a_switch():
    simulation = Simulation()
    simulation.load(600, {1: 31.0, 2: 30.0})
    assert simulation.switches == []
    rates = simulation.tuner.state.images_per_second
    assert rates[1] == pytest.approx(31.0, rel=0.05)
    assert rates[2] == pytest.approx(30.0, rel=0.05)


def test_a_stable_result_makes_comparisons_rare():
    simulation = Simulation()
    simulation.load(300, {1: 20.0, 2: 30.0})
    spent = simulation.tuner.state.trial_seconds
    simulation.load(600, {1: 20.0, 2: 30.0})
    assert 0 < simulation.tuner.state.trial_seconds - spent < 0.02 * 600 + 1


@pytest.mark.parametrize("seed", range(3))
def test_other_modes_get_at_most_their_share_in_any_noise(seed: int):
    simulation = Simulation(noise=0.5, seed=seed)
    simulation.load(900, {1: 30.0, 2: 30.0})
    # The initial reserve, and the turns that were running when it was used up.
    assert simulation.tuner.state.trial_seconds <= 0.05 * 900 + 6 + 3


def test_without_a_queue_nothing_is_tried():
    simulation = Simulation()
    simulation.trickle(2000, 0.05)
    simulation.idle(100)
    simulation.trickle(2000, 0.05)
    state = simulation.tuner.state
    assert (state.trial_seconds, state.switches, dict(state.images_per_second)) == (0.0, 0, {})


def test_bursts_shorter_than_a_turn_are_not_measured():
    simulation = Simulation()
    for _ in range(500):
        simulation.load(0.2, {1: 20.0, 2: 40.0})
        simulation.idle(2)
    assert simulation.tuner.state.trial_seconds == 0
    assert not simulation.tuner.state.images_per_second


def test_a_load_that_ends_in_a_trial_leaves_the_current_mode():
    simulation = Simulation()
    while (turn := simulation.tuner.begin()).streams == 2:
        simulation.tuner.end(turn)
        simulation.load(0.05, {1: 20.0, 2: 40.0})
        assert simulation.now < 60
    simulation.tuner.end(turn)
    simulation.idle(60)
    simulation.trickle(4, 0.2)
    for _ in range(100):
        turn = simulation.tuner.begin()
        assert turn.streams == 2
        simulation.idle(0.05)
        simulation.tuner.end(turn)


def test_one_mode_is_never_left():
    simulation = Simulation(modes=(1,), first=1)
    simulation.load(60, {1: 20.0})
    state = simulation.tuner.state
    assert (state.streams, state.modes, state.trial_seconds) == (1, (1,), 0.0)


def test_a_mode_that_is_compiled_later_is_tried_soon():
    simulation = Simulation(modes=(2,))
    rates = {1: 30.0, 2: 20.0}
    simulation.load(300, rates)
    assert simulation.tuner.streams == 2
    simulation.tuner.allow(1)
    simulation.load(10, rates)
    assert simulation.tuner.streams == 1


def test_images_that_failed_are_no_speed():
    simulation = Simulation()
    for _ in range(1000):
        turn = simulation.tuner.begin()
        simulation.now += 0.001
        simulation.tuner.end(turn, counts=False)
    assert not simulation.tuner.state.images_per_second


@settings(max_examples=60, deadline=None)
@given(
    modes=st.sets(st.integers(1, 16), min_size=1, max_size=4).map(lambda found: tuple(sorted(found))),
    parts=st.lists(
        st.tuples(st.floats(0.1, 20), st.floats(0, 20), st.floats(0.5, 60), st.floats(0.3, 3)), min_size=1, max_size=8
    ),
    noise=st.floats(0, 0.5),
    seed=st.integers(0, 1000),
)
def test_any_load_keeps_to_the_modes_and_to_their_share(modes, parts, noise, seed):
    simulation = Simulation(modes=modes, first=modes[-1], noise=noise, seed=seed)
    loaded, slowest = 0.0, 60.0
    for load, idle, rate, factor in parts:
        rates = {mode: rate * factor**number for number, mode in enumerate(modes)}
        start = simulation.now
        simulation.load(load, rates)
        loaded, slowest = loaded + simulation.now - start, min(slowest, *rates.values())
        simulation.idle(idle)
    state = simulation.tuner.state
    assert state.streams in modes
    assert set(state.images_per_second) <= set(modes)
    assert len(modes) > 1 or state.trial_seconds == 0
    longest = 0.3 + 12 * math.exp(3 * noise) / slowest
    assert state.trial_seconds <= 0.05 * loaded + max(6, 12 * longest) + 20 * len(parts) + 2 * longest


def test_modes_are_few_and_have_both_ends():
    assert [stream_modes(threads) for threads in (1, 2, 3, 4, 8, 64)] == [
        (1,),
        (1, 2),
        (1, 3),
        (1, 2, 4),
        (1, 2, 4, 8),
        (1, 16, 32, 64),
    ]


@pytest.mark.parametrize("threads", [*range(1, 66), 96, 128])
@pytest.mark.parametrize("size", [0, 12_000_000, 500_000_000])
def test_the_rule_gives_one_of_the_modes(threads: int, size: int):
    assert first_streams(threads, size) in stream_modes(threads)
