"""Create, read and check API keys, which are stored as digests.

A file has one line for each key, ``id role sha256:hex``; empty lines and lines that begin with ``#`` are ignored. Two
lines with the same id are two keys of one client, so a key can be replaced without downtime.

A key has 256 random bits, so a plain SHA-256 is enough: no dictionary attack is possible, and a slow hash would only
slow down every request.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from visionops.errors import ConfigError
from visionops.inference.server_options import API_KEYS_VARIABLE

__all__ = ["ADMIN_ID", "KEY_ID", "Client", "Key", "KeyRing", "KeyRole", "make_key", "parse_keys"]

ADMIN_ID = "admin"
"""Client id of requests with the admin key of the environment."""
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Pattern of a client id, which is written to the log."""

_log = logging.getLogger("visionops.serving")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_RECHECK_SECONDS = 1.0


class KeyRole(enum.StrEnum):
    """Rights of a key: the requests that it allows."""

    PREDICT = "predict"
    FEEDBACK = "feedback"
    REVIEW = "review"
    ADMIN = "admin"


@dataclasses.dataclass(frozen=True, slots=True)
class Client:
    """The owner of a key."""

    id: str
    role: KeyRole


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """One line of the file."""

    client: Client
    digest: bytes


def make_key(client: Client) -> tuple[str, str]:
    """Return a new key, and its line for the file."""
    key = "vok_" + secrets.token_urlsafe(32)
    return key, f"{client.id} {client.role} sha256:{_digest(key.encode()).hex()}"


def parse_keys(text: str, where: str) -> tuple[Key, ...]:
    """Read the keys of a file.

    Raises:
        ConfigError: A line is invalid. The message does not repeat it, because it may contain a key by mistake.
    """
    keys: list[Key] = []
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        place = f"{where}: line {number}"
        if len(parts) != 3 or not KEY_ID.fullmatch(parts[0]):
            raise ConfigError(f"{place}: expected 'id role sha256:hex'; make one with python -m deploy.serving.keys")
        name, role, digest = parts
        if role not in set(KeyRole):
            raise ConfigError(f"{place}: unknown role; expected one of {', '.join(KeyRole)}")
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise ConfigError(
                f"{place}: expected sha256: and 64 hex digits; make one with python -m deploy.serving.keys"
            )
        key = Key(Client(name, KeyRole(role)), bytes.fromhex(match[1]))
        if any(key.digest == other.digest for other in keys):
            raise ConfigError(f"{place}: duplicate of a key above; remove one of the lines")
        keys.append(key)
    return tuple(keys)


class KeyRing:
    """The keys that the server accepts now.

    Args:
        file: Key file, read again when it changes. If the new content is invalid, the previous keys stay valid.
        lines: Lines in the same format, from the environment.
        admin_key: Key of role admin, which does not count as a configured key.
        recheck_seconds: Seconds between two checks for a change of the file.
        on_read: Called after a changed file was read, with whether it is valid.

    Raises:
        ConfigError: The file or the lines are invalid.
    """

    def __init__(
        self,
        file: Path | None = None,
        lines: str | None = None,
        admin_key: str | None = None,
        *,
        recheck_seconds: float = _RECHECK_SECONDS,
        on_read: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.is_configured = file is not None or lines is not None
        self.has_admin_key = admin_key is not None
        self._on_read = on_read
        self._file = file
        self._recheck_seconds = recheck_seconds
        own = (Key(Client(ADMIN_ID, KeyRole.ADMIN), _digest(admin_key.encode())),) if admin_key else ()
        self._fixed = own + parse_keys(lines or "", API_KEYS_VARIABLE)
        self._keys = self._fixed
        self._seen: tuple[int, int, int] | None = None
        self._checked = time.monotonic()
        if file is not None:
            self._seen = _state(file)
            self._keys = self._fixed + _read(file)

    @property
    def serves(self) -> str:
        """Return which clients the server accepts, as a phrase for people."""
        return "clients with an API key" if self.is_configured else "this machine only; no API keys are configured"

    def client(self, offered: bytes) -> Client | None:
        """Return the owner of a key, or None for an unknown key. Takes the same time for every key."""
        if self._file is not None and time.monotonic() - self._checked >= self._recheck_seconds:
            self._refresh(self._file)
        digest = _digest(offered)
        found = None
        for key in self._keys:
            if hmac.compare_digest(digest, key.digest):
                found = key.client
        return found

    def _refresh(self, file: Path) -> None:
        self._checked = time.monotonic()
        state = _state(file)
        if state == self._seen:
            return
        self._seen = state
        try:
            keys = _read(file)
        except ConfigError as error:
            _log.error("keys_kept", extra={"fields": {"reason": str(error)}})
            self._on_read(False)
            return
        self._keys = self._fixed + keys
        _log.info("keys_read", extra={"fields": {"keys": len(keys)}})
        self._on_read(True)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(file: Path) -> tuple[Key, ...]:
    try:
        return parse_keys(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError as error:
        how = "make a line for it with python -m deploy.serving.keys"
        raise ConfigError(f"{file}: the keys cannot be read (no such file); {how}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise ConfigError(f"{file}: the keys cannot be read ({reason}); make the file readable") from error
