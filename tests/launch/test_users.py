"""Test `visionops user`; a password is never an argument."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.users import PASSWORD, user_app

SECRET = "a password for tests"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", str(tmp_path / "review.db"))
    monkeypatch.delenv(PASSWORD, raising=False)

    def run(*words: str, text: str | None = None, code: int = 0) -> str:
        done = CliRunner().invoke(user_app, list(words), input=text)
        assert done.exit_code == code, done.output
        return done.output

    return run


def test_users_are_added_changed_and_listed(user, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert "visionops user add NAME --role admin" in user("list")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    assert "added     anna, admin" in user(
        "add", "anna", "--role", "admin", "--password-file", str(tmp_path / "secret")
    )
    assert "added     bea, viewer" in user("add", "bea", "--password-file", "-", text=SECRET)
    monkeypatch.setenv(PASSWORD, SECRET)
    assert "added     chen, engineer" in user("add", "chen", "--role", "engineer")
    assert "bea is reviewer" in user("role", "BEA", "reviewer")
    assert "their sessions have ended" in user("password", "bea")
    assert "disabled  bea" in user("disable", "bea")
    lines = [line.split() for line in user("list").splitlines()]
    assert lines[1:] == [
        ["admin", "active", "password", "0", "anna"],
        ["reviewer", "disabled", "password", "0", "bea"],
        ["engineer", "active", "password", "0", "chen"],
    ]
    assert "enabled   bea" in user("enable", "bea")


def test_an_error_is_one_line_with_the_fix(user, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert f"use --password-file FILE, or set {PASSWORD}" in user("add", "anna", code=2)
    assert "cannot be read" in user("add", "anna", "--password-file", str(tmp_path / "none"), code=2)
    monkeypatch.setenv(PASSWORD, "short")
    assert "password: has 5 characters; expected 10 to 200" in user("add", "anna", code=2)
    monkeypatch.setenv(PASSWORD, "Administrator")
    assert "password: is the same as the name" in user("add", "ADMINISTRATOR", code=2)
    monkeypatch.setenv(PASSWORD, SECRET)
    user("add", "anna", "--role", "admin")
    assert "user anna: already exists" in user("add", "Anna", code=2)
    assert "user anna: is the last admin" in user("disable", "anna", code=2)
    assert "user nobody: does not exist" in user("password", "nobody", code=2)
    assert "Invalid value" in user("add", "bea", "--role", "root", code=2)


def test_a_password_is_typed_twice_and_not_shown(user, monkeypatch: pytest.MonkeyPatch):
    typed = iter([SECRET, "another password", SECRET, SECRET])
    monkeypatch.setattr("launch.users.getpass.getpass", lambda _: next(typed))
    monkeypatch.setattr("launch.users._is_terminal", lambda: True)
    assert "the two entries differ; nothing was changed" in user("add", "anna", code=2)
    assert SECRET not in user("add", "anna")
