"""Register our tests with Evidently.

Evidently passes the existing values of one column to a test, the reference's first. This is enough for numbers and
classes, so `ValueDrift("feature_noise", method="visionops_cramer_von_mises")` works in any report after
`register_tests`. Tests of the mix of classes and of the embedding need more than a number for each image: they look it
up by the row number, inside `given_tests`.

>>> register_tests()
>>> with given_tests(frames, DriftSettings(), {"embedding": "MMD, permutation"}):
...     snapshot = Report([ValueDrift(column="embedding", method="visionops_mmd")]).run(current, reference)
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import types
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from evidently.legacy.calculation_engine.python_engine import PythonEngine
from evidently.legacy.calculations.stattests.registry import (
    PythonStatTest,
    PythonStatTestData,
    StatTest,
    add_stattest_impl,
    register_stattest,
)
from evidently.legacy.core import ColumnType
from evidently.legacy.metrics.data_drift.embedding_drift_methods import model

from visionops.monitoring.drift.compared_classes import compare_mix, compare_share
from visionops.monitoring.drift.compared_embeddings import Vectors, compare_vectors
from visionops.monitoring.drift.compared_numbers import compare_number, sorted_numbers
from visionops.monitoring.drift.comparison import Compared
from visionops.monitoring.drift.detection import count_exchanges, give_p
from visionops.monitoring.drift.permutation import Numbers
from visionops.monitoring.drift.report import ColumnDrift
from visionops.monitoring.evidently.frames import Frames, Side
from visionops.monitoring.settings import DriftSettings

__all__ = ["CLASSIFIER", "METHODS", "OUR_TESTS", "SMALL_REFERENCE", "given_tests", "register_tests"]

METHODS: Mapping[str, str] = types.MappingProxyType(
    {
        "Cramér-von Mises": "visionops_cramer_von_mises",
        "D, permutation": "visionops_d_permutation",
        "Fisher's exact": "visionops_fisher",
        "distance, permutation": "visionops_mix_permutation",
        "MMD, permutation": "visionops_mmd",
    }
)
"""Name of the method in Evidently for each `ColumnDrift.test`."""

OUR_TESTS = "visionops"
"""Method that uses for each column the test that we chose. The count of drifted columns has one method for all windows,
so that it is one line in the dashboard of a workspace."""

CLASSIFIER = "evidently_embedding_classifier"
"""Evidently's default for embeddings, as a test of our column ``embedding``."""
SMALL_REFERENCE = 1000
"""Number of reference images below which Evidently compares its classifier with a random one instead of a threshold."""


@dataclasses.dataclass(frozen=True)
class _Testing:
    """Context of a test beside the values."""

    settings: DriftSettings
    limit: int
    """Number of image exchanges, from `count_exchanges`."""
    frames: Frames | None = None
    bound: float | None = None
    """Bound of the p-value, instead of Evidently's threshold."""
    tests: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """`ColumnDrift.test` of each column of the frames."""
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """`ColumnDrift.name` of each column of the frames, which seeds its random generator."""
    done: dict[str, ColumnDrift] = dataclasses.field(default_factory=dict)
    """Results by column name, cached because Evidently tests each column twice, once for the count."""


_TESTING: contextvars.ContextVar[_Testing | None] = contextvars.ContextVar("testing", default=None)


@contextlib.contextmanager
def given_tests(
    frames: Frames,
    settings: DriftSettings,
    tests: Mapping[str, str],
    names: Mapping[str, str],
    bound: float | None = None,
) -> Iterator[None]:
    """Use these settings and frames in the tests until the end of the block.

    Args:
        tests: Column of the frames to `ColumnDrift.test`; their number determines the number of exchanges, as in
            `detect_drift`.
        names: Column of the frames to `ColumnDrift.name`, where they differ by source.
        bound: p-value from `holm_bound` up to which a column drifted, instead of Evidently's threshold.
    """
    token = _TESTING.set(_Testing(settings, count_exchanges(len(tests), settings), frames, bound, tests, names))
    try:
        yield
    finally:
        _TESTING.reset(token)


def register_tests() -> None:
    """Register the tests of `METHODS`, `OUR_TESTS` and `CLASSIFIER` with Evidently; repeatable."""
    numerical, categorical = [ColumnType.Numerical], [ColumnType.Categorical]
    for test, implementation in _IMPLEMENTATIONS.items():
        feature_types = categorical if isinstance(implementation, _ClassTest | _MixTest) else numerical
        shown = f"{test} p_value; Holm, least effect"
        stat_test = StatTest(METHODS[test], shown, feature_types, DriftSettings().alpha)
        register_stattest(stat_test)
        add_stattest_impl(stat_test, PythonEngine, implementation)
    any_test = StatTest(OUR_TESTS, "VisionOps", [*numerical, *categorical], DriftSettings().alpha)
    register_stattest(any_test)
    add_stattest_impl(any_test, PythonEngine, _OurTests())
    classifier = StatTest(CLASSIFIER, "Domain classifier", numerical, 0.55)
    register_stattest(classifier)
    add_stattest_impl(classifier, PythonEngine, _ClassifierTest())


