"""The peer of our drift: Evidently's ``DataDriftPreset`` on four features of the pixels, as a reference system.

Evidently lives in an environment of its own (``make peers``), and is given the features as Parquet.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.contestants import environment_folder
from benchmarks.rows import cores

__all__ = ["PIXEL_FEATURES", "PeerVerdict", "ask_evidently", "has_evidently", "pixel_features"]

PIXEL_FEATURES = ("brightness_mean", "brightness_std", "contrast", "sharpness")
_SCRIPT = Path(__file__).parent / "peers" / "evidently" / "compare.py"


@dataclasses.dataclass(frozen=True, slots=True)
class PeerVerdict:
    """What Evidently says of a window."""

    drifted: bool
    """The preset's verdict: half of the columns or more."""
    columns: tuple[str, ...]
    """Those that drifted."""


def pixel_features(rgb: npt.NDArray[np.uint8]) -> dict[str, float]:
    """What the reference system looks at, by name.

    Mean and standard deviation of all values, standard deviation of the mean of the channels (on grey images the same
    once more), and its mean squared gradient; of values from 0 to 1.

    Args:
        rgb: uint8 (H, W, 3), at least 2 x 2.
    """
    values = rgb.astype(np.float32) / 255
    grey = values.mean(axis=2)
    energy = sum(float(np.square(slope).mean()) for slope in np.gradient(grey))
    found = (values.mean(dtype=np.float64), values.std(dtype=np.float64), grey.std(dtype=np.float64), energy)
    return dict(zip(PIXEL_FEATURES, map(float, found), strict=True))


def has_evidently() -> bool:
    """Whether `benchmarks.peers` has made its environment."""
    return _python().exists()


def ask_evidently(pairs: Sequence[tuple[pa.Table, pa.Table]]) -> list[PeerVerdict]:
    """Its verdict of each (reference, window), from their columns `PIXEL_FEATURES`."""
    shares = np.array_split(np.arange(len(pairs)), cores())
    with ThreadPoolExecutor(cores()) as pool:
        found = pool.map(_ask, ([pairs[i] for i in share] for share in shares))
    return [verdict for verdicts in found for verdict in verdicts]


def _ask(pairs: Sequence[tuple[pa.Table, pa.Table]]) -> list[PeerVerdict]:
    if not pairs:
        return []
    sides = [
        table.select(PIXEL_FEATURES)
        .append_column("pair", pa.array([number] * len(table), pa.int32()))
        .append_column("is_current", pa.array([side] * len(table), pa.int8()))
        for number, pair in enumerate(pairs)
        for side, table in enumerate(pair)
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.parquet"
        pq.write_table(pa.concat_tables(sides), file)
        command = [str(_python()), str(_SCRIPT), str(file)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=folder)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(pairs), done.stdout[-500:]
    return [PeerVerdict(answer["drifted"], tuple(answer["columns"])) for answer in answers]


def _python() -> Path:
    return environment_folder("evidently") / "bin" / "python"
