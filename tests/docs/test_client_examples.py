"""Run the Python examples of the client against a real server; only the address is replaced."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.docs.blocks import Block, blocks_in
from tests.helpers.bundles import encode, make_bundle, picture
from tests.serving.test_main import server

ADDRESS = "http://127.0.0.1:8000"
EXAMPLES = [
    pytest.param(block, id=block.place)
    for path in (ROOT / "README.md", ROOT / "docs" / "how-to" / "serving.md")
    for block in blocks_in(path)
    if block.language == "python" and "visionops.client" in block.text
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    bundle = make_bundle(folder / "bundle").folder
    log = ("--prediction-log", str(folder / "log"), "--prediction-log-images", "1")
    with server("--bundle", str(bundle), "--streams", "1", *log) as (_, port, _):
        yield f"http://127.0.0.1:{port}"


def test_readme_and_guide_have_examples():
    assert [example.values[0].place.partition(":")[0] for example in EXAMPLES] == ["README.md"] + 2 * ["serving.md"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example: Block, url: str, tmp_path: Path):
    part = encode(picture([("red", 2, 1)]))  # a PNG despite the suffix: the server detects the type from the content
    for name in ("part.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(part)
    assert ADDRESS in example.text
    program = example.text.replace(ADDRESS, url)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "draw_answer" in program:
        assert done.stdout.startswith("red ")
        assert "(64.0, 32.0, 96.0, 64.0)" in done.stdout
        with Image.open(tmp_path / "drawn.png") as drawn, Image.open(tmp_path / "part.jpg") as sent:
            assert drawn.size == sent.size
            assert drawn.tobytes() != sent.tobytes()
    else:
        assert done.stdout == "[1, 1]\n"
