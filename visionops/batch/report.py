"""Summarize a batch: counts and shares for each lot, and a page that shows them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

__all__ = ["BatchSummary", "Lot", "LotSummary", "render_batch_html"]


class LotSummary(BaseModel):
    """Summary of one folder of images."""

    model_config = ConfigDict(frozen=True)

    images: int
    failed: int
    """Number of images without an answer."""
    shares: dict[str, float]
    """Share of answered images with a class, keyed by class (``attribute=class`` for attributes)."""
    confidence: float | None
    """Mean confidence over all answers; None without any."""


class BatchSummary(BaseModel):
    """Summary of a batch."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    images: int
    predicted: int
    """Images that this run sent to the model; an earlier run answered the others."""
    failed: int
    seconds: float
    lots: dict[str, LotSummary]
    """Summary of each lot, keyed by the first folder of the key ("." for none)."""
    files: tuple[str, ...]
    """Absolute paths or URIs of the tables."""


@dataclasses.dataclass
class Lot:
    """Counter for a `LotSummary`."""

    images: int = 0
    answered: int = 0
    shown: Counter[str] = dataclasses.field(default_factory=Counter)
    labels: int = 0
    confidence: float = 0.0

    def add(self, found: Sequence[tuple[str, float]] | None) -> None:
        """Count one image: `Prediction.labels`, or None without an answer."""
        self.images += 1
        self.answered += found is not None
        labels = found or ()
        self.shown.update({name for name, _ in labels})
        self.labels += len(labels)
        for _, confidence in labels:
            self.confidence += confidence

    def summary(self) -> LotSummary:
        """Return the counts so far."""
        return LotSummary(
            images=self.images,
            failed=self.images - self.answered,
            shares={name: count / self.answered for name, count in sorted(self.shown.items())},
            confidence=self.confidence / self.labels if self.labels else None,
        )


def render_batch_html(summary: BatchSummary) -> str:
    """Return a page with the share of each class in each lot."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("visionops.batch", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    names = sorted({name for lot in summary.lots.values() for name in lot.shares})
    return environment.get_template("report.html.j2").render(summary=summary, names=names)
