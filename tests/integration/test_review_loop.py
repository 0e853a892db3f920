"""Test the whole loop on castings: traffic in changed light, review, policy, training, gate, and the new champion.

PostgreSQL, the S3 store, the endpoint and the control service are real; the labels come from the data set's folders.
Takes minutes: make review-loop.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

from deploy.http.keys import Client, KeyRole, make_key
from tests.conftest import ROOT
from tests.helpers.postgres import PASSWORD, postgres_server
from tests.helpers.programs import free_port, started, until
from tests.helpers.s3 import ENVIRONMENT, seaweed_server

CASTING = ROOT.parent / "shared" / "data" / "casting"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not CASTING.is_dir(), reason="../shared/data is absent"),
    pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="takes minutes: make review-loop"),
]

NAME = "impellers"
CLASSES = {"ok_front": "ok", "def_front": "defective"}
LIGHT = 0.45
KNOWN = 30
"""Images per class for training and testing the first model."""


def write_config(folder: Path) -> Path:
    """Write configs/casting.yaml with a part of its images and with review, the control service's only input."""
    for name in CLASSES:
        (folder / "data" / name).mkdir(parents=True)
        for path in sorted((CASTING / "train" / name).iterdir())[:KNOWN]:
            (folder / "data" / name / path.name).symlink_to(path)
    found = yaml.safe_load((ROOT / "configs" / "casting.yaml").read_text())
    found |= {"name": NAME, "serving": {"port": 0, "prediction_log_images": 1.0}}
    found["data"] |= {"source": {"kind": "folder", "path": str(folder / "data")}, "additions": {"kind": "review"}}
    found["data"]["split"] = {"val": 0.2, "test": 0.2}
    found["gate"] |= {"minimum": 0.6}
    policy = {"new_labels": 10, "min_new_labels": 10, "cooldown_hours": 0}
    found["monitoring"] = {"policy": policy}
    (folder / "configs").mkdir()
    path = folder / "configs" / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(found))
    return path


def darker(path: Path) -> bytes:
    stream = io.BytesIO()
    Image.open(path).convert("RGB").point(lambda level: level * LIGHT).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def steady_load(url: str, image: bytes) -> Iterator[Counter[str]]:
    """Send one request after another while the block runs; count answers by status and version, outside of the log."""
    answers: Counter[str] = Counter()
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while not ended.wait(0.2):
                try:
                    headers = {"X-Request-ID": "drill-00000000-1", "Content-Type": "image/png"}
                    answer = client.post(f"{url}/predict", content=image, headers=headers)
                    version = answer.json()["model"]["version"] if answer.is_success else ""
                    answers[f"{answer.status_code} {version}".strip()] += 1
                except httpx.HTTPError as error:
                    answers[type(error).__name__] += 1

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join(90)


