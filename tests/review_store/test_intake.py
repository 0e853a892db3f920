"""Items from a server's logs: each record once, on both databases, and nothing is skipped silently."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.bundles import CLASSES, encode, make_bundle, picture
from tests.helpers.review import STEEL, png
from tests.monitoring.test_log import record as log_record
from tests.monitoring.test_log import until
from tests.serving.conftest import TestClient, client_of, settings_of
from tests.serving.test_switching import PNG
from visionops.monitoring.kinds import FEEDBACK
from visionops.monitoring.log import PredictionLog
from visionops.review.errors import Unavailable
from visionops.review.intake import Intake, IntakeResult
from visionops.review.items import Origin, UseCase
from visionops.review.ports import ItemFilter
from visionops.review.selection.random_share import is_drawn
from visionops.review.server_logs import ServerLogs
from visionops.review.service import Review
from visionops.review.settings import ReviewConfig
from visionops.tasks.labelling import LabelScheme

CELLS = UseCase("cells", "detection", LabelScheme(class_names=tuple(CLASSES)))
BOX = {"boxes": [{"class_name": "red", "box": [64.0, 32.0, 96.0, 64.0]}]}
LATER = timedelta(minutes=5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "one").folder


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the folder of the prediction log; it does not exist yet."""
    return tmp_path / "log"


@pytest.fixture
def cells(review: Review) -> Review:
    review.put_use_case(CELLS)
    return review


def server(bundle: Path, log: Path, **changes: object):
    return client_of(settings_of(bundle, prediction_log=log, **({"prediction_log_images": 1.0} | changes)))


def part(number: int) -> bytes:
    """Return a different image for each number, with one red cell."""
    stream = io.BytesIO(encode(picture([("red", 2, 1)])))
    image = Image.open(stream)
    image.putpixel((0, 0), (number & 255, number >> 8 & 255, 7))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def predict(client: TestClient, number: int, request_id: str = "") -> None:
    headers = PNG | {"X-Request-ID": request_id or f"part-{number}"}
    assert client.post("/predict", content=part(number), headers=headers).status_code == 200


def take(review: Review, logs: ServerLogs, now: datetime | None = None, share: float = 0.1) -> IntakeResult:
    return Intake(review, "cells", logs, ReviewConfig(random_share=share)).run(now or datetime.now(UTC) + LATER)


def images_written(log: Path, count: int) -> None:
    until(lambda: len(list((log / "images").glob("*/*.png"))) == count)


def test_sampled_images_and_feedback_become_items_once(cells: Review, bundle: Path, log: Path):
    logs = ServerLogs(log)
    with server(bundle, log) as client:
        for number in range(4):
            predict(client, number)
        predict(client, 9, "drill-0123abcd-1")
        said = {"request_id": "part-1", "label": BOX, "comment": "too large"}
        answer = client.post("/feedback", json=said).json()
        other = client.post("/feedback", files={"file": ("new.png", part(50))}, data={"comment": "missed"}).json()
        images_written(log, 5)
        first = take(cells, logs, share=0)  # while the segments are open
        assert (first.new, first.known, first.feedback, dict(first.skipped)) == (4, 0, 2, {"drill": 1})
        assert take(cells, logs, share=0) == IntakeResult(0, 0, 0, {}, ())
        predict(client, 4)
        images_written(log, 6)
        assert take(cells, logs).new == 1
    again = take(cells, logs)  # the segments are closed now
    assert (again.new, again.known, again.feedback) == (0, 0, 0)

    arrivals = cells.store.arrivals(answer["item"])
    assert [one.origin for one in arrivals] == [Origin.TRAFFIC, Origin.TRAFFIC]
    assert [one.reference for one in arrivals] == ["part-1", "part-1"]
    traffic, feedback = arrivals
    assert traffic.predicted == feedback.predicted
    assert (traffic.predicted.model, traffic.predicted.version) == ("cells", "1")
    assert traffic.predicted.answer["detections"][0]["box"] == BOX["boxes"][0]["box"]
    assert (feedback.proposed, feedback.comment) == (BOX, "too large")
    assert [one.kind for one in feedback.reasons] == ["feedback"]
    (upload,) = cells.store.arrivals(other["item"])
    assert (upload.origin, upload.name, upload.comment) == (Origin.UPLOAD, "new.png", "missed")
    # A reported image comes first, although it was in the queue before.
    from tests.helpers.review import ANNA

    heads = {cells.claim_next("cells", ANNA, key=f"k{n}", now=datetime.now(UTC)).id for n in range(2)}
    assert heads == {answer["item"], other["item"]}
    # The server may remove records that were taken.
    assert [path.read_text() for path in (log / "feedback").glob("*.consumed")] == ["cells\n"]


def test_a_share_is_drawn_at_random_as_the_queue_draws_it(cells: Review, bundle: Path, log: Path):
    with server(bundle, log) as client:
        for number in range(24):
            predict(client, number)
        images_written(log, 24)
    assert take(cells, ServerLogs(log), share=0.3).new == 24
    kinds = {item.id: [one.kind for one in item.reasons] for item in cells.store.items(ItemFilter("cells", limit=100))}
    drawn = {item for item in kinds if is_drawn(item, 0.3)}
    assert {item for item, found in kinds.items() if found == ["random"]} == drawn
    assert {item for item, found in kinds.items() if found == []} == kinds.keys() - drawn
    assert 0 < len(drawn) < 24


