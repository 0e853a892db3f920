"""Label audit: boxes in place, every class shown, no crash on odd input."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.helpers import images
from tests.helpers.images import dataset_of
from visionops.data.audit import (
    class_colour,
    draw_boxes,
    pick_examples,
    read_thumbnail,
    render_label_audit,
    render_label_audit_html,
    write_label_audit,
)
from visionops.data.dataset import Dataset
from visionops.errors import DataError

GREY = np.full((100, 160, 3), 128, dtype=np.uint8)


def test_a_box_is_drawn_on_its_edges_and_the_original_is_untouched():
    drawn = np.asarray(draw_boxes(GREY, np.array([[20.0, 30, 120, 80]]), [""], [(230, 159, 0)]))
    assert (GREY == 128).all()
    for x, y in ((20, 50), (120, 50), (60, 30), (60, 80)):
        assert tuple(drawn[y, x]) == (230, 159, 0)
    assert (drawn[40:70, 30:110] == 128).all()


@pytest.mark.parametrize(
    "box", [(0, 0, 160, 100), (-50, -50, 500, 500), (150, 90, 10, 5), (3, 3, 3, 3), (400, 9, 500, 20)]
)
def test_any_box_can_be_drawn_with_its_label_inside_the_image(box):
    image = draw_boxes(GREY, np.array([box], dtype=np.float32), ["scratch"], [(0, 114, 178)])
    assert image.size == (160, 100)
    assert (np.asarray(image) == (0, 114, 178)).all(axis=2).sum() > 200  # the background of the label


def test_a_box_that_is_not_a_number_is_left_out():
    image = draw_boxes(GREY, np.array([[np.nan, 1, 2, 3]]), ["scratch"], [(0, 0, 0)])
    assert (np.asarray(image) == 128).all()


def test_labels_of_neighbours_do_not_cover_each_other():
    boxes = np.array([[10.0, 40, 60, 95], [12, 40, 70, 90]])
    image = np.asarray(draw_boxes(GREY, boxes, ["pit", "pit"], [(230, 159, 0), (86, 180, 233)]))
    plates = [(image == colour).all(axis=2).sum() for colour in ((230, 159, 0), (86, 180, 233))]
    assert min(plates) > 250


def test_in_a_crowd_labels_are_left_out_not_piled_up():
    boxes = np.array([[40.0 + n, 40, 60 + n, 60] for n in range(30)])
    crowd = np.asarray(draw_boxes(GREY, boxes, ["scratch"] * 30, [(230, 159, 0)] * 30))
    unlabelled = np.asarray(draw_boxes(GREY, boxes, [""] * 30, [(230, 159, 0)] * 30))
    assert 0 < (crowd != unlabelled).any(axis=2).sum() < 30 * 20 * 15


def test_no_boxes_no_change():
    assert (np.asarray(draw_boxes(GREY, np.empty((0, 4)), [], [])) == 128).all()


def test_colours_repeat_only_after_eight_classes():
    assert len({class_colour(n) for n in range(8)}) == 8
    assert class_colour(8) == class_colour(0)


def many(tmp_path, count: int = 12) -> Dataset:
    files = {f"{n}.jpg": images.jpeg(n) for n in range(count)}
    boxes = [(f"{n}.jpg", 0, (5, 5, 30, 30)) for n in range(count - 3)] + [("7.jpg", 2, (8, 8, 40, 40))]
    return dataset_of(tmp_path, files, boxes=boxes, class_names=("scratch", "unseen", "pit"))


def test_examples_show_each_class_and_a_clean_image(tmp_path):
    dataset = many(tmp_path)
    picked = pick_examples(dataset, 4)
    keys = [dataset.column("key")[row] for row in picked]
    assert "7.jpg" in keys
    assert sum(key in {"9.jpg", "10.jpg", "11.jpg"} for key in keys) == 1
    assert len(set(picked)) == 4


def test_examples_depend_on_the_seed_alone(tmp_path):
    dataset = many(tmp_path)
    assert pick_examples(dataset, 5, seed=1) == pick_examples(dataset, 5, seed=1)
    assert len({tuple(pick_examples(dataset, 5, seed=seed)) for seed in range(5)}) > 1


def test_without_any_box_all_labelled_images_are_examples(tmp_path):
    files = {f"{n}.jpg": images.jpeg(n) for n in range(4)}
    assert len(pick_examples(dataset_of(tmp_path, files, splits={"0.jpg": "unlabelled"}), 9)) == 3


def test_a_thumbnail_fits_its_square_and_returns_its_scale(tmp_path):
    paths = images.write_files(tmp_path, {"a.jpg": images.rotated_jpeg(), "bad.jpg": b"text"})
    rgb, scale = read_thumbnail(paths["a.jpg"], 128)
    assert (rgb.shape, scale) == ((128, 96, 3), 2.0)
    assert read_thumbnail(paths["bad.jpg"], 128) is None
    assert read_thumbnail(tmp_path / "absent.jpg", 128) is None


def test_the_audit_shows_the_requested_rows(tmp_path):
    dataset = many(tmp_path)
    sheet = render_label_audit(dataset, [7, 0], tile=120)
    assert sheet.width == 2 * 130 + 10
    colours = {tuple(c) for c in np.asarray(sheet).reshape(-1, 3)}
    assert {class_colour(0), class_colour(2)} <= colours


def test_an_unusable_image_does_not_spoil_the_audit(tmp_path):
    dataset = dataset_of(tmp_path, {"a.jpg": images.jpeg(), f"{'long-' * 30}.jpg": b""})
    assert render_label_audit(dataset, [0, 1]).width > 400


def test_the_audit_is_written_as_the_suffix_says(tmp_path):
    write_label_audit(many(tmp_path), tmp_path / "new" / "audit.png", rows=3)
    with Image.open(tmp_path / "new" / "audit.png") as written:
        assert written.format == "PNG"


def test_an_audit_that_cannot_be_written_names_its_file(tmp_path):
    with pytest.raises(DataError, match=r"audit\.nonsense: the label audit cannot be written"):
        write_label_audit(many(tmp_path), tmp_path / "audit.nonsense", rows=1)


def test_an_audit_without_images_is_refused():
    with pytest.raises(DataError, match="parts: no labelled image to show"):
        render_label_audit(Dataset.from_columns("parts", [], {"key": []}, {}))


def test_the_audit_page_holds_one_picture_and_escapes_the_name(tmp_path):
    dataset = many(tmp_path)
    page = render_label_audit_html(Dataset("<b>", dataset.images, dataset.layers), rows=2)
    assert page.count("<img") == 1
    assert "data:image/jpeg;base64," in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_sixty_class_names_wrap_in_the_legend(tmp_path):
    names = tuple(f"class number {n}" for n in range(60))
    dataset = dataset_of(tmp_path, {"a.jpg": images.jpeg()}, class_names=names)
    assert render_label_audit(dataset, 1).height > render_label_audit(many(tmp_path), 1).height
