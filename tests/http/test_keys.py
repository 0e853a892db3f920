"""The file of API keys."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest

from deploy.http.keys import ADMIN_ID, Client, KeyRing, KeyRole, make_key, parse_keys
from deploy.serving.keys import main
from visionops.errors import ConfigError

LINE_3 = Client("line-3", KeyRole.PREDICT)
DIGEST = "sha256:" + "0" * 64


def test_a_made_key_opens_what_its_line_says():
    key, line = make_key(LINE_3)
    assert line == f"line-3 predict sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    assert KeyRing(lines=line).client(key.encode()) == LINE_3
    assert len({make_key(LINE_3)[0] for _ in range(10)}) == 10


def test_the_command_prints_key_and_line(capsys: pytest.CaptureFixture[str]):
    assert main(["--id", "line-3", "--role", "feedback"]) == 0
    key, line = capsys.readouterr().out.splitlines()
    assert KeyRing(lines=line).client(key.encode()) == Client("line-3", KeyRole.FEEDBACK)
    assert main(["--id", "line 3", "--role", "feedback"]) == 2
    assert capsys.readouterr().err.startswith("error: --id: ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("line-3 predict", "line 2: expected 'id role"),
        ("line-3 predict a b", "line 2: expected 'id role"),
        (f"li/ne predict {DIGEST}", "line 2: expected 'id role"),
        (f"line-3 root {DIGEST}", "line 2: unknown role; expected one of predict, feedback, review, admin"),
        ("line-3 predict vok_plain", "line 2: expected sha256:"),
        (f"line-3 predict {DIGEST[:-1]}", "line 2: expected sha256:"),
        (f"line-3 predict {DIGEST}\nline-4 admin {DIGEST}", "line 3: duplicate of a key above"),
    ],
)
def test_a_bad_line_is_named_and_not_repeated(line: str, message: str):
    with pytest.raises(ConfigError, match=f"^keys: {message}") as caught:
        parse_keys(f"# ours\n{line}", "keys")
    assert "vok_plain" not in str(caught.value)


def test_two_keys_of_one_client_are_both_good():
    (old, first), (new, second) = make_key(LINE_3), make_key(LINE_3)
    ring = KeyRing(lines=f"{first}\n{second}")
    assert ring.client(old.encode()) == ring.client(new.encode()) == LINE_3


def test_the_admin_key_alone_does_not_count_as_configured():
    ring = KeyRing(admin_key="k")
    assert not ring.is_configured
    assert ring.client(b"k") == Client(ADMIN_ID, KeyRole.ADMIN)
    assert ring.client(b"") is None


def test_a_file_that_changes_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logging.getLogger("visionops"), "propagate", True)
    file, read = tmp_path / "keys", []
    (first, line_1), (second, line_2) = make_key(LINE_3), make_key(Client("line-4", KeyRole.ADMIN))
    file.write_text(line_1)
    ring = KeyRing(file, recheck_seconds=0, on_read=read.append)
    assert ring.client(second.encode()) is None
    replace(file, line_2)
    assert ring.client(second.encode()) == Client("line-4", KeyRole.ADMIN)
    assert ring.client(first.encode()) is None, "revoked"
    assert read == [True]

    with caplog.at_level(logging.ERROR):
        replace(file, "line-5 predict vok_plain")
        assert ring.client(second.encode()) is not None, "a broken file keeps the keys"
        file.unlink()
        assert ring.client(second.encode()) is not None
    assert read == [True, False, False]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == ["keys_kept", "keys_kept"]
    assert "line 1: expected sha256:" in errors[0].fields["reason"]

    replace(file, "")
    assert ring.client(second.encode()) is None, "no key at all is what the file says"
    assert ring.is_configured
    assert read[-1] is True


def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path):
    with pytest.raises(ConfigError, match="keys cannot be read"):
        KeyRing(tmp_path / "none")
    (tmp_path / "keys").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no UTF-8 text"):
        KeyRing(tmp_path / "keys")


def replace(file: Path, text: str) -> None:
    """Replace a file by a new one with the same name, as editors and mounted secrets do."""
    draft = file.with_suffix(".new")
    draft.write_text(text)
    draft.replace(file)
