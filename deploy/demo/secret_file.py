"""Create the secrets of the demo, and store them in a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.http.keys import Client, KeyRole, make_key
from visionops.errors import ConfigError

__all__ = ["CLIENT_KEY", "CONSOLE_PASSWORD", "read_secrets", "write_secrets"]

CLIENT_KEY = "VISIONOPS_DEMO_KEY"
"""Environment variable with the API key of the demo's client; VISIONOPS_API_KEYS contains the key's digest."""
CONSOLE_PASSWORD = "VISIONOPS_CONSOLE_PASSWORD"  # noqa: S105 - the name of a variable
"""Environment variable with the password of the console's first admin."""
_NO_WEBHOOK = "http://127.0.0.1:9/"
"""Default address for alerts. Nothing listens there, so Alertmanager shows alerts but cannot send them."""
_SECRETS: Mapping[str, Callable[[], str]] = {
    "VISIONOPS_ADMIN_KEY": lambda: make_key(Client("admin", KeyRole.ADMIN))[0],
    "VISIONOPS_POSTGRES_PASSWORD": lambda: secrets.token_urlsafe(24),
    "VISIONOPS_S3_KEY": lambda: secrets.token_hex(10),
    "VISIONOPS_S3_SECRET": lambda: secrets.token_hex(20),
    CONSOLE_PASSWORD: lambda: secrets.token_urlsafe(24),
    "VISIONOPS_GRAFANA_PASSWORD": lambda: secrets.token_urlsafe(24),
    "VISIONOPS_ZENML_PASSWORD": lambda: secrets.token_urlsafe(24),
    "VISIONOPS_ZENML_JWT_KEY": lambda: secrets.token_hex(32),
    "VISIONOPS_ZENML_ENCRYPTION_KEY": lambda: secrets.token_hex(32),
    "VISIONOPS_AIRFLOW_KEY": lambda: secrets.token_hex(32),
}
"""Function that creates each secret, keyed by environment variable."""


def read_secrets(file: Path) -> dict[str, str]:
    """Return the variables in the file; an empty dictionary if the file does not exist.

    Raises:
        ConfigError: The file cannot be read, or a line is not ``NAME=VALUE``. The message does not quote the line,
            which may contain a secret.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); remove it to create a new one") from error
    found = {}
    for number, line in enumerate(lines, start=1):
        name, equals, value = line.partition("=")
        if line.strip() and not line.startswith("#"):
            if not equals or not name.isidentifier():
                raise ConfigError(f"{file}: line {number}: expected NAME=VALUE")
            found[name] = value
    return found


def write_secrets(file: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Add missing variables to the file, and return all its variables.

    Args:
        given: Values to use instead of new secrets. A variable that is in the file keeps its value.

    Raises:
        ConfigError: The file cannot be read or written.
    """
    known = read_secrets(file)
    wanted = dict(given) | {name: make() for name, make in _SECRETS.items() if name not in given}
    wanted.setdefault("VISIONOPS_ALERT_WEBHOOK", _NO_WEBHOOK)
    if CLIENT_KEY not in known:  # create key and digest together: a digest in the file would be of another key
        wanted[CLIENT_KEY], wanted["VISIONOPS_API_KEYS"] = make_key(Client("demo", KeyRole.PREDICT))
        known.pop("VISIONOPS_API_KEYS", None)
    added = {name: value for name, value in wanted.items() if name not in known}
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.writelines(f"{name}={value}\n" for name, value in added.items())
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror})") from error
    return known | added
