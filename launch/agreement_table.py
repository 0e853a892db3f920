"""Print the agreement of reviewers as lines for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from visionops.errors import one_line

# Imported late, so that `visionops --help` does not wait for numpy.
if TYPE_CHECKING:
    from visionops.review.agreement import Agreement, Figure, ReviewerAgreement

__all__ = ["agreement_lines"]

_NAME = 30
_FIGURE = 20


def agreement_lines(found: Agreement) -> Iterator[str]:
    """Yield a table: the share of agreed items, kappa and F1, each with its interval and the number of items."""
    items = found.overall.agreed.num_items
    if not items:
        yield f"{one_line(found.use_case)}: no image has two opinions yet; see review.second_opinion"
        return
    yield f"{one_line(found.use_case)}: {items} images with two blind opinions"
    yield f"{'':{_NAME}} {'items':>5}  {'agreed':{_FIGURE}}  kappa"
    yield _line("all", items, found.overall.agreed, found.overall.kappa)
    yield _line("rejected or not", found.rejection.num_items, None, found.rejection)
    for name, figure in found.questions.items():
        yield _line(f"question {name}", figure.num_items, None, figure)
    for one, between in found.reviewers.items():
        yield _between(f"{one}, others", between)
    for (first, second), between in found.pairs.items():
        yield _between(f"{first}, {second}", between)
    yield f"{'':{_NAME}} {'items':>5}  F1 of matches"
    yield _line("all classes", found.overall.f1.num_items, found.overall.f1)
    for name, figure in found.classes.items():
        yield _line(f"class {name}", figure.num_items, figure)
    for (first, second), between in found.pairs.items():
        yield _line(f"{first}, {second}", between.f1.num_items, between.f1)


def _between(name: str, between: ReviewerAgreement) -> str:
    return _line(name, between.agreed.num_items, between.agreed, between.kappa)


def _line(name: str, items: int, first: Figure | None, second: Figure | None = None) -> str:
    shown = one_line(name)
    if len(shown) > _NAME:
        shown = f"{shown[: _NAME - 1]}…"
    cells = [_cell(figure) if figure else "" for figure in (first, second)]
    return f"{shown:{_NAME}} {items:>5}  {cells[0]:{_FIGURE}}  {cells[1]}".rstrip()


def _cell(figure: Figure) -> str:
    """Return a figure with its interval: ``0.81 (0.70, 0.90)``."""
    if figure.value is None:
        return "not defined"
    if not figure.is_reliable:
        return f"{figure.value:.2f} (too few)"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.2f}"
    return f"{figure.value:.2f} ({figure.low:.2f}, {figure.high:.2f})"
