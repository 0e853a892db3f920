"""Read damaged data sets of every format: each must give a data set or a one-line error, soon and from its folder only.

``python -m tests.helpers.fuzzing [--count 1300] [--only yolo] [--seed 0]`` (``make fuzz``) prints a row for each
format.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from tests.helpers import exports
from tests.helpers.datasets import read_as, write_folders, write_image, write_lots, write_vision, write_yolo_layout
from tests.helpers.exports import Made
from tests.helpers.mutations import mutate_content, mutate_names
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset
from visionops.data.settings import ValidationPolicy
from visionops.data.validation.judging import validate
from visionops.errors import VisionOpsError

__all__ = ["CASES", "Case", "Outcomes", "fuzz_case"]

_MOST_SECONDS = 5
_MOST_MEMORY = 4 << 30
_VALIDATED = 8
"""One of this number of mutations is also validated and cleaned."""
_IMAGES = [
    Made("a.png", 20, 16, [("scratch", (1.0, 2.0, 9.5, 8.0)), ("pit", (3.0, 3.0, 6.0, 7.25))], "train"),
    Made("sub/b c.png", 20, 16, [("pit", (4.0, 1.5, 19.0, 15.0))], "train"),
    Made("é.png", 20, 16, [("scratch", (2.0, 2.0, 4.0, 4.0))], "val"),
    Made("d.png", 20, 16, [], "val"),
]
_CLASSES = ["scratch", "pit"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A tiny data set of one format."""

    name: str
    format: str
    write: Callable[[Path], Any]


@dataclasses.dataclass
class Outcomes:
    """Results of the mutations of one case."""

    clean: int = 0
    with_findings: int = 0
    errors: int = 0
    slowest: float = 0.0
    failures: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    """Numbers of the mutations by problem."""

    @property
    def count(self) -> int:
        """Return the number of all mutations."""
        return self.clean + self.with_findings + self.errors + sum(map(len, self.failures.values()))


class Hang(BaseException):
    """Raised on a timeout; readers do not catch it."""


