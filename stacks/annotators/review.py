"""Provide our review queue as a ZenML annotator: a data set is a use case in review.

Loading a stack imports this module, so it imports the domain only where it is used.
"""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, cast

from zenml.annotators.base_annotator import BaseAnnotator

from stacks.annotators.flavors import ReviewAnnotatorConfig
from visionops.errors import StackError

if TYPE_CHECKING:
    from visionops.review.annotation.tool import AnnotationTool
    from visionops.review.items import Decision, ReviewItem, UseCase
    from visionops.review.service import Review
    from visionops.review.states import State

__all__ = ["ReviewAnnotator"]

_PAGE = 500


class ReviewAnnotator(BaseAnnotator):
    """Annotator for the review that this machine's environment names."""

    @property
    def config(self) -> ReviewAnnotatorConfig:
        """Return the component's settings."""
        return cast("ReviewAnnotatorConfig", self._config)

    def annotation_tool(self) -> AnnotationTool:
        """Return the queue as the tool that `visionops annotate` uses."""
        from visionops.review.annotation.tool import QueueTool

        return QueueTool()

    def get_url(self) -> str:
        """Return the address of the pages for reviewers, or "" for none."""
        return self.config.url

    def get_url_for_dataset(self, dataset_name: str) -> str:
        """Return the address of the pages for reviewers, which is the same for all use cases."""
        del dataset_name
        return self.config.url

    def get_datasets(self) -> list[UseCase]:
        """Return the use cases in review."""
        with _opened() as review:
            return review.store.use_cases()

    def get_dataset_names(self) -> list[str]:
        """Return the names of the use cases in review."""
        return [use_case.name for use_case in self.get_datasets()]

    def get_dataset_stats(self, dataset_name: str) -> tuple[int, int]:
        """Return how many items of a use case are decided, and how many are not.

        Raises:
            NotFound: The use case is not in review.
        """
        from visionops.review.states import State

        with _opened() as review:
            review.store.use_case(dataset_name)
            states = review.store.stats(dataset_name).states
        decided = states[State.DECIDED.value] + states[State.EXPORTED.value]
        return decided, sum(states.values()) - decided

    def launch(self, **kwargs: Any) -> None:
        """Open the pages for reviewers in a browser.

        Raises:
            StackError: No address is set.
        """
        url = str(kwargs.get("url") or self.config.url)
        if not url:
            raise StackError(
                f"annotator {self.name!r}: has no pages; set its url, or use `visionops review list` and the API"
            )
        webbrowser.open(url)

    def add_dataset(self, **kwargs: Any) -> UseCase:
        """Add the `UseCase` passed as ``use_case``.

        Raises:
            StackError: ``use_case`` is missing.
            Conflict: The review has a different use case of this name.
        """
        from visionops.review.items import UseCase

        use_case = kwargs.get("use_case")
        if not isinstance(use_case, UseCase):
            raise StackError(f"annotator {self.name!r}: add_dataset needs use_case, a UseCase")
        with _opened() as review:
            review.put_use_case(use_case)
        return use_case

    def get_dataset(self, **kwargs: Any) -> UseCase:
        """Return the use case ``dataset_name``.

        Raises:
            NotFound: The use case is not in review.
        """
        with _opened() as review:
            return review.store.use_case(_name(kwargs))

    def delete_dataset(self, **kwargs: Any) -> NoReturn:
        """Refuse to delete a use case, because decisions of people are never removed.

        Raises:
            StackError: Always.
        """
        raise StackError(f"annotator {self.name!r}: decisions are never removed; {_name(kwargs)} stays")

    def get_labeled_data(self, **kwargs: Any) -> list[tuple[ReviewItem, Decision]]:
        """Return the decided items of the use case ``dataset_name``, each with its latest decision."""
        from visionops.review.states import State

        with _opened() as review:
            items = _items(review, _name(kwargs), (State.DECIDED, State.EXPORTED))
            return [(item, review.store.decisions(item.id)[-1]) for item in items]

    def get_unlabeled_data(self, **kwargs: str) -> list[ReviewItem]:
        """Return the undecided items of the use case ``dataset_name``."""
        from visionops.review.states import State

        with _opened() as review:
            return _items(review, _name(kwargs), (State.PENDING, State.CLAIMED))


@contextmanager
def _opened() -> Iterator[Review]:
    from visionops.review_store.opening import open_review

    with open_review() as review:
        yield review


def _name(given: dict[str, Any]) -> str:
    name = given.get("dataset_name")
    if not name:
        raise StackError("annotator: dataset_name is missing; name a use case")
    return str(name)


def _items(review: Review, use_case: str, states: tuple[State, ...]) -> list[ReviewItem]:
    from visionops.review.ports import ItemFilter

    review.store.use_case(use_case)
    found: list[ReviewItem] = []
    while page := review.store.items(ItemFilter(use_case, states, limit=_PAGE, after=found[-1].id if found else None)):
        found += page
    return found
