"""Inspect labelled images: detect the format, write a data card and a label audit, and propose a use case to train.

All labels and all image headers are read. Of a large data set only some images are decoded, as the result reports.
No pipeline runs.

>>> found = inspect_data(Path("export.zip"), cache)
>>> found.headline
'CVAT COCO 1.0, 2 subsets: 1,204 images, 3,310 boxes, 7 classes; no test split'
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from visionops.config import Config, parse_settings
from visionops.data.audit import render_label_audit_html
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Severity, counted
from visionops.data.formats import Recognition, read_dataset, recognize
from visionops.data.listing import Listing
from visionops.data.settings import DataConfig, ValidationPolicy
from visionops.data.sources import fetch
from visionops.data.validation.inspection import Inspection, inspect_headers, inspect_images
from visionops.data.validation.judging import assess_dataset
from visionops.data.validation.report import ValidationReport
from visionops.errors import DataError
from visionops.inference.task_registry import task_names
from visionops.tasks.spec import task_for

__all__ = ["InspectedData", "inspect_data", "stops_training", "summary_lines", "write_inspection"]

MOST_DECODED = 2_000
"""Maximum number of images that are decoded in full."""
_PIXEL_BUDGET = 1_500_000_000
"""Maximum number of pixels that are decoded: about ten seconds on two cores."""
_FEWEST_DECODED = 24
_ONE = {"images": "image", "boxes": "box", "classes": "class", "attributes": "attribute"}
_EMPTY_NAMES = frozenset({"data", "dataset", "export", "images"})
"""Folder names that do not identify the data; the name of the parent folder is used instead."""


@dataclasses.dataclass(frozen=True)
class InspectedData:
    """Result of an inspection."""

    name: str
    """Name for a use case: the folder's name in lower case with dashes."""
    recognition: Recognition
    dataset: Dataset
    report: ValidationReport
    num_decoded: int
    """Number of images decoded in full; for the others only the headers were read."""
    config: dict[str, Any]
    """Proposed use case, as in its YAML file."""

    @property
    def headline(self) -> str:
        """Summary of the data in one line."""
        splits = self.dataset.split_counts()
        given = [s.value for s in (Split.TRAIN, Split.VAL, Split.TEST) if s.value in splits]
        lacking = [s.value for s in (Split.VAL, Split.TEST) if s.value not in splits]
        how = f"no {' or '.join(lacking)} split" if given and lacking else "" if given else "no splits"
        text = f"{self.recognition.evidence.summary}: {_described(self.dataset)}"
        return f"{text}; {how}" if how else text


