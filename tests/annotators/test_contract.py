"""What every annotation tool does alike: the queue, a list in memory, and a real Label Studio where there is one."""

from __future__ import annotations

import dataclasses

import pytest

from tests.annotators.made import CASES, Desk, add
from tests.helpers.review import CHEN, NOW
from visionops.review.annotation.exchange import pull, push
from visionops.review.annotation.tool import AnnotationTool, QueueTool, Ticket, ticket_of
from visionops.review.service import Answer, Review
from visionops.review.states import Verdict


@pytest.fixture(params=["queue", "desk", "label_studio"])
def any_tool(request: pytest.FixtureRequest) -> AnnotationTool:
    if request.param == "label_studio":
        return request.getfixturevalue("tool")
    return QueueTool() if request.param == "queue" else Desk()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.task)
def test_what_was_pushed_is_present_once(review: Review, any_tool: AnnotationTool, case):
    items = [add(review, case.name, number) for number in range(3)]
    tickets = {ticket_of(item) for item in items}
    found = push(review, any_tool, case.name, limit=2)
    assert found.new + found.present + found.waiting == 3
    found = push(review, any_tool, case.name)
    assert any_tool.present(case, sorted(tickets, key=lambda t: t.item)) == tickets
    assert dataclasses.astuple(push(review, any_tool, case.name)) == (0, 3, 0)
    assert any_tool.present(case, []) == set()
    assert "\n" not in any_tool.title


def test_what_nobody_has_answered_is_no_decision(review: Review, any_tool: AnnotationTool):
    assert dataclasses.astuple(pull(review, any_tool, "steel", NOW)) == (0, 0, 0, 0, (), ())
    item = add(review, "steel", 1)
    push(review, any_tool, "steel")
    assert dataclasses.astuple(pull(review, any_tool, "steel", NOW)) == (0, 0, 0, 0, (), ())
    assert review.store.decisions(item.id) == []


def test_a_reopened_item_is_another_ticket(review: Review, any_tool: AnnotationTool):
    item = add(review, "steel", 1)
    push(review, any_tool, "steel")
    review.claim(item.id, CHEN, key="c", now=NOW)
    review.decide(item.id, Answer(Verdict.CONFIRM), CHEN, key="d", now=NOW)
    review.reopen(item.id, "again", CHEN, key="r", now=NOW)
    assert ticket_of(review.store.item(item.id)) == Ticket(item.id, 2)
    found = push(review, any_tool, "steel")
    assert found.new + found.present == 1
    assert push(review, any_tool, "steel").present == 1
