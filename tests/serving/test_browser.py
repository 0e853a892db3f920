"""The pages in a real browser, over real processes, without another server."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.console.conftest import Looked, accessibility_problems, chromium, looked, opened  # noqa: F401 - fixtures
from tests.helpers.bundles import encode, filled, make_bundle, make_label_bundle, picture
from tests.serving.test_main import server
from visionops.inference.bundle import Head

CLASSES = ("crazing", "<b>inclusion</b>", "scratches")
KEY = "the-key-of-line-3"
REFUSED = re.compile(r"Failed to load resource: the server responded with a status of (401|403|413|422) ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of each task, a file that serves them all, and images."""
    folder = tmp_path_factory.mktemp("pages")
    make_bundle(folder / "steel", class_names=CLASSES)
    make_label_bundle(folder / "casting", heads=[Head(name="class", class_names=("ok", "defective", "unsure"))])
    heads = [Head(name=name, class_names=("ok", "bent", "torn")) for name in ("surface", "edge")]
    make_label_bundle(folder / "solar", heads=heads, task="attributes")
    (folder / "models.yaml").write_text(
        "models:\n"
        "  - {name: steel, version: '3', bundle: steel, max_upload_bytes: 50000}\n"
        "  - {name: casting, version: '1', bundle: casting}\n"
        "  - {name: solar, version: '12', bundle: solar}\n"
        "  - {name: absent, version: '2', bundle: absent}\n"
    )
    (folder / "cells.png").write_bytes(encode(picture([("red", 2, 1), ("green", 0, 3)])))
    dim = picture([("red", 2, 1), ("green", 0, 3)])
    dim[:96] = dim[:96] * 0.7
    (folder / "dim.png").write_bytes(encode(dim))
    (folder / "green.png").write_bytes(encode(filled((40, 220, 30))))
    (folder / "notes.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def open_url(folder: Path) -> Iterator[str]:
    """A server without keys."""
    with server("--models", str(folder / "models.yaml"), "--streams", "1") as (_, port, _log):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def locked_url(folder: Path) -> Iterator[str]:
    """A server with two keys, one of them for feedback only."""
    digest, other = (hashlib.sha256(key.encode()).hexdigest() for key in (KEY, "for-feedback"))
    keys = folder / "keys"
    keys.write_text(f"line-3 predict sha256:{digest}\nnotes feedback sha256:{other}\n")
    command = ("--bundle", str(folder / "steel"), "--name", "steel", "--version", "3", "--streams", "1")
    with server(*command, "--keys", str(keys)) as (_, port, _log):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def page(chromium: Any, open_url: str, looked: Looked) -> Iterator[Any]:  # noqa: F811 - the fixtures
    with opened(chromium, open_url, looked) as found:
        found.goto("/")
        found.wait_for_selector("#content:not([hidden])")
        yield found
    check(looked)


@pytest.fixture
def locked(chromium: Any, locked_url: str, looked: Looked) -> Iterator[Any]:  # noqa: F811 - the fixtures
    with opened(chromium, locked_url, looked) as found:
        yield found
    check(looked)


def check(looked: Looked) -> None:  # noqa: F811 - of a test
    """Check that no request went to another server, and that the browser reported only the server's refusals."""
    assert looked.foreign == []
    assert [problem for problem in looked.problems if not REFUSED.match(problem)] == []


def choose(page: Any, file: Path) -> None:
    page.wait_for_selector("#content:not([hidden])")
    page.set_input_files("#file", file)
    page.wait_for_selector("#result:not([hidden])")


def test_the_page_shows_what_is_served(page: Any):
    cards = page.locator("article")
    assert cards.locator("h2").all_inner_texts() == [
        "steel version 3",
        "casting version 1",
        "solar version 12",
        "absent",
    ]
    assert cards.locator(".state").all_inner_texts() == ["Answers", "Answers", "Answers", "Does not answer"]
    assert "it is not a model bundle" in cards.nth(3).inner_text()
    assert "crazing, <b>inclusion</b>, scratches" in cards.first.inner_text()
    assert "this machine only" in page.inner_text("#server")
    assert page.locator("#model option").all_inner_texts() == ["steel", "casting", "solar"]
    assert page.locator("b").count() == 0, "a class with markup is a text"


def test_boxes_are_drawn_where_they_are(page: Any, folder: Path):
    answered = page.locator("article").first.locator(".number").first
    before = int(answered.inner_text())
    choose(page, folder / "cells.png")
    assert page.get_attribute("#shapes", "viewBox") == "0 0 128 128"
    drawn = {
        tuple(round(float(rect.get_attribute(name))) for name in ("x", "y", "width", "height"))
        for rect in page.locator("#shapes rect").all()
    }
    assert drawn == {(64, 32, 32, 32), (0, 96, 32, 32)}
    # The drawing lies on the image.
    assert page.locator("#shapes").bounding_box() == page.locator("#image").bounding_box()
    rows = page.locator("#answer tbody tr").all_inner_texts()
    assert {row.split()[0] for row in rows} == {"crazing", "<b>inclusion</b>"}
    assert "cells.png, 128 \u00d7 128 pixels, answered by steel version 3" in page.inner_text("#status")
    assert re.search(r"[\d.]+ ms on the server \(decode .+ ms, .*inference", page.inner_text("#timing"))
    page.wait_for_function(
        "wanted => Number(document.querySelector('article .number').textContent) === wanted", arg=before + 1
    )
    page.get_by_text("Answer as JSON").click()
    assert '"detections"' in page.inner_text("#json")


def test_the_slider_hides_what_is_less_sure(page: Any, folder: Path):
    choose(page, folder / "dim.png")
    json = page.evaluate("JSON.parse(document.getElementById('json').textContent)")
    low, high = sorted(part["confidence"] for part in json["detections"])
    middle = round((low + high) / 2, 2)
    assert low < middle < high
    for least, count in ((0.05, 2), (middle, 1), (0.05, 2)):
        page.fill("#threshold", str(least))
        assert page.locator("#shapes rect").count() == page.locator("#answer tbody tr").count() == count


@pytest.mark.parametrize(("model", "questions"), [("casting", {""}), ("solar", {"surface", "edge"})])
def test_classes_are_shown_with_their_probabilities(page: Any, folder: Path, model: str, questions: set[str]):
    page.select_option("#model", model)
    choose(page, folder / "green.png")
    answer = page.evaluate("JSON.parse(document.getElementById('json').textContent)")
    parts = answer.get("attributes") or {"": answer["classification"]}
    assert set(parts) == questions
    headings = [f"{question}: {part['class_name']}".removeprefix(": ") for question, part in parts.items()]
    assert page.locator("#answer h3").all_inner_texts() == headings
    assert page.locator("#answer table").count() == len(parts)
    part = next(iter(parts.values()))
    best = max(part["probabilities"], key=part["probabilities"].get)
    first = page.locator("#answer tbody tr").first.inner_text().split()
    assert first == [best, f"{part['probabilities'][best] * 100:.0f}%"]
    assert page.locator("#shapes > *").count() == 0
    assert page.is_hidden("#range")
    assert f"answered by {model} version" in page.inner_text("#status")


TRANSFER = """([kind, event, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "given.png", { type: "image/png" }));
  const target = kind === "drop" ? document.getElementById("drop") : document;
  const carried = { dataTransfer: data, clipboardData: data };
  target.dispatchEvent(new (window[event])(kind, { bubbles: true, cancelable: true, ...carried }));
}"""


@pytest.mark.parametrize(("kind", "event"), [("drop", "DragEvent"), ("paste", "ClipboardEvent")])
def test_an_image_may_be_dropped_or_pasted(page: Any, folder: Path, kind: str, event: str):
    page.evaluate(TRANSFER, [kind, event, list((folder / "cells.png").read_bytes())])
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("#shapes rect").count() == 2


def test_what_is_refused_is_said_in_words(page: Any, folder: Path, tmp_path: Path):
    page.set_input_files("#file", folder / "notes.png")
    page.wait_for_selector("#problem p")
    assert "notes.png: Not a readable image" in page.inner_text("#problem")
    assert page.is_hidden("#result")
    large = tmp_path / "large.png"
    large.write_bytes(bytes(60_000))
    page.set_input_files("#file", large)
    page.get_by_text("large.png: The image has 60,000 bytes; the limit is 50,000.").wait_for()
    choose(page, folder / "cells.png")
    assert page.inner_text("#problem") == ""


def test_a_page_outlives_its_server(chromium: Any, folder: Path, looked: Looked):  # noqa: F811 - the fixtures
    command = ("--bundle", str(folder / "steel"), "--name", "steel", "--version", "3", "--streams", "1")
    with server(*command) as (process, port, _log), opened(chromium, f"http://127.0.0.1:{port}", looked) as page:
        page.goto("/")
        choose(page, folder / "cells.png")
        process.kill()
        process.wait()
        page.set_input_files("#file", folder / "cells.png")
        page.get_by_text("The server does not answer; check that it is running and try again.").first.wait_for()
        assert page.locator("article h2").inner_text() == "steel version 3"
    assert looked.foreign == []


def test_with_keys_nothing_is_shown_before_the_key(locked: Any, folder: Path):
    bodies: list[str] = []
    locked.on("response", lambda answer: bodies.append(answer.text()))
    for path in ("/", "/docs"):
        locked.goto(path)
        locked.wait_for_selector("#key")
        assert locked.is_hidden("#content")
        assert locked.evaluate("document.activeElement.id") == "key"
    locked.wait_for_load_state("networkidle")
    assert len(bodies) > 6
    assert [body for body in bodies if "steel" in body or "crazing" in body or "/predict" in body] == []


def test_a_key_opens_both_pages_until_it_is_forgotten(locked: Any, folder: Path):
    locked.goto("/")
    for key, said in (("wrong", "This key is wrong"), ("for-feedback", "needs a key of role admin or predict")):
        locked.fill("#key", key)
        locked.keyboard.press("Enter")
        locked.get_by_text(said).wait_for()
    locked.fill("#key", f"  {KEY} ")
    locked.get_by_role("button", name="Open").click()
    locked.wait_for_selector("#content:not([hidden])")
    choose(locked, folder / "cells.png")
    assert locked.locator("#shapes rect").count() == 2
    assert "$KEY" in locked.text_content("#curl")
    assert KEY not in locked.content()
    assert locked.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
    assert KEY not in locked.url
    locked.get_by_role("link", name="API reference").click()
    locked.wait_for_selector(".opblock")
    assert execute(locked, "GET /models", "Status") == "200"
    locked.get_by_role("button", name="Forget key").click()
    locked.wait_for_selector("#key")
    locked.goto("/")
    locked.wait_for_selector("#key")
    assert locked.evaluate("sessionStorage.length") == 0


def execute(page: Any, route: str, tag: str) -> str:
    """Send a request from the API reference and return its status."""
    method, _, path = route.partition(" ")
    block = page.locator(f"[id^='operations-{tag}-'].opblock-{method.lower()}").filter(
        has=page.locator(f"[data-path='{path}']")
    )
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Execute").click()
    return block.locator(".live-responses-table .response-col_status").nth(1).inner_text().split()[0]


def test_the_reference_sends_requests(page: Any):
    page.goto("/docs")
    page.wait_for_selector(".opblock")
    headings = [text.split("\n")[0] for text in page.locator(".opblock-tag").all_inner_texts()]
    assert headings == ["Prediction", "Feedback", "Status", "Administration", "Open Inference Protocol"]
    assert execute(page, "GET /health", "Status") == "200"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 820])
def test_the_pages_are_accessible(
    chromium: Any,  # noqa: F811 - the fixture
    open_url: str,
    locked_url: str,
    looked: Looked,  # noqa: F811 - the fixture
    folder: Path,
    width: int,
    scheme: str,
):
    with opened(chromium, open_url, looked, width=width, color_scheme=scheme) as page:
        page.goto("/")
        choose(page, folder / "cells.png")
        page.get_by_text("Answer as JSON").click()
        page.get_by_text("From the command line").click()
        assert accessibility_problems(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.goto("/docs")
        page.wait_for_selector(".opblock")
        # What Swagger UI shows is its own; around it, all is ours.
        assert accessibility_problems(page, "header") == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    with opened(chromium, locked_url, looked, width=width, color_scheme=scheme) as page:
        page.goto("/")
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-problem")
        assert accessibility_problems(page) == []
    check(looked)


def test_the_form_needs_no_mouse(page: Any):
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "file":
            break
    assert page.evaluate("document.activeElement.id") == "file"
    assert page.locator("label[for=file]").evaluate("label => getComputedStyle(label).outlineStyle") == "solid"
    with page.expect_file_chooser():
        page.keyboard.press("Space")
