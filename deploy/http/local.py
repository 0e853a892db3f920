"""Check whether a request comes from this machine and from a page of this server."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Collection, Mapping

from starlette.types import Scope

from deploy.http.errors import ForeignHost, ForeignOrigin, KeysNeeded

__all__ = ["check_local", "is_loopback", "is_own_origin"]

_LOCALHOST = {"localhost"}
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:]*)(:\d+)?")


def check_local(scope: Scope, headers: Mapping[bytes, bytes], origins: Collection[bytes], reason: str) -> None:
    """Check that a request comes from this machine. Headers that a proxy adds do not count.

    Args:
        origins: Other origins whose pages may send requests.
        reason: Message for other machines: why they are refused, and the fix.

    Raises:
        KeysNeeded: The peer of the socket is another machine.
        ForeignHost: The header Host names another machine.
        ForeignOrigin: A page of another origin sent the request.
    """
    peer = scope.get("client")
    if peer is None or not _is_loopback(peer[0]):
        raise KeysNeeded(reason)
    host = headers.get(b"host")
    if host is not None and not _is_local_host(host):
        raise ForeignHost("the header Host names another machine; without API keys only this machine is served")
    if not is_own_origin(headers, origins):
        raise ForeignOrigin("a page of another origin may not call this server; allow it with --cors-origins")


def is_own_origin(headers: Mapping[bytes, bytes], origins: Collection[bytes] = ()) -> bool:
    """Return whether a request comes from no page, from a page of this server, or from a page of ``origins``."""
    origin = headers.get(b"origin")
    return origin is None or origin in origins or origin.partition(b"://")[2] == headers.get(b"host")


def is_loopback(host: str) -> bool:
    """Return whether a host to listen on is a loopback address or localhost."""
    return host.lower() in _LOCALHOST or _is_loopback(host)


@functools.lru_cache(maxsize=1024)
def _is_loopback(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


@functools.lru_cache(maxsize=1024)
def _is_local_host(host: bytes) -> bool:
    match = _HOST.fullmatch(host.decode("latin-1"))
    if match is None:
        return False
    name = match[1].strip("[]").rstrip(".").lower()
    return name in _LOCALHOST or _is_loopback(name)