def fuzz_case(case: Case, folder: Path, numbers: range, seed: int = 0) -> Outcomes:
    """Read the mutations of a case with these numbers; each depends only on seed and number."""
    root = folder / "root"
    (folder / "outside.png").write_bytes(b"outside")
    case.write(root)
    pristine = {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    outcomes = Outcomes()
    for number in numbers:
        chance = random.Random(f"{case.name} {seed} {number}")
        is_whole = _damage(root, pristine, chance)
        began = time.process_time()
        try:
            with _watched(root), warnings.catch_warnings():
                warnings.simplefilter("error")
                dataset = read_as(root, "auto" if chance.random() < 0.4 else case.format)
                problem = _judge(dataset, root)
                if problem:
                    _note(outcomes, problem, number)
                elif dataset.findings:
                    outcomes.with_findings += 1
                else:
                    outcomes.clean += 1
                if number % _VALIDATED == 0:
                    with contextlib.suppress(VisionOpsError):
                        clean(dataset, validate(dataset, ValidationPolicy()))
        except VisionOpsError as error:
            problem = _problem_of_text(str(error), "error")
            if problem:
                _note(outcomes, problem, number)
            else:
                outcomes.errors += 1
        except (Exception, Hang) as error:  # noqa: BLE001 - whatever it is, it must not come
            _note(outcomes, _place_of(error), number)
        outcomes.slowest = max(outcomes.slowest, time.process_time() - began)
        if not is_whole:
            shutil.rmtree(root)
            root.mkdir()
        for name, data in pristine.items():
            path = root / name
            if not is_whole or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    return outcomes


def _damage(root: Path, pristine: dict[Path, bytes], chance: random.Random) -> bool:
    """Damage some files; return whether all still exist."""
    labels = [name for name in pristine if name.suffix.lower() not in (".png", ".jpg")]
    is_whole = True
    for _ in range(chance.choice((1, 1, 1, 2))):
        kind = chance.random()
        if kind < 0.1 or not labels:
            is_whole = False
            mutate_names(root, chance)
        else:
            name = chance.choice(labels if kind < 0.97 else list(pristine))
            with contextlib.suppress(OSError):  # its folder has another name by now
                (root / name).write_bytes(mutate_content(name.name, pristine[name], chance))
    return is_whole


def _judge(dataset: Dataset, root: Path) -> str:
    """Yield the problems of a data set that must not occur."""
    keys = dataset.column("key")
    if len(set(keys)) < len(keys):
        return "a key twice"
    for path in filter(None, dataset.column("path")):
        if not os.path.normpath(path).startswith(f"{root}/") or not Path(path).is_file():
            return f"a path outside: {path}"
    if len(set(dataset.class_names)) < len(dataset.class_names):
        return "a class name twice"
    image, class_ids, _ = dataset.box_arrays()
    if len(image) and (image.min() < 0 or image.max() >= len(keys)):
        return "a box of no image"
    if len(class_ids) and (class_ids.min() < 0 or class_ids.max() >= len(dataset.class_names)):
        return "a box of no class"
    labels = dataset.label_array()
    for column, attribute in enumerate(dataset.attributes):
        if len(labels) and labels[:, column].max() >= len(attribute.class_names):
            return "a label of no class"
    named = {key for finding in dataset.findings for key in finding.images}
    on_disk = sum(1 for path in root.rglob("*") if path.suffix.lower() == ".png" and path.is_file())
    if on_disk > len(set(keys) | named) and not dataset.findings and not dataset.notes:
        return "an image left out without a word"
    for finding in dataset.findings:
        if problem := _problem_of_text(f"{finding.where} {finding.message}", f"finding {finding.code}"):
            return problem
    for note in dataset.notes:
        if problem := _problem_of_text(note, "note"):
            return problem
    for name in dataset.all_class_names:  # a class may have any name, which is kept unchanged
        if not name.isprintable() and re.search("[\ud800-\udfff]", name):
            return f"class: no Unicode: {name[:80]!r}"
    return ""


def _problem_of_text(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{what}: no Unicode: {text[-120:]!r}"
    if "\n" in text or "\r" in text:
        return f"{what}: several lines: {text[-120:]!r}"
    return f"{what}: {len(text)} characters: {text[-120:]!r}" if len(text) > 3000 else ""


def _note(outcomes: Outcomes, problem: str, number: int) -> None:
    outcomes.failures.setdefault(problem, []).append(number)


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/visionops/" in frame.filename] or frames
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return f"{type(error).__name__} at {place}: {str(error)[:120]!r}"


# Watched events


class _Watch:
    """Folder that may be opened while one is set."""

    root = ""
    allowed: tuple[str, ...] = ()
    is_installed = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _Watch.root or event not in ("open", "os.listdir", "os.scandir") or not args:
        return
    path = args[0]
    if isinstance(path, int) or path is None:
        return
    name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - Path refuses zero bytes
    if not f"{name}/".startswith((f"{_Watch.root}/", *_Watch.allowed)):  # an import lists a folder itself
        raise OpenedOutside(name)


class OpenedOutside(BaseException):
    """A file outside of the data set was opened."""


@contextlib.contextmanager
def _watched(root: Path) -> Iterator[None]:
    """Fail if a file outside the folder is opened, or after five seconds of processor time."""
    if not _Watch.is_installed:
        sys.addaudithook(_hook)
        _Watch.is_installed = True
        libraries = {sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), str(Path(pa.__file__).parents[1])}
        _Watch.allowed = (
            *(f"{path}/" for path in libraries),
            "/proc/",
            "/sys/",
            "/dev/",
            "/usr/lib",
            "/usr/share/zoneinfo",
        )

    def stop(*_: Any) -> None:
        raise Hang(f"more than {_MOST_SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, _MOST_SECONDS)
    _Watch.root = str(root)
    try:
        yield
    except OpenedOutside as error:
        raise RuntimeError(f"opened {error}") from error
    finally:
        _Watch.root = ""
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


# Data sets


def _exported(export: Callable[[Path, list[Made], list[str]], Any]) -> Callable[[Path], Any]:
    return lambda root: export(root, _IMAGES, _CLASSES)


def _flat(export: Callable[[Path, list[Made], list[str]], Any]) -> Callable[[Path], Any]:
    images = [image._replace(split="") for image in _IMAGES]
    return lambda root: export(root, images, _CLASSES)


def _coco_single(root: Path) -> None:
    """Write polygons, run lengths, crowds, and ids that are texts."""
    rows = []
    for i, image in enumerate(_IMAGES):
        write_image(root / image.name, (20, 16), seed=i, format="PNG")
        rows.append({"id": f"i{i}", "file_name": image.name, "width": 20, "height": 16})
    annotations = [
        {"id": 1, "image_id": "i0", "category_id": 0, "bbox": [1, 2, 3.5, 4], "iscrowd": 0, "area": 14},
        {"id": 2, "image_id": "i1", "category_id": 1, "segmentation": [[1, 1, 8, 1, 8, 9.5]]},
        {
            "id": 3,
            "image_id": "i2",
            "category_id": 1,
            "segmentation": {"size": [16, 20], "counts": [33, 4, 12, 4, 267]},
        },
        {"id": 4, "image_id": "i3", "category_id": 0, "bbox": [1, 2, 3, 4], "iscrowd": 1},
    ]
    categories = [{"id": i, "name": name, "supercategory": "x"} for i, name in enumerate(_CLASSES)]
    content = {"info": {}, "images": rows, "annotations": annotations, "categories": categories}
    (root / "labels.json").write_text(json.dumps(content), encoding="utf-8")


def _yolo_cvat(root: Path) -> None:
    """Write CVAT's YOLO 1.1: ``obj.data``, list files."""
    folder = root / "obj_train_data"
    for i in range(4):
        write_image(folder / f"{i}.png", seed=i)
        (folder / f"{i}.txt").write_text("0 0.5 0.5 0.25 0.25\n1 0.1 0.2 0.1 0.1\n"[: 42 if i else 20])
    (root / "obj.names").write_text("scratch\npit\n")
    (root / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    (root / "train.txt").write_text("".join(f"data/obj_train_data/{i}.png\n" for i in range(4)))


def _yolo_pose(root: Path) -> None:
    for i in range(4):
        split = "train" if i < 3 else "val"
        write_image(root / "images" / split / f"{i}.png", seed=i)
        label = root / "labels" / split / f"{i}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.6 1\n")
    (root / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: [images/val]\nkpt_shape: [2, 3]\nnames:\n  0: part\nnc: 1\n"
    )


def _voc_beside(root: Path) -> None:
    for i, image in enumerate(_IMAGES):
        write_image(root / image.name, (20, 16), seed=i, format="PNG")
        (root / image.name).with_suffix(".xml").write_text(exports.voc_text(image), encoding="utf-8")


def _boxes(kind: str) -> Callable[[Path], Any]:
    """Write a row for each box: as a list in Parquet, as corners in Excel."""

    def write(root: Path) -> None:
        for i, name in enumerate(("a.png", "b.png")):
            write_image(root / name, seed=i)
        if kind == "parquet":
            columns = {"image": ["a.png", "b.png"], "bbox": [[1.0, 2.0, 8.5, 6.0], [4.0, 1.5, 15.0, 13.5]]}
            pq.write_table(
                pa.table({**columns, "label": ["scratch", "pit"], "iscrowd": [0, 0]}), root / "boxes.parquet"
            )
            return
        book = openpyxl.Workbook()
        book.worksheets[0].append(["filename", "xmin", "ymin", "xmax", "ymax", "class"])
        book.worksheets[0].append(["a.png", 1, 2, 9.5, 8, "scratch"])
        book.worksheets[0].append(["b.png", 4, 1.5, 19, 15, "pit"])
        book.save(root / "boxes.xlsx")

    return write


def _table(kind: str) -> Callable[[Path], Any]:
    header = ["image", "kind", "size", "split"]
    rows = [[f"lot/{i}.png", "ok" if i % 2 else "bent", str(i % 2), "train" if i < 3 else "val"] for i in range(4)]

    def write(root: Path) -> None:
        text = "\n".join(",".join(row) for row in (header, *rows)) + "\n"
        write_lots(root, text if kind == "csv" else "", {"lot": 4})
        if kind == "csv":
            return
        (root / "attributes.csv").unlink()
        if kind == "tsv":
            (root / "table.tsv").write_text(text.replace(",", "\t"))
        elif kind == "parquet":
            columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
            pq.write_table(pa.table({**columns, "size": [0.0, 1.0, 0.0, 1.0]}), root / "table.parquet")
        else:
            book = openpyxl.Workbook()
            for row in (header, *rows):
                book.worksheets[0].append(row)
            book.save(root / "table.xlsx")

    return write


def _imagefolder(kind: str) -> Callable[[Path], Any]:
    def write(root: Path) -> None:
        rows: list[dict[str, Any]] = []
        for i in range(4):
            split = "train" if i < 3 else "validation"
            write_image(root / split / f"{i}.png", seed=i)
            objects = {"bbox": [[1.0, 2.0, 3.0, 4.5]] * (i % 3), "categories": [i % 2] * (i % 3)}
            rows.append({"file_name": f"{split}/{i}.png", "objects": objects})
        if kind == "csv":
            lines = [f"{row['file_name']},{'ok' if i % 2 else 'bent'}" for i, row in enumerate(rows)]
            (root / "metadata.csv").write_text("\n".join(["file_name,label", *lines]) + "\n")
            return
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), root / "metadata.parquet")
        else:
            (root / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        (root / "README.md").write_text(
            "---\ndataset_info:\n  features:\n  - name: objects\n    sequence:\n    - name: categories\n      dtype:\n"
            "        class_label:\n          names:\n            '0': scratch\n            '1': no\n---\n# x\n"
        )

    return write


def _mvtec(root: Path) -> None:
    write_folders(root, {"train/good": [1, 2], "test/good": [3], "test/hole": [4]})
    write_image(root / "ground_truth/hole/4_mask.png")


CASES = {
    case.name: case
    for case in (
        Case("vision", "vision", lambda root: write_vision(root, images=2)),
        Case("coco", "coco", _coco_single),
        Case("coco_subsets", "coco", _exported(exports.export_coco)),
        Case("yolo", "yolo", _exported(exports.export_yolo)),
        Case("yolo_layout", "yolo", write_yolo_layout),
        Case("yolo_cvat", "yolo", _yolo_cvat),
        Case("yolo_pose", "yolo", _yolo_pose),
        Case("voc", "voc", _exported(exports.export_voc)),
        Case("voc_beside", "voc", _voc_beside),
        Case("cvat", "cvat", _exported(exports.export_cvat)),
        Case("labelme", "labelme", _exported(exports.export_labelme)),
        Case("via", "via", _flat(exports.export_via)),
        Case("via3", "via", _flat(exports.export_via3)),
        Case("via_csv", "via", _flat(exports.export_via_csv)),
        Case("label_studio", "label_studio", _flat(exports.export_label_studio)),
        Case("label_studio_min", "label_studio", _flat(exports.export_label_studio_min)),
        Case("fiftyone", "fiftyone", _flat(exports.export_fiftyone)),
        Case("csv", "csv", _exported(exports.export_csv)),
        Case("csv_parquet", "csv", _boxes("parquet")),
        Case("csv_xlsx", "csv", _boxes("xlsx")),
        Case("table_csv", "table", _table("csv")),
        Case("table_tsv", "table", _table("tsv")),
        Case("table_parquet", "table", _table("parquet")),
        Case("table_xlsx", "table", _table("xlsx")),
        Case("imagefolder_jsonl", "imagefolder", _imagefolder("jsonl")),
        Case("imagefolder_csv", "imagefolder", _imagefolder("csv")),
        Case("imagefolder_parquet", "imagefolder", _imagefolder("parquet")),
        Case("folders", "folders", lambda root: write_folders(root, {"train/a": [1], "train/b": [2], "val/a": [3, 4]})),
        Case("mvtec", "mvtec", _mvtec),
    )
}


def main() -> int:
    """Fuzz all formats and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=int(os.environ.get("FUZZ_COUNT", "1300")), help="of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--number", type=int, help="one mutation alone")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))  # makes a decompression bomb a MemoryError
    cases = [case for case in CASES.values() if args.only in (case.name, case.format, "")]
    per_format = collections.Counter(case.format for case in cases)
    failed = False
    print(f"{'data set':22}{'mutations':>10}{'clean':>8}{'findings':>10}{'errors':>8}{'slowest':>9}")
    total: collections.Counter[str] = collections.Counter()
    for case in cases:
        numbers = range(-(-args.count // per_format[case.format]))
        if args.number is not None:
            numbers = range(args.number, args.number + 1)
        with tempfile.TemporaryDirectory() as folder:
            found = fuzz_case(case, Path(folder).resolve(), numbers, args.seed)
        print(
            f"{case.name:22}{found.count:10}{found.clean:8}{found.with_findings:10}{found.errors:8}{found.slowest:8.2f}s",
            flush=True,
        )
        total.update(count=found.count, clean=found.clean, findings=found.with_findings, errors=found.errors)
        for problem, where in found.failures.items():
            failed = True
            print(f"    {len(where)} x {problem} ({where[:3]})", flush=True)
    print(f"{'all':22}{total['count']:10}{total['clean']:8}{total['findings']:10}{total['errors']:8}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
