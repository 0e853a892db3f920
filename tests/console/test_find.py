"""Search, Predict and Data in a real browser, over a generated review and a real endpoint."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.console.conftest import Looked, Server, accessibility_problems, opened, serving
from tests.control.conftest import write_use_case
from tests.helpers.bundles import CLASSES, encode, make_bundle, picture
from tests.helpers.review import NOW
from tests.serving.test_main import server
from visionops.review.items import Origin, Predicted, UseCase
from visionops.review.service import Answer, Arrival
from visionops.review.states import Actor, Verdict
from visionops.review_store.opening import open_review
from visionops.tasks.labelling import LabelScheme

EVIL = "<img src=x onerror=alert(1)>.png"
ANNA, BEA = Actor("anna"), Actor("<b>bea</b>")
CELLS = picture([("red", 1, 1), ("green", 3, 2)]) // 10 * 9 + picture([("blue", 2, 0)]) // 10 * 6
"""The detector is 76% sure of two cells, and 18% of the third, which it does not mention by itself."""
CARD = "<h1>Card of <script>document.title = 'owned'</script>cells</h1>"


@dataclasses.dataclass(frozen=True)
class Placed:
    """A console with its review and endpoint."""

    server: Server
    facts: Path
    endpoint: str


def part(number: int) -> bytes:
    image = CELLS.copy()
    image[-1, :, 0] = number
    return encode(image)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server with a tiny detector."""
    bundle = make_bundle(tmp_path_factory.mktemp("bundle")).folder
    with server("--bundle", str(bundle), "--name", "cells", "--version", "1", "--alias", "champion") as (_, port, _):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Iterator[Placed]:
    folder = tmp_path_factory.mktemp("find")
    write_use_case(folder / "configs", "cells")
    write_use_case(folder / "configs", "belt")
    write_use_case(folder / "configs", "unserved")
    facts = folder / "facts.json"
    served = {"name": "cells", "version": "1", "alias": "champion", "url": endpoint, "state": "active", "trouble": ""}
    finding = {"severity": "warning", "code": "truncated", "count": 30, "places": [f"{EVIL}: is cut off"]}
    data = {
        "created": "2026-11-29T10:00:00+00:00",
        "verdict": "Usable: 30 warnings.",
        "counts": {"usable": 9, "classes": {"<i>red</i>": {"train": 7, "test": 2}}},
        "splits": {"train": 10, "test": 2},
        "notes": [],
        "findings": [finding],
        "near_groups": [["a.png", EVIL]],
        "num_near_groups": 1,
        "cards": ["validation", "labels"],
    }
    known = {
        "endpoints": {"stack": "local", "active": True, "endpoints": [served, served | {"name": "belt"}]},
        "data cells": data,
        "data_card cells validation": CARD,
        "data_images": {
            "count": 2,
            "images": [
                {"key": EVIL, "sha256": "f" * 64, "split": "test"},
                {"key": "in review.png", "sha256": hashlib.sha256(part(4)).hexdigest(), "split": "train"},
            ],
        },
        "models": {},
    }
    facts.write_text(json.dumps(known))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONOPS_HOME", str(folder / "home"))
        fill()
    program = ("tests.console.known_facts", str(facts))
    with serving(folder / "home", folder / "configs", program=program) as server:
        yield Placed(server, facts, endpoint)


