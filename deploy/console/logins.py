"""Limit failed logins per name and per address."""

from __future__ import annotations

import ipaddress
import math
import time
from typing import Final

import limits
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from deploy.http.errors import TooManyRequests
from visionops.review.users import key_of

__all__ = ["Attempts"]

_BY_NAME: Final = limits.parse("10/10 minutes")
_BY_ADDRESS: Final = limits.parse("30/10 minutes")


class Attempts:
    """Failed logins of the last minutes, in the memory of this process."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def check(self, name: str, address: str) -> None:
        """Check that one more attempt is allowed.

        Raises:
            TooManyRequests: This name or address has failed too often; the message says when to try again.
        """
        for rate, key in _keys(name, address):
            if not await self._limiter.test(rate, key):
                window = await self._limiter.get_window_stats(rate, key)
                wait = max(1, math.ceil(window.reset_time - time.time()))
                raise TooManyRequests(f"too many failed logins; try again in {_words(wait)}", wait, [])

    async def failed(self, name: str, address: str) -> None:
        """Count a failure."""
        for rate, key in _keys(name, address):
            await self._limiter.hit(rate, key)

    async def succeeded(self, name: str) -> None:
        """Forget the failures of a name."""
        await self._limiter.clear(_BY_NAME, _keys(name, "")[0][1])


def _keys(name: str, address: str) -> tuple[tuple[limits.RateLimitItem, str], tuple[limits.RateLimitItem, str]]:
    return (_BY_NAME, f"name {key_of(name)}"), (_BY_ADDRESS, f"address {_network(address)}")


def _network(address: str) -> str:
    """Return the network of one client: the IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found if found.version == 4 else ipaddress.ip_network((found, 64), strict=False))


def _words(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{math.ceil(seconds / 60)} minutes"
