"""Access to a real Pushgateway that requires a login and TLS with a certificate made here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.pushgateway import main
from tests.helpers.programs import free_port, pushed, pushgateway, secured_pushgateway, until
from visionops.errors import StackError
from visionops.monitoring.gateway import Pushgateway

SAID = {"visionops_pipeline_succeeded": "Whether."}
NEW = {"visionops_pipeline_succeeded": True}
NO_LOGIN = "set VISIONOPS_PUSHGATEWAY_USERNAME and VISIONOPS_PUSHGATEWAY_PASSWORD to a login that it accepts"
NO_TRUST = "set VISIONOPS_PUSHGATEWAY_CA to the certificate of the authority that signed it"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushgateway]:
    with secured_pushgateway(tmp_path_factory.mktemp("pushgateway") / "run") as gateway:
        yield gateway


def refusals(gateway: Pushgateway) -> tuple[str, str]:
    """Return the errors of a push and of the doctor's check."""
    with pytest.raises(StackError) as push:
        gateway.push({"use_case": "steel"}, NEW, SAID, replace=True)
    with pytest.raises(StackError) as ready:
        gateway.require_ready()
    assert "\n" not in f"{push.value}{ready.value}"
    return str(push.value), str(ready.value)


def test_who_has_the_login_and_trusts_the_certificate_pushes_and_deletes(secured: Pushgateway):
    secured.require_ready()
    text = dataclasses.replace(secured, ca=Path(secured.ca).read_text())
    for gateway in (secured, text):
        gateway.push({"use_case": "steel", "part": "epochs"}, NEW, SAID, replace=True)
        assert gateway.forget({"part": "epochs"}, age=3600) == 0
        assert gateway.forget({"part": "epochs"}, age=-60) == 1
        assert gateway.forget({"part": "epochs"}, age=-60) == 0


@pytest.mark.parametrize(
    ("changes", "why", "fix"),
    [
        ({"password": "wrong"}, "refuses the login (401)", NO_LOGIN),
        ({"username": "", "password": ""}, "wants a login (401)", NO_LOGIN),
        ({"ca": ""}, "its certificate is not trusted: unable to get local issuer certificate", NO_TRUST),
        ({"ca": "/nowhere/ca.crt"}, "/nowhere/ca.crt cannot be read: No such file or directory", NO_TRUST),
        ({"ca": "-----BEGIN CERTIFICATE-----"}, "the certificate of its authority cannot be read: no cert", NO_TRUST),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_variable(secured: Pushgateway, changes, why, fix):
    push, ready = refusals(dataclasses.replace(secured, **changes))
    assert push.startswith(f"Pushgateway {secured.url}: accepts no metrics ({why}")
    assert ready.startswith(f"Pushgateway {secured.url}: does not answer ({why}")
    assert push.endswith(fix)
    assert ready.endswith(fix)
    assert secured.password not in push + ready + repr(secured)


def test_the_other_scheme_another_name_and_nobody_are_one_line(secured: Pushgateway, tmp_path: Path):
    plain = dataclasses.replace(secured, url=secured.url.replace("https", "http"))
    assert (
        "(400 Client sent an HTTP request to an HTTPS server.); start VISIONOPS_PUSHGATEWAY with https://"
        in (refusals(plain)[0])
    )
    address = dataclasses.replace(secured, url=secured.url.replace("localhost", "127.0.0.1"))
    assert "its certificate is not trusted: IP address mismatch" in refusals(address)[0]
    with pushgateway(tmp_path / "open") as url:
        assert "(it speaks plain HTTP)" in refusals(Pushgateway(url.replace("http", "https")))[0]
    nobody = Pushgateway(f"https://127.0.0.1:{free_port()}")
    assert "(connection refused); start it, or set VISIONOPS_PUSHGATEWAY to a running one" in refusals(nobody)[1]
    assert "(unknown host name)" in refusals(Pushgateway("https://gateway.invalid"))[0]


def test_only_old_groups_of_these_labels_are_forgotten(tmp_path: Path):
    with pushgateway(tmp_path / "open") as url:
        gateway = Pushgateway(url)
        gateway.push({"use_case": "old", "part": "epochs"}, NEW, SAID, replace=True)
        gateway.push({"use_case": "kept"}, NEW, SAID, replace=True)
        assert gateway.forget({"part": "epochs"}, age=3600) == 0
        assert gateway.forget({"part": "epochs"}, age=-60) == 1
        until(lambda: not pushed(url, "old"))  # the gateway deletes a moment after it answers
        assert pushed(url, "kept")
    assert gateway.forget({"part": "epochs"}, age=1) == 0
    assert Pushgateway().forget({}, age=0) == 0


def test_access_is_made_once_and_says_what_to_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "access"
    assert main([str(folder), "--host", "gateway.example"]) == 0
    said = capsys.readouterr().out
    assert "export VISIONOPS_PUSHGATEWAY=https://gateway.example:9091\n" in said
    password = (folder / "client" / "password").read_text()
    assert password not in said
    assert password not in (folder / "server" / "web.yml").read_text()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert main([str(folder)]) == 2
    assert "is not empty; remove it" in capsys.readouterr().err
    assert (folder / "client" / "password").read_text() == password
