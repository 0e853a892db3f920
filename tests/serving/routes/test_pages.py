"""`/` and `/docs`: pages without data, and the same addresses as JSON."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from deploy.serving.middleware.access import PAGES, ROLES
from deploy.serving.routes.openapi import LINKS
from deploy.serving.routes.pages import CONTENT_POLICY
from deploy.serving.routes.schemas import HomeAnswer
from tests.serving.conftest import KEY, TestClient, client_of, settings_of
from tests.serving.test_app import reload, send
from visionops import __version__

HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
LOCKED = f"line predict sha256:{hashlib.sha256(b'line-key').hexdigest()}\nnote feedback sha256:{'5' * 64}"
ASSETS = {
    "/favicon.ico": "image/svg+xml",
    "/assets/access.js": "text/javascript",
    "/assets/docs.js": "text/javascript",
    "/assets/home.js": "text/javascript",
    "/assets/page.css": "text/css",
    "/assets/swagger-ui.css": "text/css",
    "/assets/swagger-ui.js": "text/javascript",
}


@pytest.fixture
def locked(bundle: Path) -> Iterator[TestClient]:
    """A server with a model and keys."""
    with client_of(settings_of(bundle, name="secret-part", version="77", api_keys=LOCKED)) as client:
        yield client


@pytest.mark.parametrize("path", sorted(PAGES))
def test_a_browser_gets_a_page_with_a_strict_policy(client: TestClient, path: str):
    page = client.get(path, headers=HTML)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers.get_list("content-security-policy") == [CONTENT_POLICY]
    assert "unsafe" not in CONTENT_POLICY
    assert page.headers["vary"] == "Accept"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=|https?:|//", page.text) == []


@pytest.mark.parametrize("path", sorted(PAGES))
def test_a_page_names_only_what_the_server_has(client: TestClient, path: str):
    named = re.findall(r'(?:src|href)="([^"]+)"', client.get(path, headers=HTML).text)
    assert {"favicon.ico", "assets/page.css", "docs", "./"} <= set(named)
    for name in named:
        assert f"GET {'/' + name.removeprefix('./')}" in ROLES, name


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html", None])
def test_who_wants_json_gets_what_is_served(client: TestClient, red_cell: bytes, accept: str | None):
    send(client, red_cell)
    send(client, b"no image")
    before = datetime.now(UTC)
    answer = client.get("/", headers={} if accept is None else {"Accept": accept})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "Accept"
    facts = HomeAnswer.model_validate(answer.json())
    assert (facts.version, facts.links, facts.waiting) == (__version__, LINKS, 0)
    assert "this machine only" in facts.serves
    assert sum(facts.rejected.values()) == 1
    (model,) = facts.models
    assert (model.name, model.version, model.task, model.default, model.ready) == (
        "cells",
        "1",
        "detection",
        True,
        True,
    )
    assert (model.answered, model.failed, model.found) == (1, 0, {"red": 1})
    assert model.last_images is not None
    assert model.last_images.images == 1
    assert model.since is not None
    assert datetime.fromisoformat(facts.started) <= before
    assert datetime.fromisoformat(model.since) <= before


def test_links_lead_somewhere(client: TestClient):
    for path in client.get("/").json()["links"].values():
        assert client.get(f"/{path}").status_code == (405 if path == "predict" else 200)


def test_a_changed_server_names_its_source():
    address = "https://git.example/visionops"
    with client_of(settings_of(None, source_url=address)) as client:
        assert client.get("/").json()["links"] == LINKS | {"source": address}
    with pytest.raises(ValidationError, match="source_url"):
        settings_of(None, source_url="javascript:alert(1)")


def test_a_switched_model_is_served_since_then(client: TestClient, other_bundle: Path, red_cell: bytes):
    before = client.get("/").json()["models"][0]
    send(client, red_cell)
    assert reload(client, other_bundle).status_code == 200
    assert reload(client, other_bundle / "absent", version="3").status_code == 422
    after = client.get("/").json()["models"][0]
    assert (before["version"], after["version"]) == ("1", "2")
    assert after["since"] >= before["since"]
    assert (after["answered"], after["last_images"]["images"]) == (1, 0), "the old model's images count for the name"
    assert after["last_failure"]["version"] == "3"


def test_a_canary_is_named(client: TestClient, other_bundle: Path):
    assert reload(client, other_bundle, version="5", role="canary", share=0.5).status_code == 200
    assert client.get("/").json()["models"][0]["beside"] == {"canary": "5"}


def test_without_a_model_the_list_is_empty_or_says_why(bundle: Path, tmp_path: Path):
    with client_of(settings_of(None)) as client:
        assert client.get("/").json()["models"] == []
    models = tmp_path / "models.yaml"
    listed = {"cells": bundle, "absent": tmp_path / "nowhere"}
    lines = [f"  - {{name: {name}, version: '1', bundle: {folder}}}\n" for name, folder in listed.items()]
    models.write_text("models:\n" + "".join(lines))
    with client_of(settings_of(None, models=models)) as client:
        _, model = client.get("/").json()["models"]
    assert (model["name"], model["ready"]) == ("absent", False)
    assert "not a model bundle" in model["last_failure"]["message"]
    assert "version" not in model


def test_docs_as_json_is_the_document(client: TestClient):
    assert client.get("/docs").json() == client.get("/openapi.json").json()


# Keys


def test_without_a_key_nothing_is_shown(locked: TestClient):
    for path in PAGES:
        refused = locked.get(path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "wrong_key")
        for headers in ({}, {"X-API-Key": "line-key"}, {"X-API-Key": "wrong"}):
            page = locked.get(path, headers=HTML | headers)
            assert page.status_code == 200
            assert not re.search(r"secret-part|\b77\b|detection|red\b|cells", page.text)
        assert page.text == locked.get(path, headers=HTML | {"X-API-Key": "line-key"}).text, "one page for everybody"
    assert locked.get("/openapi.json", headers=HTML).status_code == 401
    assert locked.get("/model", headers=HTML).status_code == 401


def test_with_a_key_the_facts_are_shown(locked: TestClient):
    for headers in ({"X-API-Key": "line-key"}, {"Authorization": "Bearer line-key"}):
        facts = locked.get("/", headers=headers).json()
        assert (facts["models"][0]["name"], facts["models"][0]["version"]) == ("secret-part", "77")
        assert facts["serves"] == "clients with an API key"
        assert locked.get("/docs", headers=headers).json()["openapi"].startswith("3.")


def test_one_header_decides_between_page_and_json(locked: TestClient):
    """Two headers Accept must not let JSON pass as a page."""
    for first, second in (("application/json", "text/html"), ("text/html", "application/json")):
        answer = locked.get("/", headers=[("Accept", first), ("Accept", second)])
        assert answer.status_code == 401 or answer.headers["content-type"].startswith("text/html")
        assert "secret-part" not in answer.text


def test_only_reads_get_a_page_without_a_key(locked: TestClient):
    assert locked.post("/", headers=HTML).status_code == 401
    refused = locked.post("/", headers=HTML | {"X-API-Key": "line-key"})
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", sorted(PAGES))
def test_another_machine_gets_the_page_and_is_refused_the_facts(bundle: Path, path: str):
    with client_of(settings_of(bundle)) as client:
        foreign = {"Host": "line.example"}
        assert client.get(path, headers=HTML | foreign).status_code == 200
        assert client.get(path, headers=foreign).json()["error"]["code"] == "foreign_host"


def test_head_is_as_get(locked: TestClient):
    for path in PAGES:
        got, head = (locked.request(method, path, headers=HTML) for method in ("GET", "HEAD"))
        assert (head.status_code, head.content) == (200, b"")
        own = {"x-request-id"}
        assert {k: v for k, v in head.headers.items() if k not in own} == {
            k: v for k, v in got.headers.items() if k not in own
        }
        assert locked.head(path).status_code == 401


# Files


def test_the_files_of_the_pages(locked: TestClient):
    assert {f"GET {path}" for path in ASSETS} <= set(ROLES)
    for path, kind in ASSETS.items():
        answer = locked.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].partition(";")[0] == kind
        assert answer.headers.get_list("cache-control") == ["no-cache"]
        again = locked.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert not re.search(r"secret-part", answer.text)
    assert locked.get("/assets/../pages/home.html", headers={"X-API-Key": "line-key"}).status_code == 404
    assert locked.get("/assets/absent.js", headers={"X-API-Key": "line-key"}).status_code == 404


def test_the_admin_key_opens_the_facts_too(locked: TestClient):
    assert locked.get("/", headers={"X-API-Key": KEY}).status_code == 200
