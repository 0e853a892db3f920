from __future__ import annotations

import csv
import math
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.bundles import CELL, encode, filled, make_bundle, make_label_bundle, picture
from tests.helpers.s3 import s3_bucket, s3_server
from visionops.batch.images import batch_places, list_images
from visionops.batch.inference import ask_images, batch_predictor, predict_batch
from visionops.batch.report import BatchSummary, render_batch_html
from visionops.batch.tables import write_tables
from visionops.config import Config
from visionops.data.dataset import Dataset
from visionops.data.hashing import hash_images
from visionops.data.output import open_output
from visionops.errors import DataError
from visionops.inference.bundle import Head, Thresholds
from visionops.inference.predictor import Predictor
from visionops.monitoring.log import PredictionLog
from visionops.monitoring.log_reading import read_log
from visionops.monitoring.record import RECORD
from visionops.monitoring.reference import records_of

RED, GREEN = (255, 0, 0), (0, 255, 0)
SURE = math.exp(8) / (math.exp(8) + 2)  # softmax of (8, 0, 0), the logits of a pure colour


@pytest.fixture
def config():
    return Config.model_validate({"name": "toy", "data": {"source": {"kind": "folder", "path": "."}}})


@pytest.fixture
def lots(tmp_path):
    """Write two lots: red and green; green, a broken image and the red one again."""
    for name, colour in {"s1/a.png": RED, "s1/b.png": GREEN, "s2/a.png": GREEN, "s2/deep/c.png": RED}.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(filled(colour, width=40 if name == "s1/a.png" else 32)))
    shutil.copy(tmp_path / "in" / "s1/a.png", tmp_path / "in" / "s2/again.png")
    (tmp_path / "in" / "s2/broken.png").write_bytes(b"no image")
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    return tmp_path / "in"


def listed(folder):
    return hash_images(list_images(folder, "toy"))


def rows(summary, name="predictions"):
    (path,) = [file for file in summary.files if file.endswith(f"{name}.parquet")]
    return pq.read_table(path).to_pylist()


def test_labels_have_one_row_per_image_and_one_column_per_probability(lots, tmp_path, config):
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle", name="toy"), config.serving)
    summary = predict_batch(predictor, listed(lots), open_output(str(tmp_path / "out")), "7")
    table = {row["key"]: row for row in rows(summary)}
    assert list(table) == ["s1/a.png", "s1/b.png", "s2/a.png", "s2/again.png", "s2/broken.png", "s2/deep/c.png"]
    first = table["s1/a.png"]
    assert (first["width"], first["height"], first["model"], first["version"], first["error"]) == (
        40,
        32,
        "toy",
        "7",
        "",
    )
    assert (first["class"], first["class_confidence"]) == ("red", pytest.approx(SURE, abs=1e-5))
    shares = [first[f"class_p_{name}"] for name in ("red", "green", "blue")]
    assert shares == pytest.approx([SURE, (1 - SURE) / 2, (1 - SURE) / 2], abs=1e-5)
    broken = table["s2/broken.png"]
    assert broken["error"].startswith("s2/broken.png: ")
    assert broken["class"] is broken["class_confidence"] is broken["class_p_red"] is broken["width"] is None
    assert (summary.images, summary.predicted, summary.failed) == (6, 6, 1)
    assert {n: (lot.images, lot.failed, lot.shares) for n, lot in summary.lots.items()} == {
        "s1": (2, 0, {"red": 0.5, "green": 0.5}),
        "s2": (4, 1, {"red": pytest.approx(2 / 3), "green": pytest.approx(1 / 3)}),
    }
    assert summary.lots["s2"].confidence == pytest.approx(SURE, abs=1e-5)
    assert BatchSummary.model_validate_json((tmp_path / "out" / "summary.json").read_text()) == summary


def test_csv_and_parquet_are_equal(lots, tmp_path, config):
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle"), config.serving)
    summary = predict_batch(predictor, listed(lots), open_output(str(tmp_path / "out")), "1")
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    for row, text in zip(rows(summary), read, strict=True):
        assert list(row) == list(text)
        assert (row["key"], row["class"] or "", row["error"]) == (text["key"], text["class"], text["error"])
        assert text["class_p_red"] == "" or float(text["class_p_red"]) == pytest.approx(row["class_p_red"], abs=1e-6)


