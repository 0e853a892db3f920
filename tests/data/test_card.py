"""The validation card: complete, harmless, and limited in size."""

from __future__ import annotations

import html.parser
import re

import pytest

from tests.helpers import images
from tests.helpers.images import dataset_of
from visionops.data.dataset import Dataset
from visionops.data.findings import Code, Finding
from visionops.data.settings import ValidationPolicy
from visionops.data.validation.judging import validate
from visionops.data.validation.titles import TITLES

LENIENT = ValidationPolicy(min_images=1, min_instances=0)


class _Page(html.parser.HTMLParser):
    """Collects tags and text; checks that every opened tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img"}:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def count(self, tag: str) -> int:
        return sum(1 for name, _ in self.tags if name == tag)


def page_of(dataset: Dataset, policy: ValidationPolicy = LENIENT) -> _Page:
    return _Page(validate(dataset, policy).card)


@pytest.fixture(scope="module")
def broken_page(tmp_path_factory) -> _Page:
    files = {name: make() for name, (_, make) in {**images.BROKEN, **images.PECULIAR}.items()}
    files |= {f"{seed}.jpg": images.jpeg(seed) for seed in (40, 41)} | {"copy.jpg": images.jpeg(40)}
    boxes = [("40.jpg", 0, (-9, 1, 30, 30)), ("41.jpg", 1, (5, 5, 20, 40)), ("41.jpg", 1, (7, 7, 7, 9))]
    splits = {"40.jpg": "train", "41.jpg": "val", "copy.jpg": "val"}
    return page_of(dataset_of(tmp_path_factory.mktemp("broken"), files, boxes=boxes, splits=splits))


def test_nothing_is_loaded_from_outside_and_nothing_runs(broken_page):
    for tag, attributes in broken_page.tags:
        assert tag not in {"script", "link", "iframe", "object"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")


def test_every_kind_of_finding_is_shown_with_its_severity(broken_page):
    for code, _ in {**images.BROKEN, **images.PECULIAR}.values():
        if code:
            assert TITLES[Code(code)] in broken_page.text
    assert "Stopped: " in broken_page.text
    assert "Same file in two splits" in broken_page.text
    assert broken_page.count("img") > 10
    assert not any("bomb.png" in (a.get("alt") or "") for _, a in broken_page.tags)


def test_copies_are_shown_side_by_side(broken_page):
    pairs = [attributes for tag, attributes in broken_page.tags if attributes.get("class") == "pair"]
    assert len(pairs) == 1


def test_every_code_has_a_title():
    assert set(TITLES) == set(Code)


def test_hostile_names_are_escaped(tmp_path):
    name = "<script>alert(1)</script>.jpg"
    dataset = dataset_of(
        tmp_path, {"a.jpg": images.palette_png()}, boxes=[("a.jpg", 0, (1, 1, 9, 9))], class_names=("<em>&",)
    ).replace_column("key", [name])
    dataset = Dataset("<img src=x onerror=alert(1)>", dataset.images, dataset.layers, ("<em>note</em>",))
    page = page_of(dataset)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "em"})
    assert name in page.text
    assert "<em>note</em>" in page.text
    assert all(attributes["src"].startswith("data:image/jpeg") for tag, attributes in page.tags if tag == "img")


def test_a_name_that_is_not_unicode_can_be_saved(tmp_path):
    dataset = dataset_of(tmp_path, {"a.jpg": b""}).replace_column("key", ["caf\\udce9.jpg"])
    report = validate(dataset, LENIENT)
    report.save(tmp_path / "report")
    assert "caf" in (tmp_path / "report" / "card.html").read_text()


def test_a_clean_data_set_gets_a_good_verdict(tmp_path):
    files = {f"{seed}.jpg": images.jpeg(seed) for seed in range(3)}
    page = page_of(dataset_of(tmp_path, files, boxes=[("1.jpg", 1, (5, 5, 20, 40))]))
    assert "No finding" in page.text
    assert "Nothing was found." in page.text
    assert "Training does not start" not in page.text
    assert "not split yet" in page.text


def test_an_empty_data_set_has_a_card():
    assert "Too few images" in page_of(Dataset.from_columns("parts", [], {"key": []}, {})).text


def test_large_data_sets_keep_the_card_small(tmp_path):
    import numpy as np

    noise = np.random.default_rng(0)
    image = images.Image.fromarray(noise.integers(0, 256, (200, 200, 3), dtype=np.uint8))
    shared = images.encode(image, "JPEG", quality=95)
    (tmp_path / "a.jpg").write_bytes(shared)
    count = 400
    names = [f"class {n} " + "long name " * 20 for n in range(300)]
    columns = {
        "key": [f"{'folder/' * 40}{n}.jpg" for n in range(count)],
        "path": [str(tmp_path / "a.jpg")] * count,
        "sha256": [f"{n // 2:064x}" for n in range(count)],
        "split": ["train", "test"] * (count // 2),
    }
    boxes = {
        "image": [n % count for n in range(3000)],
        "class_id": [n % 300 for n in range(3000)],
        "x1": [-1.0 - n for n in range(3000)],
        "y1": [1.0] * 3000,
        "x2": [50.0] * 3000,
        "y2": [50.0] * 3000,
    }
    everything = [
        Finding.of(code, f"place {n}", "message " * 100, (f"{'folder/' * 40}{n}.jpg",))
        for code in Code
        for n in range(20)
    ]
    dataset = Dataset.from_columns("parts", names, columns, boxes, findings=everything, notes=["note"] * 100)
    card = validate(dataset, LENIENT).card
    assert len(card.encode()) < 3_000_000
    assert "and 220 rarer classes" in card
    assert len(re.findall("<img", card)) > 50
