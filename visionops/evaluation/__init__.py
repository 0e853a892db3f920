"""How good a bundle is: scores, pictures and a report, measured with the engine that will serve it."""

from __future__ import annotations

from visionops.evaluation.detection import evaluate
from visionops.evaluation.report import load_evaluation

__all__ = ["evaluate", "load_evaluation"]