def inspect_data(
    path: Path,
    cache: Path,
    overrides: Sequence[str] = (),
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> InspectedData:
    """Detect the format of a data set and check its images and labels.

    Args:
        path: A folder, or an archive, which is unpacked into ``cache``.
        cache: Folder for downloads and unpacked archives, as in `visionops.data.sources.fetch`.
        overrides: Known settings of ``data``, one per entry, such as ``format=coco``.
        progress: Called with the current phase ("headers"), the number done and the total.

    Raises:
        ConfigError: An override is not a setting of ``data``.
        DataError: The file is missing, is not a data set, or fits several formats.
    """
    if not path.exists():
        raise DataError(f"{path}: no such folder or archive; correct the path")
    source = {"kind": "folder" if path.is_dir() else "archive", "path": str(path)}
    data = parse_settings(yaml.safe_dump({"source": source}), Path("--set"), DataConfig, overrides)
    listing = Listing(fetch(data.source, cache).absolute())
    recognition = recognize(listing, data)
    given = data.model_dump(mode="json", include=data.model_fields_set)
    raw = {"source": source, "format": "", **recognition.evidence.settings, **given}
    raw |= {"source": source, "format": recognition.format.value}
    data = DataConfig.model_validate(raw)
    name = _use_case_name(path)
    dataset = read_dataset(listing.root, data, name, known=(listing, recognition.format))
    policy = ValidationPolicy()
    inspections, decoded = _inspect(dataset, policy, progress)
    report = assess_dataset(dataset, inspections, policy)
    config = _config(name, dataset, raw)
    return InspectedData(name, recognition, dataset, report, decoded, config)


def write_inspection(found: InspectedData, folder: Path) -> list[Path]:
    """Write the two pages, ``report.json`` and ``<name>.yaml``; leave other files of the folder in place.

    Returns:
        The written files, the YAML file last.

    Raises:
        DataError: The folder cannot be written.
    """
    comment = f"# {found.headline}\n# Written by --inspect.\n"
    text = comment + yaml.safe_dump(found.config, sort_keys=False, allow_unicode=True, width=100)
    pages = {"card.html": found.report.card}
    usable = clean(found.dataset, found.report)
    if usable.num_images:  # without images, the card explains why
        pages["labels.html"] = render_label_audit_html(usable)
    pages["report.json"] = found.report.to_json()
    pages[f"{found.name}.yaml"] = text
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in pages.items():
            temporary = folder / f".{file}.tmp"
            temporary.write_text(content, encoding="utf-8", errors="backslashreplace")
            temporary.replace(folder / file)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another with --output") from error
    return [folder / file for file in pages]


def _use_case_name(path: Path) -> str:
    """Return a name for a use case: ``My parts_v2.zip`` becomes ``my-parts-v2``."""
    whole = path.absolute()
    stem = whole.name if path.is_dir() else re.sub(r"(\.tar)?\.\w+$", "", whole.name)
    if stem.casefold() in _EMPTY_NAMES:
        stem = whole.parent.name
    plain = re.sub(r"[^a-z0-9]+", "-", stem.casefold()).strip("-")
    return (plain if plain[:1].isalpha() else f"data-{plain}".strip("-"))[:63].rstrip("-")


def _described(dataset: Dataset) -> str:
    parts = [part.split() for part in re.findall(r"\d+ [a-z]+", dataset.describe())]
    return ", ".join(counted(int(number), _ONE.get(many, many), many) for number, many in parts)


def _inspect(
    dataset: Dataset, policy: ValidationPolicy, progress: Callable[[str, int, int], None]
) -> tuple[list[Inspection], int]:
    """Decode some images and read the headers of the others; return the results and the number decoded."""
    total = dataset.num_images
    chosen = list(range(total))
    inspections: list[Inspection | None] = [None] * total
    if total > _FEWEST_DECODED:  # even a few hundred images may have gigapixels
        inspections = [*inspect_headers(dataset, lambda done: progress("headers", done, total))]
    sizes = [i.header.width * i.header.height for i in inspections if i and i.header]
    per_image = float(np.mean(sizes)) if sizes else 0.0
    most = max(_FEWEST_DECODED, min(MOST_DECODED, int(_PIXEL_BUDGET / per_image) if per_image else MOST_DECODED))
    if total > most:
        chosen = np.linspace(0, total - 1, most).round().astype(int).tolist()
    part = dataset.take(chosen)
    decoded = inspect_images(part, policy.max_pixels, lambda done: progress("images", done, len(chosen)))
    for row, seen in zip(chosen, decoded, strict=True):
        inspections[row] = seen
    return [seen for seen in inspections if seen is not None], len(chosen)


def _config(name: str, dataset: Dataset, data: dict[str, Any]) -> dict[str, Any]:
    """Return a use case with defaults and the settings that follow from the data."""
    task = next(task for task in map(task_for, task_names()) if task.suits(dataset))
    config: dict[str, Any] = {"name": name, "task": task.name, "data": data}
    if training := task.starting_settings(dataset):
        config["training"] = training
    config["serving"] = {"port": 0}  # any free port: another use case may use the default one
    Config.model_validate(config)
    return config


def summary_lines(found: InspectedData, most: int = 12) -> list[str]:
    """Return the result as lines for a terminal, without the list of written files."""
    dataset, report = found.dataset, found.report
    format_, evidence = found.recognition
    lines = [found.headline, f"format    {format_.value}: {'; '.join(evidence.reasons)}"]
    if splits := {split or "none given": n for split, n in dataset.split_counts().items()}:
        lines.append(f"splits    {', '.join(f'{split} {n:,}' for split, n in splits.items())}")
    counts = {name: sum(per.values()) for name, per in report.counts["classes"].items()}
    shown = [f"{name} {n:,}" for name, n in list(counts.items())[:most]]
    lines.append(f"classes   {', '.join(shown)}{', …' if len(counts) > most else ''}")
    if found.num_decoded < dataset.num_images:
        lines.append(
            f"decoded   {found.num_decoded:,} of {dataset.num_images:,} images; for the others only the headers were "
            "read. Training decodes all of them"
        )
    lines += [f"note      {note}" for note in dataset.notes]
    lines += report.summary(places=1).splitlines()
    return lines


def stops_training(found: InspectedData) -> bool:
    """Return whether validation would stop a training on this data."""
    return any(finding.severity is Severity.ERROR for finding in found.report.findings)
