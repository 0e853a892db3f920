"""Lock file of Seldon's wrapper: pinned with digests, and with the server's versions where Seldon allows them."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

OURS = (ROOT / "requirements.lock").read_text()
SELDON = (ROOT / "deploy" / "seldon" / "requirements.lock").read_text()
SAME = re.search(r"grep -E '\^\((.+)\)=='", (ROOT / "Makefile").read_text())
"""Packages that `make lock` keeps at the server's versions."""


def version(lock: str, name: str) -> str:
    found = re.search(rf"^{re.escape(name)}==(\S+)", lock, re.MULTILINE)
    assert found, f"{name} is not pinned"
    return found[1]


@pytest.mark.parametrize("name", ["openvino", "pillow", "pillow-heif", "pydantic", "simplejpeg"])
def test_what_decodes_and_computes_is_the_servers(name):
    assert SAME is not None
    assert name in SAME[1].split("|")
    assert version(SELDON, name) == version(OURS, name), "run make lock"


def test_every_pin_has_digests_and_no_host_is_named():
    entries = re.split(r"^(?=\S)", SELDON, flags=re.MULTILINE)[1:]
    assert len(entries) > 30
    assert [entry.split()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert "://" not in SELDON