class _Test(PythonStatTest):  # type: ignore[misc]
    """Test one column by its values: the p-value, and whether it is below the threshold and the effect large enough."""

    def __call__(self, data: PythonStatTestData, _: ColumnType, threshold: float) -> tuple[float, bool]:
        run = _TESTING.get() or _Testing(DriftSettings(), DriftSettings().permutations)
        name = str(data.reference_data.name)
        if name not in run.done:
            plain = run.names.get(name, name)
            run.done[name] = give_p(self.compare(plain, data.reference_data, data.current_data, run), run.limit)
        column = run.done[name]
        limit = threshold if run.bound is None else run.bound
        if column.p_value is None:
            return 1.0, False  # too few images
        return column.p_value, column.p_value <= limit and abs(column.effect or 0.0) >= column.min_effect

    def compare(self, name: str, reference: pd.Series, current: pd.Series, run: _Testing) -> Compared:
        """Compare the existing values of one column."""
        raise NotImplementedError


class _NumberTest(_Test):
    def compare(self, name: str, reference: pd.Series, current: pd.Series, run: _Testing) -> Compared:
        before, after = (sorted_numbers(_numbers(side)) for side in (reference, current))
        return compare_number(name, (), before, after, run.settings)


class _ClassTest(_Test):
    def compare(self, name: str, reference: pd.Series, current: pd.Series, run: _Testing) -> Compared:
        shown = np.array([(side == "yes").sum() for side in (reference, current)], np.int64)
        images = np.array([len(reference), len(current)], np.int64)
        return Compared(compare_share(name.removeprefix("class:"), (), shown, images, run.settings))


class _MixTest(_Test):
    def compare(self, name: str, reference: pd.Series, current: pd.Series, run: _Testing) -> Compared:
        frames = _frames(run)
        before, after = (
            Counter(side.patterns[name][row] for row in values.index)
            for side, values in ((frames.reference, reference), (frames.current, current))
        )
        return compare_mix(before, after, run.settings, name)


class _EmbeddingTest(_Test):
    def compare(self, _: str, reference: pd.Series, current: pd.Series, run: _Testing) -> Compared:
        return compare_vectors(*_vectors(run, reference, current), run.settings)


class _OurTests(PythonStatTest):  # type: ignore[misc]
    """The test that we chose for the column."""

    def __call__(self, data: PythonStatTestData, feature_type: ColumnType, threshold: float) -> tuple[float, bool]:
        run = _TESTING.get()
        name = data.reference_data.name
        if run is None or name not in run.tests:
            raise ValueError(f"no test is set for column {name!r}; expected one of {', '.join(METHODS.values())}")
        return _IMPLEMENTATIONS[run.tests[name]](data, feature_type, threshold)


_IMPLEMENTATIONS: Mapping[str, _Test] = types.MappingProxyType(
    {
        "Cramér-von Mises": _NumberTest(),
        "D, permutation": _NumberTest(),
        "Fisher's exact": _ClassTest(),
        "distance, permutation": _MixTest(),
        "MMD, permutation": _EmbeddingTest(),
    }
)
"""Test by `ColumnDrift.test`."""


class _ClassifierTest(PythonStatTest):  # type: ignore[misc]
    """Domain classifier. `EmbeddingsDrift` would add a slow and random t-SNE of 5,000 images."""

    def __call__(self, data: PythonStatTestData, _: ColumnType, threshold: float) -> tuple[float, bool]:
        run = _TESTING.get() or _Testing(DriftSettings(), DriftSettings().permutations)
        reference, current = (pd.DataFrame(side) for side in _vectors(run, data.reference_data, data.current_data))
        method = model(threshold=threshold, bootstrap=len(reference) < SMALL_REFERENCE)
        score, drifted, _ = method(current, reference)
        return float(score), bool(drifted)


def _vectors(run: _Testing, reference: pd.Series, current: pd.Series) -> tuple[Vectors, Vectors]:
    """Return the embeddings of the rows that the two columns hold."""
    frames = _frames(run)

    def of(side: Side, values: pd.Series) -> Vectors:
        vectors: Vectors = side.vectors[side.vector_of[values.index.to_numpy()]]
        return vectors

    return of(frames.reference, reference), of(frames.current, current)


def _numbers(values: pd.Series) -> Numbers:
    return values.to_numpy(np.float64)


def _frames(run: _Testing) -> Frames:
    if run.frames is None:
        raise ValueError("the mix of classes and the embedding need more than a column; test them with `run_report`")
    return run.frames