def fill() -> None:
    with open_review() as review:
        for name in ("cells", "belt"):  # images are sent to the second: of the first a test counts them
            review.put_use_case(UseCase(name, "detection", LabelScheme(class_names=CLASSES)))
        for number in range(60):
            now = NOW + timedelta(minutes=number)
            name, confidence = CLASSES[number % 2], (number + 1) / 61
            boxes = [{"class_id": number % 2, "class_name": name, "confidence": confidence, "box": [0, 0, 20, 20]}]
            arrival = Arrival(
                Origin.TRAFFIC,
                reference=f"lot-{number // 20}",
                name=EVIL if number == 59 else f"part-{number:02d}.png",
                comment="<script>alert(2)</script> reflection" if number == 59 else "",
                predicted=Predicted("cells", "1", {"detections": boxes}),
            )
            item = review.add("cells", part(number), arrival, ANNA, key=f"a{number}", now=now).item.id
            if number >= 57:
                review.claim(item, BEA, key=f"c{number}", now=now)
                review.decide(item, Answer(Verdict.CONFIRM, comment="seen"), BEA, key=f"d{number}", now=now)
            if number == 57:
                review.export("cells", ANNA, key="e", now=now)
        review.export("cells", ANNA, key="e2", now=NOW + timedelta(hours=2))


@pytest.fixture
def looked_at(chromium: Any, placed: Placed, looked: Looked) -> Iterator[Any]:
    with opened(chromium, placed.server.url, looked) as page:
        page.on("dialog", lambda dialog: looked.problems.append(f"a script ran: {dialog.message}"))
        yield page
    assert looked == Looked()


def test_search_narrows_pages_keeps_and_shares_a_filter(looked_at: Any):
    page = looked_at
    page.goto("/search?use_case=cells")
    page.get_by_role("status").get_by_text("60 images").wait_for()
    assert page.locator(".vo-thumb").count() == 48
    assert page.locator(".vo-thumb-name").first.inner_text() == EVIL
    page.get_by_role("link", name="Next").click()
    page.get_by_text("page 2 of 2").wait_for()
    assert page.locator(".vo-thumb").count() == 12
    page.get_by_label("Confidence from").fill("0.5")
    page.get_by_label("Lot or request id").fill("lot-2")
    page.keyboard.press("Enter")  # as with the button
    page.get_by_role("status").get_by_text("20 images").wait_for()
    assert "from=0.5" in page.url
    assert "reference=lot-2" in page.url
    assert "page" not in page.url
    page.get_by_label("Name of this filter").fill("<b>lot two</b>")
    page.get_by_role("button", name="Save this filter").click()
    page.get_by_role("link", name="<b>lot two</b>").wait_for()
    page.goto("/search?class=green&use_case=cells")
    page.get_by_role("status").get_by_text("30 images").wait_for()
    page.get_by_role("link", name="<b>lot two</b>").click()
    page.get_by_role("status").get_by_text("20 images").wait_for()
    page.get_by_role("button", name="Remove <b>lot two</b>").click()
    page.get_by_role("link", name="<b>lot two</b>").wait_for(state="detached")
    page.goto("/search?text=%3CScript")
    page.get_by_role("status").get_by_text("1 image").wait_for()
    page.goto("/search?state=lost")
    page.get_by_role("alert").get_by_text("state: 'lost' is not one of its values").wait_for()


def test_the_dialog_has_the_history_and_texts_stay_texts(looked_at: Any):
    page = looked_at
    page.goto("/search?use_case=cells")
    tile = page.locator(".vo-thumb").first
    tile.get_by_text("label: ").wait_for()
    tile.get_by_text("exported, confirmed").wait_for()
    tile.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    for text in (EVIL, "“<script>alert(2)</script> reflection”", "<b>bea</b>: confirmed", "in data version 2"):
        dialog.get_by_text(text).first.wait_for()
    # Image and frame must have the same height, or boxes are beside their objects. The dialog may still grow.
    page.wait_for_function(
        """() => { const picture = document.querySelector('.vo-picture'), image = picture.querySelector('img');
        return image.complete && image.clientHeight > 0 && picture.clientHeight === image.clientHeight; }"""
    )
    dialog.get_by_role("tab", name="Label").click()
    dialog.get_by_role("tab", name="Label", selected=True).wait_for()
    drawn = dialog.get_by_role("tabpanel").locator(".vo-box").last
    drawn.wait_for()
    assert drawn.evaluate("box => getComputedStyle(box).borderTopColor") == "rgb(76, 201, 240)"  # of the second class
    assert accessibility_problems(page, within=".vo-item") == []
    dialog.get_by_role("link", name="Images like this").click()
    page.wait_for_url("**/search?like=*")
    page.locator(".vo-thumb").first.wait_for()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Images like a file").click()
    chooser.value.set_files({"name": EVIL, "mimeType": "image/png", "buffer": part(3)})
    page.get_by_text(f"Images like {EVIL}, the nearest first").wait_for()
    assert page.locator(".vo-thumb-name").first.inner_text() == "part-03.png"