def test_what_no_item_comes_of_is_counted(cells: Review, bundle: Path, log: Path):
    with server(bundle, log) as client:
        for number in range(3):
            predict(client, number)
        images_written(log, 3)
    with server(bundle, log, prediction_log_images=0.0) as client:
        predict(client, 7)
    batch = PredictionLog(log)
    record = log_record() | {"time": datetime.now(UTC)}
    assert batch.append(record | {"model": "cells", "image": "/data/lot/1.png", "request_id": "lot/1"})
    assert batch.append(record | {"model": "cells", "image": "../secret.png", "request_id": "x"})
    assert batch.append(record | {"model": "steel", "image": "images/a.png", "request_id": "y"})
    batch.close()
    (log.parent / "secret.png").write_bytes(png(1))
    next((log / "images").glob("*/*-part-2.png")).unlink()
    taken = take(cells, ServerLogs(log))
    assert (taken.new, dict(taken.skipped)) == (2, {"batch": 1, "image gone": 2, "not sampled": 1})


def test_an_image_that_is_being_written_is_waited_for(cells: Review, bundle: Path, log: Path):
    with server(bundle, log) as client:
        predict(client, 0)
        predict(client, 1)
        images_written(log, 2)
    late = next((log / "images").glob("*/*-part-0.png"))
    data = late.read_bytes()
    late.unlink()
    assert take(cells, ServerLogs(log), now=datetime.now(UTC)) == IntakeResult(0, 0, 0, {}, ())
    late.write_bytes(data)
    assert take(cells, ServerLogs(log), now=datetime.now(UTC)).new == 2


def test_a_label_that_review_does_not_know_is_kept_in_words(review: Review, bundle: Path, log: Path):
    review.put_use_case(UseCase("cells", "detection", LabelScheme(class_names=("green",))))
    with server(bundle, log) as client:
        item = client.post("/feedback", files={"file": part(1)}, data={"label": '{"boxes": []}'}).json()["item"]
        said = {"label": '{"boxes": [{"class_name": "red", "box": [1, 2, 30, 40]}]}', "comment": "new here"}
        other = client.post("/feedback", files={"file": part(2)}, data=said).json()["item"]
    assert take(review, ServerLogs(log)).feedback == 2
    assert review.store.arrivals(item)[0].proposed == {"boxes": []}
    (kept,) = review.store.arrivals(other)
    assert kept.proposed is None
    assert kept.comment.startswith('new here\nlabel: {"boxes": [{"')


def test_an_intake_that_dies_between_items_and_cursor_adds_nothing_twice(
    cells: Review, bundle: Path, log: Path, monkeypatch: pytest.MonkeyPatch
):
    with server(bundle, log) as client:
        for number in range(5):
            predict(client, number)
        client.post("/feedback", json={"request_id": "part-3"})
        images_written(log, 5)
    moves = 0

    def move(*_: object) -> None:
        nonlocal moves
        moves += 1
        raise Unavailable("the database is gone")

    with monkeypatch.context() as patch:
        patch.setattr(cells.store, "move_cursor", move)
        with pytest.raises(Unavailable):
            take(cells, ServerLogs(log))
    assert moves == 1
    # Different reasons than the first time: the key still identifies the same record.
    second = take(cells, ServerLogs(log), share=1)
    assert (second.new + second.known, second.feedback, second.refused) == (5, 1, ())
    assert len(cells.store.items(ItemFilter("cells"))) == 5
    assert sum(len(cells.store.arrivals(item.id)) for item in cells.store.items(ItemFilter("cells"))) == 6


@pytest.mark.parametrize("kind", ["bucket", "postgres"])
def test_sampled_images_and_feedback_reach_the_store(
    request: pytest.FixtureRequest,
    opened: Callable[[str, str], Review],
    bundle: Path,
    log: Path,
    folder: str,
    kind: str,
):
    sqlite = request.getfixturevalue("sqlite_database")
    store = request.getfixturevalue("postgres_database") if kind == "postgres" else request.getfixturevalue("bucket")
    review = opened(sqlite, folder)
    review.put_use_case(CELLS)
    with server(bundle, log, prediction_log_store=store) as client:
        predict(client, 1)
        predict(client, 3)
        images_written(log, 2)
        next((log / "images").glob("*/*-part-3.png")).unlink()
        one = client.post("/feedback", json={"request_id": "part-1", "label": BOX, "comment": "a 'b' \"c\"\\ ü\n d"})
        two = client.post("/feedback", files={"file": part(2)})
        assert (one.status_code, two.status_code) == (202, 202)
    assert len(ServerLogs(store).feedback.stems()) == 1
    # Another machine, with only the store.
    taken = take(review, ServerLogs(store))
    assert (taken.new, taken.feedback, dict(taken.skipped)) == (1, 2, {"image gone": 1})
    traffic, arrival = review.store.arrivals(one.json()["item"])
    assert (traffic.reference, traffic.predicted) == ("part-1", arrival.predicted)
    assert (arrival.proposed, arrival.comment) == (BOX, "a 'b' \"c\"\\ ü\n d")
    assert review.images.read(one.json()["sha256"]) == part(1)
    assert review.images.read(two.json()["sha256"]) == part(2)
    assert take(review, ServerLogs(store)) == IntakeResult(0, 0, 0, {}, ())
    # The machine that also has the folder uses the same names of segments.
    assert take(review, ServerLogs(log, store)).feedback == 0


def test_the_use_case_must_be_known(review: Review, log: Path):
    from visionops.review.errors import NotFound

    with pytest.raises(NotFound, match="use case cells: is not in review"):
        take(review, ServerLogs(log))
    assert STEEL.name != "cells"
    assert FEEDBACK.folder == "feedback"
