"""How often a client may ask: a moving window over its last requests.

The notation is that of `limits`. Its own window in memory starts a thread for nearly every request (0.4 ms of one core
each at 200 requests a second, measured), so the window is a queue of times here.
"""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable

import limits

from deploy.serving.errors import TooManyRequests
from visionops.errors import ConfigError

__all__ = ["RateLimit"]


class RateLimit:
    """So many requests of one client in any span of a length.

    Args:
        rate: ``100/minute``, ``10/second``, ``500 per 2 hours``.

    Raises:
        ConfigError: It is no rate.
    """

    def __init__(self, rate: str, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            parsed = limits.parse(rate)
        except ValueError as error:
            raise ConfigError(f"--rate: {rate!r} is no rate; write 100/minute or 10/second") from error
        self._most, self._seconds, self._clock = parsed.amount, parsed.get_expiry(), clock
        self._limit = str(parsed.amount).encode()
        self._taken: dict[str, collections.deque[float]] = {}

    def take(self, client: str) -> list[tuple[bytes, bytes]]:
        """Count one request.

        Returns:
            What the answer says of it, as raw headers.

        Raises:
            TooManyRequests: This one is not counted.
        """
        now = self._clock()
        times = self._taken.get(client)
        if times is None:
            times = self._taken[client] = collections.deque()
        while times and times[0] <= now - self._seconds:
            times.popleft()
        left = self._most - len(times)
        if left > 0:
            times.append(now)
        wait = max(1, math.ceil(times[0] + self._seconds - now))
        headers = [
            (b"ratelimit-limit", self._limit),
            (b"ratelimit-remaining", str(max(0, left - 1)).encode()),
            (b"ratelimit-reset", str(wait).encode()),
        ]
        if left <= 0:
            raise TooManyRequests(
                f"more than {self._most} requests in {self._seconds} s; try again in {wait} s", wait, headers
            )
        return headers