def test_what_is_found_is_exported(placed: Placed):
    url = f"{placed.server.url}/api/search/export"
    table = requests.get(f"{url}?format=table&use_case=cells&reference=lot-2", timeout=60)
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert len(rows) == 20
    assert (rows[0]["name"], rows[0]["state"], rows[0]["verdict"]) == (EVIL, "exported", "confirm")
    like = requests.get(f"{url}?format=table&use_case=cells&like={rows[4]['sha256']}", timeout=60)
    assert next(csv.DictReader(io.StringIO(like.text)))["item"] == rows[4]["item"]
    packed = requests.get(f"{url}?format=coco&use_case=cells", timeout=60)
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        labels = json.loads(archive.read("annotations.json"))
        note = archive.read("README.txt").decode()
    assert len(labels["images"]) == 3
    assert note.startswith("3 labelled images of 60 found; 57 have no label and are left out.")
    refused = requests.get(f"{url}?format=coco&use_case=cells&state=pending", timeout=60)
    assert refused.status_code == 404
    assert "none of the 57 found images has a label" in refused.json()["error"]["message"]
    assert requests.get(f"{url}?format=exe&use_case=cells", timeout=60).status_code == 422


def test_thumbnails_are_made_once_and_small(placed: Placed):
    found = requests.get(f"{placed.server.url}/api/search/export?format=table&use_case=cells", timeout=60)
    row = next(csv.DictReader(io.StringIO(found.text)))
    address = f"{placed.server.url}/api/items/{row['item']}/thumbnail"
    first = requests.get(address, timeout=60)
    kept = placed.server.home / "console" / "thumbnails" / row["sha256"][:2] / f"{row['sha256']}.jpg"
    assert first.content == kept.read_bytes()
    assert first.headers["content-type"] == "image/jpeg"
    assert "immutable" in first.headers["cache-control"]
    again = requests.get(address, headers={"If-None-Match": first.headers["etag"]}, timeout=60)
    assert (again.status_code, again.content) == (304, b"")
    assert requests.get(f"{placed.server.url}/api/items/{'0' * 32}/thumbnail", timeout=60).status_code == 404


def test_predict_draws_filters_explains_and_sends_to_review(looked_at: Any, placed: Placed, looked: Looked):
    page = looked_at
    page.goto("/predict?use_case=belt")
    page.get_by_text(f"{placed.endpoint} serves version 1 (champion)").wait_for()
    requests_sent = []
    page.on("request", lambda request: requests_sent.append(request.url))
    page.get_by_label("Image files").set_input_files(
        [
            {"name": EVIL, "mimeType": "image/png", "buffer": part(200)},
            {"name": "no-image.png", "mimeType": "image/png", "buffer": b"text"},
        ]
    )
    good = page.get_by_role("region", name=EVIL)
    good.locator("svg rect").nth(1).wait_for()
    assert good.locator("svg text").count() == 2
    page.get_by_role("region", name="no-image.png").get_by_role("alert").get_by_text("not a readable image").wait_for()
    before = len(requests_sent)
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    good.get_by_text("Nothing above 100%").wait_for()
    assert good.locator("svg rect").count() == 0
    page.keyboard.press("Home")
    good.locator("svg rect").nth(2).wait_for()
    assert len(requests_sent) == before  # the threshold needs no server
    good.get_by_role("button", name="Explain").click()
    good.get_by_role("button", name="Hide explanation").wait_for()
    good.get_by_role("button", name="This is wrong").click()
    good.get_by_label("What is wrong?").fill("<i>no</i> cell is red")
    page.keyboard.press("Enter")
    good.get_by_text("Sent to review").wait_for()
    # Chromium writes an answer of an error to its console, whatever the page makes of it.
    (problem,) = looked.problems
    assert "status of 422" in problem
    looked.problems.clear()
    page.goto("/search?use_case=belt&origin=upload&text=no%3C%2Fi%3E%20cell")
    page.get_by_role("status").get_by_text("1 image").wait_for()
    assert page.locator(".vo-thumb-name").inner_text() == EVIL
    table = requests.get(f"{placed.server.url}/api/search/export?format=table&origin=upload", timeout=60)
    (row,) = csv.DictReader(io.StringIO(table.text))
    assert sorted(row["answer"].split(", ")) == ["green 76%", "red 76%"]  # not what only the slider shows


