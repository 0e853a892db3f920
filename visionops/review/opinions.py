"""Second opinions: which items need one, what several opinions decide, and who may see them.

A share of the items is answered by two reviewers who do not see one another's answer. If they agree, the first label
stands. If not, a third reviewer sees both labels without names, and decides.
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
"""Whether two labels of a task say the same: `TaskSpec.agree`."""


@dataclasses.dataclass(frozen=True, slots=True)
class SeenOpinion:
    """An opinion as somebody may see it."""

    round: int
    verdict: Verdict
    label: Mapping[str, Any] | None
    reason: str
    reviewer: str = ""
    """Empty where it is shown without its author."""
    comment: str = ""
    """Empty where it is shown without its author: a comment may tell who wrote it."""


def wants_second(item: str, share: float, reasons: Iterable[Reason]) -> bool:
    """Return whether an item needs two opinions: it is in the share, or its label is probably wrong.

    Args:
        item: Its id, whose hash decides: the answer is stable, and a larger share holds the items of a smaller one.
        share: Of all items, from 0 (no second opinions) to 1.
        reasons: Of all arrivals of its image.
    """
    if not share:
        return False
    place = int(digest_of("second opinion", item)[:16], 16) / _STEPS
    return place < share or any(reason.kind == LABEL_ERROR for reason in reasons)


def opinions_agree(first: Opinion, second: Opinion, agree: Agree) -> bool:
    """Return whether both reject the image, or both give labels that say the same."""
    if first.label is None or second.label is None:
        return first.label is second.label
    return agree(first.label, second.label)


def settle(opinion: Opinion, earlier: Sequence[Opinion], agree: Agree, *, is_double: bool) -> Decision | None:
    """Return what an opinion decides together with those before it; None where another reviewer has to be heard.

    Args:
        earlier: Those of this round, the first one first.
        is_double: Whether the item needs two.

    Returns:
        Of two that agree the first one's label and name; of three the third's.
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
    """Return the opinions that somebody may see.

    An admin sees all, and all see those of decided rounds. Of a round that is open a reviewer sees nothing, or, once
    two disagree, both without names and in an order that tells nothing.
    """
    is_open = item.status.state in {State.PENDING, State.CLAIMED}
    # A later round has begun since the item was read.
    first_hidden = item.status.round + (not is_open)
    hidden = [o for o in opinions if o.round >= first_hidden and not actor.is_admin]
    shown = [
        SeenOpinion(o.round, o.verdict, o.label, o.reason, o.reviewer, o.comment) for o in opinions if o not in hidden
    ]
    if len(hidden) == MOST_WAITING:
        nameless = [SeenOpinion(o.round, o.verdict, o.label, o.reason) for o in hidden]
        shown += sorted(nameless, key=lambda o: canonical([o.verdict.value, o.label, o.reason]))
    return shown
