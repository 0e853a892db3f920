"""Second opinions: decide which items need one, combine several opinions, and hide them until the item is decided.

A share of the items is answered by two reviewers who do not see each other's answer. If they agree, the first label
counts. If not, a third reviewer sees both labels without names, and decides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from visionops.review.checks import canonical, digest_of
from visionops.review.items import Decision, Opinion, Reason, ReviewItem, decision_id
from visionops.review.states import MOST_WAITING, Actor, State, Verdict

__all__ = ["LABEL_ERROR", "Agree", "SeenOpinion", "opinions_agree", "seen_by", "settle", "wants_second"]

LABEL_ERROR = "label_error"
"""Kind of the reason of an item whose present label is probably wrong."""
_STEPS = 2**64

Agree = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
"""Function that returns whether two labels of a task agree: `TaskSpec.agree`."""


@dataclasses.dataclass(frozen=True, slots=True)
class SeenOpinion:
    """An opinion in the form that a viewer may see."""

    round: int
    verdict: Verdict
    label: Mapping[str, Any] | None
    reason: str
    reviewer: str = ""
    """Name of the reviewer; empty where it is hidden."""
    comment: str = ""
    """Comment; empty where the reviewer is hidden, because a comment may reveal who wrote it."""


def wants_second(item: str, share: float, reasons: Iterable[Reason]) -> bool:
    """Return whether an item needs two opinions: it belongs to the share, or its label is probably wrong.

    Args:
        item: Its id, whose hash decides: the result is stable, and a larger share includes the items of a smaller one.
        share: Share of all items, from 0 (no second opinions) to 1.
        reasons: Reasons of all arrivals of its image.
    """
    if not share:
        return False
    place = int(digest_of("second opinion", item)[:16], 16) / _STEPS
    return place < share or any(reason.kind == LABEL_ERROR for reason in reasons)


def opinions_agree(first: Opinion, second: Opinion, agree: Agree) -> bool:
    """Return whether both reject the image, or both have equal labels."""
    if first.label is None or second.label is None:
        return first.label is second.label
    return agree(first.label, second.label)


def settle(opinion: Opinion, earlier: Sequence[Opinion], agree: Agree, *, is_double: bool) -> Decision | None:
    """Return the decision that an opinion and those before it lead to; None where another reviewer is needed.

    Args:
        earlier: Earlier opinions of this round, oldest first.
        is_double: Whether the item needs two opinions.

    Returns:
        Label and name of the first opinion where two agree, or of the third where there are three.
    """
    stands: Opinion | None = opinion
    if not earlier and is_double:
        stands = None
    elif len(earlier) == 1:
        stands = earlier[0] if opinions_agree(earlier[0], opinion, agree) else None
    if stands is None:
        return None
    return Decision(
        id=decision_id(stands.item, stands.round),
        item=stands.item,
        round=stands.round,
        reviewer=stands.reviewer,
        at=opinion.at,
        verdict=stands.verdict,
        label=stands.label,
        reason=stands.reason,
        comment=stands.comment,
    )


def seen_by(actor: Actor, item: ReviewItem, opinions: Sequence[Opinion]) -> list[SeenOpinion]:
    """Return the opinions that a viewer may see.

    An admin sees all, and everybody sees those of decided rounds. In an open round a reviewer sees nothing, or, after
    two disagree, both without names and in an order that reveals nothing.
    """
    is_open = item.status.state in {State.PENDING, State.CLAIMED}
    # A later round began after the item was read.
    first_hidden = item.status.round + (not is_open)
    hidden = [o for o in opinions if o.round >= first_hidden and not actor.is_admin]
    shown = [
        SeenOpinion(o.round, o.verdict, o.label, o.reason, o.reviewer, o.comment) for o in opinions if o not in hidden
    ]
    if len(hidden) == MOST_WAITING:
        nameless = [SeenOpinion(o.round, o.verdict, o.label, o.reason) for o in hidden]
        shown += sorted(nameless, key=lambda o: canonical([o.verdict.value, o.label, o.reason]))
    return shown