def test_an_image_is_pasted_and_dropped(looked_at: Any):
    page = looked_at
    page.goto("/predict?use_case=cells")
    page.locator(".vo-drop").wait_for()
    page.evaluate(
        """([bytes]) => {
            const made = (name) => { const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" })); return data; };
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: made("pasted.png") }));
            document.querySelector(".vo-drop").dispatchEvent(
                new DragEvent("drop", { dataTransfer: made("dropped.png"), bubbles: true, cancelable: true }));
        }""",
        [list(part(201))],
    )
    page.get_by_text("2 images answered").wait_for()
    for name in ("pasted.png", "dropped.png"):
        assert page.get_by_role("region", name=name).locator("svg rect").count() == 2
    page.get_by_role("button", name="Clear").click()
    assert page.locator(".vo-prediction").count() == 0


def test_without_an_endpoint_the_page_has_the_command_that_starts_one(looked_at: Any, placed: Placed):
    page = looked_at
    page.goto("/predict?use_case=unserved")
    page.get_by_text("No endpoint of unserved runs.").wait_for()
    page.get_by_text(f"visionops deploy --config {placed.server.configs / 'unserved.yaml'}").wait_for()
    answer = requests.post(
        f"{placed.server.url}/api/predict/unserved",
        data=part(1),
        headers={"Content-Type": "image/png", "Origin": placed.server.url},
        timeout=60,
    )
    assert answer.status_code == 404
    assert "start it with visionops deploy --config" in answer.json()["error"]["message"]


def test_data_shows_versions_findings_and_pages_that_run_no_script(looked_at: Any, placed: Placed, looked: Looked):
    page = looked_at
    page.goto("/data?use_case=cells")
    page.get_by_text("1 labelled images became 3: 2 new, 0 with another label.").wait_for()
    page.get_by_role("cell", name="<b>bea</b>").first.wait_for()
    page.get_by_role("cell", name="<i>red</i>").wait_for()
    page.get_by_role("button", name="warning: truncated, 30").click()
    page.get_by_text(f"{EVIL}: is cut off").wait_for()
    page.get_by_role("cell", name=EVIL).wait_for()
    page.get_by_role("button", name="History of in review.png").click()
    page.get_by_role("dialog").get_by_text("part-04.png").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.get_by_role("button", name="Data card").click()
    frame = page.frame_locator("iframe")
    frame.get_by_role("heading", name="Card of").wait_for()
    assert page.title() == "Data · VisionOps"
    # The browser says that it has run no script of the page.
    assert all("sandboxed" in text or "Content Security Policy" in text for text in looked.problems)
    looked.problems.clear()
    card = requests.get(f"{placed.server.url}/api/data/cells/validation", timeout=60)
    assert card.text == CARD
    assert "sandbox" in card.headers["content-security-policy"]
    assert "default-src 'none'" in card.headers["content-security-policy"]
    assert requests.get(f"{placed.server.url}/api/data/cells/..%2Fvalidation", timeout=60).status_code == 404
    assert requests.get(f"{placed.server.url}/api/data/cells/labels", timeout=60).status_code == 404
