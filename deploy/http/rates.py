"""Limit the request rate of each client."""

from __future__ import annotations

import math
import time

from deploy.http.errors import TooManyRequests
from visionops.errors import ConfigError

__all__ = ["RateLimit"]


class RateLimit:
    """Allow a number of requests per client and window; a window starts with the client's first request.

    Uses the asyncio storage of `limits`: the threaded one starts a thread for nearly every request.

    Args:
        rate: ``100/minute``, ``10/second``, ``500 per 2 hours``.

    Raises:
        ConfigError: The rate is invalid.
    """

    def __init__(self, rate: str) -> None:
        import limits  # most servers have no rate and start without it
        from limits.aio.storage import MemoryStorage
        from limits.aio.strategies import FixedWindowRateLimiter

        try:
            rates = limits.parse_many(rate)
        except ValueError as error:
            raise ConfigError(f"--rate: {rate!r} is not a rate; write 100/minute or 10/second") from error
        self._rate = rates[0]
        if len(rates) > 1 or not self._rate.amount:
            raise ConfigError(f"--rate: {rate!r} is not one rate above 0; write 100/minute or 10/second")
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def take(self, client: str) -> list[tuple[bytes, bytes]]:
        """Count one request.

        Returns:
            The rate-limit headers of the response, as raw bytes.

        Raises:
            TooManyRequests: The client exceeds the rate.
        """
        is_within = await self._limiter.hit(self._rate, client)
        window = await self._limiter.get_window_stats(self._rate, client)
        wait = max(1, math.ceil(window.reset_time - time.time()))
        headers = [
            (b"ratelimit-limit", str(self._rate.amount).encode()),
            (b"ratelimit-remaining", str(window.remaining).encode()),
            (b"ratelimit-reset", str(wait).encode()),
        ]
        if not is_within:
            message = f"more than {self._rate.amount} requests in {self._rate.get_expiry()} s; try again in {wait} s"
            raise TooManyRequests(message, wait, headers)
        return headers
