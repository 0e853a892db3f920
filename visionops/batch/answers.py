"""Keep the answers for the images of a shard as a table, one row for each image."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from visionops.errors import DataError

__all__ = ["ANSWERS", "Answer", "BatchAnswers"]

ANSWERS = pa.schema(
    [
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("error", pa.string()),  # no key, because two images may have the same bytes
        ("answer", pa.string()),  # JSON of `Prediction.to_dict`; "" with an error
    ]
)
"""Columns of an `Answer`."""


class Answer(NamedTuple):
    """A row of a segment."""

    sha256: str
    width: int | None
    height: int | None
    error: str
    answer: str


@dataclasses.dataclass(frozen=True)
class BatchAnswers:
    """Answers for the images of one shard."""

    run: str
    """Digest of model, engine and thresholds."""
    predicted: int
    """Number of images that this run sent to the model."""
    seconds: float
    rows: pa.Table
    """``key`` and the stored answer, one row for each image."""

    def save(self, folder: Path) -> None:
        """Write ``answers.parquet`` and ``answers.json`` into ``folder``."""
        pq.write_table(self.rows, folder / "answers.parquet")
        content = {"run": self.run, "predicted": self.predicted, "seconds": self.seconds}
        (folder / "answers.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> BatchAnswers:
        """Read what `save` wrote.

        Raises:
            DataError: A file is missing or is not what `save` writes.
        """
        try:
            content = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
            return cls(**content, rows=pq.read_table(folder / "answers.parquet"))
        except (OSError, ValueError, TypeError, pa.ArrowException) as error:
            raise DataError(f"{folder}: no saved answers of a batch ({error}); run again") from error
