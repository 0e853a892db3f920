"""Define the commands of `visionops user`, which manage the users of the console."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.terminal import exit_code
from visionops.errors import ConfigError, one_line
from visionops.review.users import SessionRules, UserRole
from visionops.suggestions import suggest_variable

# Imported late, so that `visionops --help` does not wait for SQLAlchemy.
if TYPE_CHECKING:
    from visionops.review_store.users import SqlUserStore

__all__ = ["user_app"]

PASSWORD = "VISIONOPS_USER_PASSWORD"  # noqa: S105 - the name of a variable

user_app = typer.Typer(
    help="People who may use the console, and what each may do.",
    epilog="VISIONOPS_REVIEW_DATABASE sets their storage; see docs/how-to/console.md.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="Name of the user; case is ignored.", show_default=False)]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"Read the password from its first line; - is standard input (default: {PASSWORD}, or a prompt).",
        show_default=False,
    ),
]


@user_app.command("add", epilog="Example: visionops user add anna --role admin")
def _add(
    name: Name,
    role: Annotated[
        UserRole, typer.Option(help="Rights of the user; each role includes those of the previous one.")
    ] = (UserRole.VIEWER),
    password_file: PasswordFile = None,
) -> None:
    """Add a user."""

    def work() -> None:
        from visionops.review.passwords import hash_password
        from visionops.review.users import check_user_name

        kept = check_user_name(name)
        with _store() as users:
            found = users.credentials(kept)
            if found is not None:
                raise ConfigError(f"user {found.user.name}: already exists; choose another name")
            hashed = hash_password(_password(kept, password_file), kept)
            user = users.add(kept, role, _account(), _now(), hashed=hashed)
        typer.echo(f"added     {user.name}, {user.role}")

    raise typer.Exit(exit_code(work))


@user_app.command("list")
def _list() -> None:
    """List the users."""

    def work() -> None:
        with _store() as users:
            accounts = users.accounts(_now(), SessionRules())
        if not accounts:
            typer.echo("no users; `visionops user add NAME --role admin` adds the first")
            return
        typer.echo(f"{'role':<9} {'state':<9} {'signs in by':<11} {'sessions':<9} name")
        for one in accounts:
            state = "disabled" if one.user.is_disabled else "active"
            way = "OIDC" if one.user.subject else "password"
            typer.echo(f"{one.user.role:<9} {state:<9} {way:<11} {one.sessions:<9} {one_line(one.user.name)}")

    raise typer.Exit(exit_code(work))


@user_app.command("role", epilog="Example: visionops user role anna reviewer")
def _role(name: Name, role: Annotated[UserRole, typer.Argument(help="The new role.", show_default=False)]) -> None:
    """Change the role of a user; it applies to open pages immediately."""

    def work() -> None:
        with _store() as users:
            user = users.set_role(name, role, _account(), _now())
        typer.echo(f"role      {user.name} is {user.role}")

    raise typer.Exit(exit_code(work))


@user_app.command("password", epilog="Example: visionops user password anna")
def _set_password(name: Name, password_file: PasswordFile = None) -> None:
    """Replace a user's password, and end their sessions."""

    def work() -> None:
        from visionops.review.passwords import hash_password

        with _store() as users:
            user = users.user(name)
            users.set_password(name, hash_password(_password(user.name, password_file), user.name), _account(), _now())
        typer.echo(f"password  of {user.name} changed; their sessions have ended")

    raise typer.Exit(exit_code(work))


@user_app.command("disable", epilog="Example: visionops user disable anna")
def _disable(name: Name) -> None:
    """End a user's sessions and block further sign-ins; their decisions are kept."""
    raise typer.Exit(exit_code(lambda: _set_disabled(name, is_disabled=True)))


@user_app.command("enable", epilog="Example: visionops user enable anna")
def _enable(name: Name) -> None:
    """Let a disabled user sign in again."""
    raise typer.Exit(exit_code(lambda: _set_disabled(name, is_disabled=False)))


def _set_disabled(name: str, *, is_disabled: bool) -> None:
    with _store() as users:
        user = users.set_disabled(name, _account(), _now(), is_disabled=is_disabled)
    typer.echo(f"{'disabled' if is_disabled else 'enabled':<9} {user.name}")


@contextlib.contextmanager
def _store() -> Iterator[SqlUserStore]:
    from visionops.review_store.opening import open_database
    from visionops.review_store.users import SqlUserStore

    database = open_database()
    try:
        yield SqlUserStore(database)
    finally:
        database.close()


def _password(name: str, file: Path | None) -> str:
    """Return the password from a file or a variable, or else from a prompt, typed twice."""
    from visionops.review.passwords import check_password

    if file is not None:
        return check_password(_first_line(file), name)
    if given := os.environ.get(PASSWORD):
        return check_password(given, name)
    if not _is_terminal():
        other = suggest_variable(PASSWORD, os.environ)
        raise ConfigError(f"password: not a terminal; use --password-file FILE, or set {PASSWORD}{other}")
    first = check_password(getpass.getpass(f"Password of {name}: "), name)
    if getpass.getpass("Again: ") != first:
        raise ConfigError("password: the two entries differ; nothing was changed")
    return first


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _first_line(file: Path) -> str:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"--password-file: {file} cannot be read ({reason})") from error
    return text.partition("\n")[0].rstrip("\r")


def _account() -> str:
    """Return the author of changes by command line: this machine's account."""
    return f"{getpass.getuser()} (command line)"


def _now() -> datetime:
    return datetime.now(UTC)
