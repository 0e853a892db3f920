"""Run both clients through one interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from visionops.client import AsyncClient, Client, Retry

ONCE = Retry(seconds=0)
Ask = Callable[..., Any]
"""Function that calls a client's method by its name."""


@contextmanager
def asking(kind: str, url: str, key: str | None = None, retry: Retry = ONCE, timeout: float = 30.0) -> Iterator[Ask]:
    """Yield a connected client, ``sync`` or ``async``."""
    if kind == "sync":
        with Client(url, key, retry=retry, timeout=timeout) as client:
            yield lambda name, *args, **named: getattr(client, name)(*args, **named)
        return
    with asyncio.Runner() as runner:
        connected = AsyncClient(url, key, retry=retry, timeout=timeout)
        try:
            yield lambda name, *args, **named: runner.run(getattr(connected, name)(*args, **named))
        finally:
            runner.run(connected.close())


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Kind of client, ``sync`` or ``async``."""
    return request.param
