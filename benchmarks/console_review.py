"""Measure how long a reviewer waits between two images, from the key press to the next image on the screen.

python -m benchmarks.console_review [--images 100]

It runs a console with synthetic plates and Debian's Chromium, and presses one key per image as soon as the next image
is visible. The browser measures from the time stamp of the key to the frame that shows the next image.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.console.reviewing import CASTING, fill, opened_review, shown, wait_for_image, wait_until_saved

_TARGET_MS = 150.0
_MEASURE = """
window.waits = []; window.presses = [];
let pressed = null, before = null;
const visible = () => document.querySelector(".vr-canvas img:not(.vr-next)");
addEventListener("keydown", (event) => { pressed = event.timeStamp; before = visible()?.src; }, true);
const look = () => {
  const image = visible();
  if (pressed !== null && image && image.src !== before && image.complete && image.naturalWidth) {
    window.waits.push(performance.now() - pressed);
    pressed = null;
  }
  requestAnimationFrame(look);
};
look();
"""


def main() -> int:
    """Measure, check that every decision is stored, and print one line each.

    Returns:
        1 if a decision is missing or the 95th percentile is above the target.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=100)
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        home, configs = Path(folder) / "home", Path(folder) / "configs"
        configs.mkdir()
        with opened_review(home) as review:
            items = fill(review, CASTING, count + 1)  # one more, so that the last key also has a next image
            process, url = _serve(home, configs)
            try:
                wanted, waits = _review(url, count)
            finally:
                process.terminate()
                process.wait(30)
            stored = {item: review.store.decisions(item) for item in items}
    missing = [item for item, name in wanted.items() if [one.label for one in stored[item]] != [{"class_name": name}]]
    p95 = float(np.percentile(waits, 95))
    print(f"key to next image   p50 {statistics.median(waits):.0f} ms, p95 {p95:.0f} ms, most {max(waits):.0f} ms")
    print(f"decisions stored    {len(wanted) - len(missing)} of {count}")
    print(f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"target              p95 at most {_TARGET_MS:.0f} ms: {'met' if p95 <= _TARGET_MS else 'missed'}")
    return int(p95 > _TARGET_MS or bool(missing) or len(wanted) != count)


def _serve(home: Path, configs: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "deploy.console", "--configs", str(configs), "--port", "0"]
    environment = {**os.environ, "VISIONOPS_HOME": str(home)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    match = re.search(r"http://\S+", process.stdout.readline())
    if match is None:
        raise RuntimeError("the console has ended before it served")
    return process, match[0]


def _review(url: str, count: int) -> tuple[dict[str, str], list[float]]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    wanted: dict[str, str] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page: Any = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(f"{url}/review?use_case=casting")
        wait_for_image(page)
        page.evaluate(_MEASURE)
        for number in range(count):
            key = 1 + number % 2
            item = shown(page)
            page.keyboard.press(str(key))
            page.wait_for_function("count => window.waits.length > count", arg=number)
            wanted[item] = CASTING.scheme.questions[0].class_names[key - 1]
            wait_for_image(page)
        wait_until_saved(page)
        waits: list[float] = page.evaluate("window.waits")
        browser.close()
    return wanted, waits


if __name__ == "__main__":
    sys.exit(main())
