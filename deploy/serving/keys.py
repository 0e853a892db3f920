"""``python -m deploy.serving.keys --id line-3 --role predict``: create an API key and its line for the key file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from deploy.http.keys import KEY_ID, Client, KeyRole, make_key

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a new key and its line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.serving.keys", description="Create an API key.")
    parser.add_argument("--id", required=True, help="client id, shown in the log: letters, digits, . _ -")
    parser.add_argument("--role", required=True, choices=[role.value for role in KeyRole], help="what it allows")
    given = parser.parse_args(arguments)
    if not KEY_ID.fullmatch(given.id):
        sys.stderr.write(f"error: --id: letters, digits, '.', '_' and '-' only, at most 64 (got {given.id!r})\n")
        return 2
    key, line = make_key(Client(given.id, KeyRole(given.role)))
    sys.stderr.write("The key, shown only once; the client sends it in the header X-API-Key:\n")
    sys.stdout.write(f"{key}\n")
    sys.stderr.write("The line for the file of --keys:\n")
    sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
