"""Kill the console during review: saved decisions are stored, and held ones are sent later.

Twenty kills take some minutes, and ten browsers need much memory: ``make console``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.console.conftest import Looked, opened, serving
from tests.console.reviewing import CASTING, FOUND, STEEL, fill, opened_review, shown, wait_for_image, wait_until_saved

pytestmark = pytest.mark.skipif(not os.environ.get("VISIONOPS_CONSOLE"), reason="make console: takes minutes")

KILLS = int(os.environ.get("VISIONOPS_CONSOLE_KILLS", "20"))
PATIENCE_MS = 180_000
CLASSES = CASTING.scheme.questions[0].class_names
# Every decision that the page shows as saved, at any time, over all reloads.
WATCH = """
const note = () => {
  const saved = new Set(JSON.parse(localStorage.getItem("test.saved") ?? "[]"));
  const before = saved.size;
  for (const one of document.querySelectorAll('.vr-recent [data-state="saved"]')) saved.add(one.dataset.item);
  if (saved.size > before) localStorage.setItem("test.saved", JSON.stringify([...saved]));
};
new MutationObserver(note).observe(document, { subtree: true, childList: true, attributes: true });
"""
IS_HELD = """item => Object.entries(localStorage).some(([name, text]) =>
  name.startsWith("visionops.review.decision") && text.includes(item))"""


def saved_by(page: Any) -> set[str]:
    return set(page.evaluate('JSON.parse(localStorage.getItem("test.saved") ?? "[]")'))


def held_by(page: Any) -> int:
    return page.evaluate(
        'Object.keys(localStorage).filter((name) => name.startsWith("visionops.review.decision")).length'
    )


def decide_for(page: Any, seconds: float, chance: random.Random, wanted: dict[str, str]) -> None:
    """Press keys while images are on the screen, at most three a second: the queue lasts for all kills."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = page.locator(".vr-canvas img:not(.vr-next)")
        ready = page.locator(".vr-decide .vr-main:not([disabled])")
        if not ready.count() or not before.count():
            page.wait_for_timeout(50)
            continue
        item, key = shown(page), chance.choice((1, 2))
        page.keyboard.press(str(key))
        is_held = page.evaluate(IS_HELD, item)
        if is_held:
            wanted[item] = CLASSES[key - 1]
        page.wait_for_timeout(300)


def test_every_decision_shown_as_saved_survives_kills(chromium: Any, places: tuple[Path, Path], tmp_path: Path):
    chance, wanted, looked = random.Random(18), {}, Looked()
    home, configs = tmp_path, places[1]
    seen_offline = 0
    with opened_review(home) as review, contextlib.ExitStack() as servers:
        fill(review, CASTING, 40 * KILLS)
        server = servers.enter_context(serving(home, configs))
        port = int(server.url.rpartition(":")[2])
        with opened(chromium, server.url, looked) as page:
            page.set_default_timeout(PATIENCE_MS)
            page.add_init_script(WATCH)
            page.goto("/review?use_case=casting")
            for number in range(KILLS):
                wait_for_image(page)
                page.evaluate("window.isOfKilled = true")
                killer = threading.Timer(chance.uniform(4, 9), server.process.kill)
                killer.start()
                decide_for(page, 10, chance, wanted)
                killer.join()
                server.process.wait()
                decide_for(page, 1, chance, wanted)
                if held_by(page):
                    page.get_by_role("status").get_by_text("offline:").wait_for()
                    seen_offline += 1
                assert all(review.store.decisions(item) for item in saved_by(page)), number
                server = servers.enter_context(serving(home, configs, port=port))
                # The page opens anew once it hears that the server does not know it: not while keys are pressed.
                page.wait_for_function(
                    "() => !window.isOfKilled && document.querySelector('[role=status]')?.innerText === 'all saved'"
                )
                assert all(review.store.decisions(item) for item in wanted), number
            problems = page.locator(".vr-problem").count()
        stored = {item: [one.label for one in review.store.decisions(item)] for item in wanted}
    assert problems == 0
    assert stored == {item: [{"class_name": name}] for item, name in wanted.items()}
    assert seen_offline > KILLS // 2  # in the others the kill came before anything was held
    sys.stdout.write(f"{KILLS} kills: {len(wanted)} decisions, all stored; offline shown {seen_offline} times\n")


def test_ten_browsers_share_a_queue(chromium: Any, places: tuple[Path, Path], tmp_path: Path):
    home, configs = tmp_path, places[1]
    with opened_review(home) as review, serving(home, configs) as server:
        fill(review, CASTING, 120)
        looked = Looked()
        contexts = [opened(chromium, server.url, looked) for _ in range(10)]
        pages = [context.__enter__() for context in contexts]
        for page in pages:
            page.set_default_timeout(PATIENCE_MS)
            page.goto("/review?use_case=casting")
        decided: list[str] = []
        for page in itertools.cycle(pages):
            if not any(one.locator(".vr-decide").count() for one in pages) and len(decided) >= 120:
                break
            if page.locator(".vr-decide .vr-main:not([disabled])").count():
                decided.append(shown(page))
                page.keyboard.press("Enter")
        for page in pages:
            wait_until_saved(page)
        assert len(decided) == len(set(decided)) == 120
        assert all(len(review.store.decisions(item)) == 1 for item in decided)
        for context in contexts:
            context.__exit__(None, None, None)
        sys.stdout.write("10 browsers: 120 items, each decided once\n")


def test_twenty_boxes_are_corrected_with_the_mouse(chromium: Any, places: tuple[Path, Path], tmp_path: Path):
    home, configs = tmp_path, places[1]
    chance, looked, wanted = random.Random(7), Looked(), {}
    with opened_review(home) as review, serving(home, configs) as server:
        fill(review, STEEL, 10)
        with opened(chromium, server.url, looked) as page:
            page.goto("/review?use_case=steel")
            for _ in range(10):
                wait_for_image(page)
                frame = page.locator(".vr-canvas svg").bounding_box()
                scale = frame["width"] / 320
                item, boxes = shown(page), []
                for box in FOUND:
                    page.mouse.click(frame["x"] + (box[0] + 15) * scale, frame["y"] + (box[1] + 15) * scale)
                    end = box[2] + chance.randint(-20, 40), box[3] + chance.randint(-20, 30)
                    page.mouse.move(frame["x"] + box[2] * scale, frame["y"] + box[3] * scale)
                    page.mouse.down()
                    page.mouse.move(frame["x"] + end[0] * scale, frame["y"] + end[1] * scale, steps=4)
                    page.mouse.up()
                    boxes.append([box[0], box[1], *end])
                page.keyboard.press("Enter")
                wanted[item] = boxes
            wait_until_saved(page)
        farthest = 0.0
        for item, boxes in wanted.items():
            (decision,) = review.store.decisions(item)
            assert decision.label is not None
            for one, box in zip(decision.label["boxes"], boxes, strict=True):
                farthest = max(farthest, *(abs(a - b) for a, b in zip(one["box"], box, strict=True)))
    assert len(wanted) == 10
    assert farthest <= 1
    assert looked == Looked()
    sys.stdout.write(f"20 boxes: each edge within {farthest:.2f} px\n")