def test_attributes_have_columns_of_their_own_even_with_names_of_ours(lots, tmp_path, config):
    heads = [Head(name="width", class_names=("narrow", "wide")), Head(name="beard", class_names=("no", "yes"))]
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle", heads=heads), config.serving)
    summary = predict_batch(predictor, listed(lots), open_output(str(tmp_path / "out")), "1")
    first, second = rows(summary)[:2]
    # The first class of head number j looks at channel j of red, green and blue.
    assert (first["width"], first["width_"], first["beard"]) == (40, "narrow", "no")
    assert (second["width_"], second["beard"], second["beard_p_no"] > 0.99) == ("wide", "no", True)
    assert summary.lots["s1"].shares == {"beard=no": 1.0, "width=narrow": 0.5, "width=wide": 0.5}


def test_a_detector_has_a_second_table_with_one_row_per_box(tmp_path, config):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "two.png").write_bytes(encode(picture([("red", 0, 1), ("blue", 2, 2)])))
    (folder / "none.png").write_bytes(encode(picture()))
    summary = predict_batch(
        batch_predictor(make_bundle(tmp_path / "bundle"), config.serving),
        listed(folder),
        open_output(str(tmp_path / "out")),
        "3",
    )
    assert {row["key"]: row["detections"] for row in rows(summary)} == {"none.png": 0, "two.png": 2}
    boxes = {row["class_name"]: row for row in rows(summary, "detections")}
    assert [boxes["red"][side] for side in ("x1", "y1", "x2", "y2")] == [0, CELL, CELL, 2 * CELL]
    assert (boxes["blue"]["key"], boxes["blue"]["class_id"], boxes["blue"]["confidence"]) == ("two.png", 2, 1.0)
    assert summary.lots["."].shares == {"red": 0.5, "blue": 0.5}


def test_it_answers_as_the_server_does(lots, tmp_path, config):
    bundle = make_label_bundle(tmp_path / "bundle")
    summary = predict_batch(
        batch_predictor(bundle, config.serving), listed(lots), open_output(str(tmp_path / "out")), "1"
    )
    served = Predictor(bundle, config.serving.engine)
    for row in rows(summary):
        if not row["error"]:
            answer = served.predict((lots / row["key"]).read_bytes()).to_dict()["classification"]
            assert (row["class"], row["class_confidence"]) == (
                answer["class_name"],
                pytest.approx(answer["confidence"]),
            )


def test_images_predicted_by_the_same_model_are_not_predicted_again(lots, tmp_path, config):
    bundle = make_label_bundle(tmp_path / "bundle")
    first = rows(
        predict_batch(batch_predictor(bundle, config.serving), listed(lots), open_output(str(tmp_path / "out")), "1")
    )
    (lots / "s2" / "new.png").write_bytes(encode(filled((0, 0, 255))))
    second = predict_batch(
        batch_predictor(bundle, config.serving), listed(lots), open_output(str(tmp_path / "out")), "1"
    )
    assert (second.images, second.predicted) == (7, 1)
    assert [row for row in rows(second) if row["key"] != "s2/new.png"] == first
    other = batch_predictor(make_label_bundle(tmp_path / "other", gain=7.0), config.serving)
    assert predict_batch(other, listed(lots), open_output(str(tmp_path / "out")), "2").predicted == 7


class Killed(BaseException):
    pass


def dying_at(image: int):
    def die(done: int, _: str) -> None:
        if done == image:
            raise Killed

    return die


def test_a_killed_run_is_resumed(tmp_path, config):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(150):
        Image.fromarray(np.full((32, 32, 3), i, np.uint8)).save(folder / f"{i:03d}.png")
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle"), config.serving)

    with pytest.raises(Killed):
        predict_batch(predictor, listed(folder), open_output(str(tmp_path / "out")), "1", dying_at(100))
    assert not (tmp_path / "out" / "predictions.parquet").exists()
    reported: list[int] = []
    summary = predict_batch(
        predictor, listed(folder), open_output(str(tmp_path / "out")), "1", lambda done, _: reported.append(done)
    )
    assert reported[0] == 64  # the segment that was written
    assert reported[-1] == summary.images == 150
    assert summary.predicted == 86
    whole = predict_batch(predictor, listed(folder), open_output(str(tmp_path / "other")), "1")
    assert rows(summary) == rows(whole)


