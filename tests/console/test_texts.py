"""Texts of users, file names and data sets are shown as text on every page, never run as HTML."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.console.conftest import Looked, Server, opened, serving
from tests.console.test_pages import PAGES
from tests.console.users import PASSWORD, session_of, user_store
from tests.helpers.review import png
from visionops.review.items import Origin, Predicted, Reason, UseCase
from visionops.review.passwords import hash_password
from visionops.review.service import Answer, Arrival
from visionops.review.states import Actor, Verdict
from visionops.review.users import UserRole
from visionops.review_store.database import Database
from visionops.review_store.opening import review_over
from visionops.tasks.labelling import LabelScheme

HTML = "<img src=x onerror=alert(1)>"
SCRIPT = "</script><script>alert(2)</script>"
TEMPLATE = "{{constructor.constructor('alert(3)')()}}"
TEXT = f"{HTML} {SCRIPT} {TEMPLATE}"
ADMIN = f"{HTML} admin"


def fill_review(home: Path) -> None:
    """A review with scripts in every text, with pending, decided and rejected items."""
    database = Database(str(home / "review" / "review.db"))
    review = review_over(database, str(home / "review" / "images"))
    review.put_use_case(UseCase("steel", "detection", LabelScheme(class_names=(HTML, TEMPLATE))))
    found = {"class_id": 0, "class_name": HTML, "confidence": 0.9, "box": [1.0, 1.0, 20.0, 20.0]}
    predicted = Predicted(HTML, TEMPLATE, {"detections": [found]})
    actor, now = Actor(ADMIN, is_admin=True), datetime.now(UTC)
    for number in range(4):
        arrival = Arrival(
            Origin.UPLOAD,
            reference=TEXT,
            name=f"{number} {HTML}.png",
            comment=TEXT,
            predicted=predicted,
            reasons=(Reason(SCRIPT, 0.5, TEXT),),
        )
        review.add("steel", png(number), arrival, actor, key=f"a{number}", now=now)
    answers = (Answer(Verdict.CONFIRM, comment=TEXT), Answer(Verdict.REJECT, reason=HTML, comment=TEXT))
    for number, answer in enumerate(answers):
        item = review.claim_next("steel", actor, key=f"c{number}", now=now)
        assert item is not None
        review.decide(item.id, answer, actor, key=f"d{number}", now=now)
    database.close()


@pytest.fixture(scope="module")
def console(places: tuple[Path, Path]) -> Iterator[Server]:
    home, configs = places
    fill_review(home)
    (configs / f"{HTML.replace('/', '')}.yaml").write_text(f"name: '{HTML}'\n{TEMPLATE}: 1\n")
    with user_store(home) as users:
        users.add(ADMIN, UserRole.ADMIN, TEXT, datetime.now(UTC), hashed=hash_password(PASSWORD, ADMIN))
    with serving(home, configs) as server:
        yield server


def test_no_page_runs_what_others_have_written(console: Server, chromium: Any):
    looked = Looked()
    with opened(chromium, console.url, looked) as page:
        page.on("dialog", lambda dialog: looked.problems.append(dialog.message))
        cookie = {"name": "visionops", "value": session_of(console.home, ADMIN), "url": console.url}
        page.context.add_cookies([cookie])
        for path, title in PAGES.items():
            page.goto(path)
            page.get_by_role("heading", level=1, name=title).wait_for()
            page.get_by_role("button", name=f"{ADMIN} · admin").wait_for()  # as it is
            page.wait_for_timeout(300)
            assert page.locator("img[onerror]").count() == 0, path
            assert page.locator("img[src='x']").count() == 0, path
    assert looked == Looked()


@pytest.mark.parametrize("path", [f"/login?next={TEXT}", f"/{HTML}", f"/api/items/{HTML}/image", f"/?x={TEXT}"])
def test_no_address_writes_into_a_page(console: Server, path: str):
    for accept in ("text/html", "application/json"):
        with httpx.Client(base_url=console.url, headers={"Accept": accept}, trust_env=False, timeout=120) as client:
            answer = client.get(path)
            assert "<img" not in answer.text or answer.headers["content-type"] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"