def test_two_hundred_images_in_changed_light_become_a_better_champion(machine, tmp_path: Path):
    config = write_config(tmp_path)
    command = machine.folder / "visionops.py"
    command.write_text("from launch.cli import app\n\napp()\n")
    with postgres_server() as database, seaweed_server() as s3:
        import boto3

        secrets = {"AWS_ENDPOINT_URL": s3, "PGPASSWORD": PASSWORD, **ENVIRONMENT}
        boto3.client(
            "s3", endpoint_url=s3, aws_access_key_id="me", aws_secret_access_key="mine", region_name="us-east-1"
        ).create_bucket(Bucket="visionops")
        places = {"VISIONOPS_REVIEW_DATABASE": database.uri, "VISIONOPS_REVIEW_IMAGES": "s3://visionops/review"}
        variables = secrets | places

        def call(program: str | Path, *arguments: str) -> str:
            done = machine.run(*arguments, program=program, env=variables)
            assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
            sys.stdout.write(done.stdout)
            return str(done.stdout)

        def summary_of(*arguments: str) -> dict[str, Any]:
            path = machine.folder / "summary.json"
            call("run.py", "--config", str(config), "--summary", str(path), *arguments)
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found

        first = summary_of()
        url = first["endpoint"]["url"]
        assert first["model"]["version"] == "1"

        images = sorted(CASTING.glob("*/*/*.jpeg"))
        assert len(images) == 200
        truth = {}
        with httpx.Client(timeout=60) as client:
            for number, path in enumerate(images):
                headers = {"X-Request-ID": f"line-{number}", "Content-Type": "image/png"}
                client.post(f"{url}/predict", content=darker(path), headers=headers).raise_for_status()
                truth[f"line-{number}"] = CLASSES[path.parent.name]
        home = machine.folder / "home"
        until(lambda: len(list(home.rglob("*-line-*.png"))) == len(images))
        said = call(command, "review", "intake", "--config", str(config))
        different = len({darker(path) for path in images})  # 27 images are in both folders of the data set
        assert f"traffic   {different} new" in said
        call(command, "review", "prioritize", "--config", str(config))

        key, line = make_key(Client("anna", KeyRole.REVIEW))
        (tmp_path / "keys").write_text(line)
        port = free_port()
        control = (sys.executable, "-m", "deploy.control", "--configs", str(config.parent), "--port", str(port))
        environment = machine.env | variables
        wrong = 0
        with (
            started(tmp_path, port, *control, "--keys", str(tmp_path / "keys"), ready="/ready", env=environment),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}, timeout=60) as reviewer,
        ):
            while item := reviewer.post(f"/review/{NAME}/claim").raise_for_status().json()["item"]:
                right = truth[item["reference"]]
                is_right = item["predicted"]["answer"]["classification"]["class_name"] == right
                wrong += not is_right
                answer = {"verdict": "confirm"} if is_right else {"verdict": "correct", "label": {"class_name": right}}
                decided = reviewer.post(f"/review/items/{item['id']}/decide", json=answer)
                assert decided.json()["state"] == "decided", decided.text
            stats = reviewer.get(f"/review/{NAME}/stats").json()
            assert (stats["states"]["decided"], stats["verdicts"]["correct"]) == (different, wrong)
            assert stats["reviewers"] == {"anna": different}

        with steady_load(url, darker(images[0])) as answers:
            seen = summary_of("--pipeline", "monitoring")
            assert seen["retraining"]["action"] == "retrain", seen["retraining"]
            trained = seen["training"]
            assert (trained["gate"]["promote"], trained["model"]["version"]) == (True, "2"), trained["gate"]
            until(lambda: answers["200 2"] > 3)
        assert set(answers) == {"200 1", "200 2"}, answers
        assert trained["review"]["number"] == 1
        assert trained["review"]["models"] == {f"{NAME} 1": trained["review"]["images"]}

        history = call(command, "review", "history", item_of(variables, "line-7"))
        assert "by anna" in history
        assert "in data version 1" in history
        assert f"{NAME} version 2 (champion) trained on data version 1" in history
        with reviewing(variables) as review:
            for item in all_items(review):
                traced = review.store.trace(item.id)
                assert traced.arrivals[0].submission.reference in truth
                assert traced.decisions[0][0].reviewer == "anna"
        sys.stdout.write(f"{len(images)} images, {different} different, {wrong} corrected; answers {dict(answers)}\n")
        sys.stdout.write(f"gate: {trained['gate']['reason']}\n")


@contextmanager
def reviewing(variables: dict[str, str]) -> Iterator[Any]:
    from visionops.review_store.opening import open_review

    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with open_review() as review:
            yield review


def all_items(review: Any) -> list[Any]:
    from visionops.review.ports import ItemFilter

    return list(review.store.items(ItemFilter(NAME, limit=1000)))


def item_of(variables: dict[str, str], reference: str) -> str:
    from visionops.review.ports import ItemFilter

    with reviewing(variables) as review:
        return str(review.store.items(ItemFilter(NAME, reference=reference))[0].id)