@pytest.fixture
def many(tmp_path):
    """Write sixty images, a copy of one, and two broken files with the same bytes."""
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i:02d}.png").write_bytes(encode(filled((i, 255 - i, 4 * i))))
    shutil.copy(folder / "07.png", folder / "copy.png")
    for name in ("broken.png", "x-broken.png"):
        (folder / name).write_bytes(b"no image")
    return folder


def tables(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in {".parquet", ".csv"}}


@pytest.mark.parametrize("is_hashed", [True, False])
def test_twenty_shards_give_the_bytes_of_one(many, tmp_path, config, is_hashed):
    bundle = make_bundle(tmp_path / "bundle")
    predictor = batch_predictor(bundle, config.serving)
    images = hash_images(list_images(many, "toy")) if is_hashed else list_images(many, "toy")
    one, output = open_output(str(tmp_path / "one")), open_output(str(tmp_path / "twenty"))
    whole = predict_batch(predictor, images, one, "3")
    parts = [ask_images(predictor, images.shard(n, 20), output, "3") for n in reversed(range(20))]
    assert max(part.rows.num_rows for part in parts) < 12
    summary = write_tables(parts, bundle.card, "3", output)
    assert tables(tmp_path / "twenty") == tables(tmp_path / "one")
    assert set(tables(tmp_path / "one")) == {
        f"{t}.{f}" for t in ("predictions", "detections") for f in ("csv", "parquet")
    }
    assert (summary.images, summary.failed, summary.lots) == (63, 2, whole.lots)
    assert {row["key"]: row["error"].partition(": ")[0] for row in rows(summary) if row["error"]} == {
        "broken.png": "broken.png",
        "x-broken.png": "x-broken.png",
    }


def test_killed_shards_only_predict_missing_images_again(many, tmp_path, config):
    bundle = make_label_bundle(tmp_path / "bundle")
    predictor, images = batch_predictor(bundle, config.serving), list_images(many, "toy")
    output = open_output(str(tmp_path / "twenty"))
    done = [ask_images(predictor, images.shard(n, 20), output, "1") for n in range(9)]

    with pytest.raises(Killed):
        ask_images(predictor, images.shard(9, 20), output, "1", dying_at(1))
    again = [ask_images(predictor, images.shard(n, 20), output, "1") for n in range(20)]
    assert [part.predicted for part in again[:9]] == [0] * 9
    # The two files with the same bytes are predicted once, or twice in one shard.
    assert sum(part.predicted for part in done + again) in {61, 62, 63}
    write_tables(again, bundle.card, "1", output)
    predict_batch(predictor, images, open_output(str(tmp_path / "one")), "1")
    assert tables(tmp_path / "twenty") == tables(tmp_path / "one")


def test_shards_of_two_models_are_not_joined(lots, tmp_path, config):
    output, images = open_output(str(tmp_path / "out")), list_images(lots, "toy")
    bundles = [make_label_bundle(tmp_path / f"bundle-{gain}", gain=gain) for gain in (7.0, 8.0)]
    parts = [
        ask_images(batch_predictor(b, config.serving), images.shard(n, 2), output, "1") for n, b in enumerate(bundles)
    ]
    with pytest.raises(DataError, match="were answered by different models; run again"):
        write_tables(parts, bundles[0].card, "1", output)


def test_tables_and_answers_live_in_a_bucket_as_in_a_folder(many, tmp_path, config):
    bundle = make_bundle(tmp_path / "bundle")
    predictor, images = batch_predictor(bundle, config.serving), list_images(many, "toy")
    predict_batch(predictor, images, open_output(str(tmp_path / "one")), "1")
    with s3_server() as address, s3_bucket(address, "answers") as uri:
        output = open_output(f"{uri}/lot7/")
        assert predict_batch(predictor, images, output, "1").predicted == 63
        summary = predict_batch(predictor, images, output, "1")
        assert summary.predicted == 0
        wanted = tables(tmp_path / "one")
        assert summary.files[0] == "s3://answers/lot7/predictions.parquet"
        assert {name: output.read(name) for name in output.names("") if name != "summary.json"} == wanted
        with pytest.raises(DataError, match=r"s3://nowhere/x: cannot be read .*bucket.*AWS_ENDPOINT_URL"):
            open_output("s3://nowhere/x").names("")


@pytest.fixture
def log(tmp_path):
    made = PredictionLog(tmp_path / "log")
    yield made
    made.close()


def test_each_predicted_image_is_logged_once(lots, tmp_path, config, log):
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle", name="toy"), config.serving)
    for _ in range(2):
        predict_batch(predictor, listed(lots), open_output(str(tmp_path / "out")), "7", log=log)
        records = read_log(log.folder, model="toy", version="7").to_pylist()
        assert len(records) == 5  # not the broken image
    (lots / "s2" / "new.png").write_bytes(encode(filled((0, 0, 255))))
    predict_batch(predictor, listed(lots), open_output(str(tmp_path / "out")), "7", log=log)
    records = {record["request_id"]: record for record in read_log(log.folder).to_pylist()}
    assert len(records) == 6
    (name,) = [name for name in records if "s2/new.png" in name]
    assert re.fullmatch(r"batch/[0-9a-f]{8}/s2/new\.png#[0-9a-f]{8}", name)
    assert records[name]["labels"] == ["blue"]
    assert records[name]["feature_width"] == 32
    assert records[name]["latency_ms"] > 0
    assert records[name]["image"] == str(lots / "s2" / "new.png")
    assert records[name]["digest"] == predictor.bundle.digest
    predict_batch(predictor, listed(lots), open_output(str(tmp_path / "elsewhere")), "7", log=log)
    assert read_log(log.folder).num_rows == 12


@pytest.mark.parametrize("confidence", [0.05, 0.9])
def test_the_log_uses_the_thresholds_of_the_card(tmp_path, config, log, confidence):
    folder, rng = tmp_path / "in", np.random.default_rng(0)
    folder.mkdir()
    for number in range(40):
        cells = np.where(rng.random((4, 4, 3)) < 0.2, rng.integers(120, 256, (4, 4, 3)), 0).astype(np.uint8)
        (folder / f"{number:02d}.png").write_bytes(encode(cells.repeat(CELL, 0).repeat(CELL, 1)))
    bundle = make_bundle(tmp_path / "bundle", name="toy", thresholds=Thresholds(confidence=0.5, max_detections=3))
    edited = config.model_copy(update={"serving": config.serving.model_copy(update={"confidence": confidence})})
    predictor = batch_predictor(bundle, edited.serving)
    summary = predict_batch(predictor, listed(folder), open_output(str(tmp_path / "out")), "7", log=log)

    found = sorted(read_log(log.folder).to_pylist(), key=lambda row: row["request_id"])
    reference = records_of(bundle, listed(folder))
    for name in ("labels", "confidences", "areas", "centres_x", "centres_y"):
        theirs = pa.array([row[name] for row in reference], RECORD.field(name).type).to_pylist()
        assert [row[name] for row in found] == theirs
    assert max(row["count"] for row in found) == 3
    # The log has predictions at the edited threshold, and no more than the server would return.
    shown = [row["detections"] for row in rows(summary)]
    assert shown == [len(predictor.predict(path.read_bytes()).labels()) for path in listed(folder).paths()]
    assert shown != [row["count"] for row in found]
    assert max(shown) <= 3


def test_labels_are_decoded_once_whatever_the_thresholds_of_boxes_are(tmp_path, config):
    edited = config.model_copy(update={"serving": config.serving.model_copy(update={"confidence": 0.9})})
    seen = []
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle"), edited.serving)
    answer = predictor.predict(filled(RED), watch=lambda _rgb, prediction: seen.append(prediction))
    assert seen[0] is answer


def test_a_killed_run_logs_no_image_twice(tmp_path, config, log):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(150):
        Image.fromarray(np.full((32, 32, 3), i, np.uint8)).save(folder / f"{i:03d}.png")
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle"), config.serving)

    with pytest.raises(Killed):
        predict_batch(predictor, listed(folder), open_output(str(tmp_path / "out")), "1", dying_at(100), log)
    before = read_log(log.folder).num_rows
    assert before >= 100  # more than the 64 images of the saved segment
    assert predict_batch(predictor, listed(folder), open_output(str(tmp_path / "out")), "1", log=log).predicted == 86
    ids = read_log(log.folder)["request_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 150


def test_a_log_that_cannot_be_written_loses_no_prediction(lots, tmp_path, config):
    (tmp_path / "log").write_text("a file in the way")
    log = PredictionLog(tmp_path / "log")
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle"), config.serving)
    (tmp_path / "out").mkdir()
    for _ in range(2):
        assert predict_batch(predictor, listed(lots), open_output(str(tmp_path / "out")), "1", log=log).failed == 1
    assert log.counts["unwritable"] == 5
    log.close()


def test_a_missing_file_is_predicted_again(lots, tmp_path, config):
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle"), config.serving)
    gone, data = lots / "s1/b.png", encode(filled((0, 0, 255)))
    gone.write_bytes(data)
    images = listed(lots)
    gone.unlink()
    first = predict_batch(predictor, images, open_output(str(tmp_path / "out")), "1")
    assert [row["key"] for row in rows(first) if "no such file" in row["error"]] == ["s1/b.png"]
    gone.write_bytes(data)
    second = predict_batch(predictor, images, open_output(str(tmp_path / "out")), "1")
    assert (second.predicted, second.failed) == (1, 1)


def test_only_unlabelled_images_of_a_data_set_are_predicted(lots, tmp_path, config):
    images = listed(lots)
    mixed = images.replace_column("split", ["train", "test", "", "unlabelled", "val", "unlabelled"])
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle", name="toy"), config.serving)
    summary = predict_batch(predictor, mixed, open_output(str(tmp_path / "out")), "1")
    assert [row["key"] for row in rows(summary)] == ["s2/again.png", "s2/deep/c.png"]
    labelled = images.replace_column("split", ["train"] * images.num_images)
    with pytest.raises(DataError, match="toy: its data has no unlabelled images; name a folder with --input"):
        predict_batch(predictor, labelled, open_output(str(tmp_path / "out")), "1")


def test_a_folder_without_images_or_none_at_all_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        list_images(tmp_path / "nowhere", "toy")
    with pytest.raises(DataError, match="holds no images"):
        list_images(tmp_path, "toy")


def test_an_output_that_cannot_be_written_and_a_broken_segment_are_one_line(lots, tmp_path, config):
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle"), config.serving)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="choose another --output"):
        predict_batch(predictor, listed(lots), open_output(str(tmp_path / "file")), "1")
    predict_batch(predictor, listed(lots), open_output(str(tmp_path / "out")), "1")
    (segment,) = (tmp_path / "out" / "segments").rglob("*.parquet")
    segment.write_bytes(b"cut")
    with pytest.raises(DataError, match="remove it to predict its images again"):
        predict_batch(predictor, listed(lots), open_output(str(tmp_path / "out")), "1")


def test_the_page_names_lots_classes_and_files(lots, tmp_path, config):
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle"), config.serving)
    summary = predict_batch(predictor, listed(lots), open_output(str(tmp_path / "out")), "1")
    html = render_batch_html(summary)
    for text in ("s1", "s2", "red", "50.0 %", "66.7 %", *summary.files):
        assert text in html


def test_tables_go_where_their_steps_can_write(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert batch_places((None, None), "toy/x", None) == ("", f"{tmp_path}/predictions/toy/x")
    assert batch_places(("in", "out"), "toy/x", None) == (f"{tmp_path}/in", f"{tmp_path}/out")
    store = "s3://store/artifacts/"
    assert batch_places((None, None), "toy/x", store) == ("", "s3://store/artifacts/visionops/predictions/toy/x")
    assert batch_places(("s3://a/b", "s3://c/d"), "toy/x", store) == ("s3://a/b", "s3://c/d")
    for given, words in (
        (("in", None), "--input in: steps run on other machines; give --input s3://bucket/prefix"),
        ((None, "out"), "--output out: steps run on other machines; give --output s3://bucket/prefix"),
    ):
        with pytest.raises(DataError, match=words):
            batch_places(given, "toy/x", store)
    with pytest.raises(DataError, match="give --output s3://bucket/prefix"):
        batch_places((None, None), "toy/x", "/a/folder")


def test_a_data_set_that_was_made_by_hand_needs_no_hashes(lots, tmp_path, config):
    images = Dataset.from_columns(
        "toy", (), {"key": ["x"], "path": [str(lots / "s1/a.png")], "split": ["unlabelled"]}, {}
    )
    predictor = batch_predictor(make_label_bundle(tmp_path / "bundle"), config.serving)
    (row,) = rows(predict_batch(predictor, images, open_output(str(tmp_path / "out")), "1"))
    assert len(row["sha256"]) == 64
