"""Items to a tool and decisions back: what is counted, what is kept once, and what is refused."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from tests.annotators.made import CASES, DETECTED, OTHER, Desk, add
from tests.helpers.review import ANNA, BEA, CHEN, NOW
from visionops.review.annotation.exchange import pull, push
from visionops.review.annotation.tool import QueueTool
from visionops.review.items import Reason
from visionops.review.service import Answer, Review
from visionops.review.states import Actor, State, Verdict
from visionops.tasks.spec import task_for


def test_the_most_urgent_are_pushed_first_and_once(review: Review):
    desk = Desk()
    items = [
        add(review, "steel", number, reasons=(Reason("uncertainty", value),))
        for number, value in enumerate((0.1, 0.9, 0.5))
    ]
    found = push(review, desk, "steel", limit=2)
    assert (found.new, found.present, found.waiting) == (2, 0, 1)
    assert [item.id for item in desk.items] == [items[1].id, items[2].id]
    found = push(review, desk, "steel")
    assert (found.new, found.present, found.waiting) == (1, 2, 0)
    assert push(review, desk, "steel").new == 0
    assert desk.batches == [2, 1]


def test_decided_and_claimed_items_are_not_pushed(review: Review):
    claimed, free = add(review, "steel", 1), add(review, "steel", 2)
    review.claim(claimed.id, ANNA, key="c", now=NOW)
    desk = Desk()
    assert push(review, desk, "steel").new == 1
    assert [item.id for item in desk.items] == [free.id]


def test_many_items_go_in_batches(review: Review):
    for number in range(60):
        add(review, "casting", number)
    desk = Desk()
    push(review, desk, "casting")
    assert desk.batches == [25, 25, 10]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.task)
def test_an_equal_label_confirms_and_another_corrects(review: Review, case):
    desk = Desk()
    same, other, bad = (add(review, case.name, number) for number in range(3))
    desk.say(same, task_for(case.task).label_of(DETECTED[case.name]))
    desk.say(other, OTHER[case.name], reviewer="chen")
    desk.say(bad, rejection="blurred")
    found = pull(review, desk, case.name, NOW)
    assert dataclasses.astuple(found) == (1, 1, 1, 0, (), ())
    decisions = {item.id: review.store.decisions(item.id)[0] for item in (same, other, bad)}
    assert [one.verdict for one in decisions.values()] == [Verdict.CONFIRM, Verdict.CORRECT, Verdict.REJECT]
    assert [one.reviewer for one in decisions.values()] == ["bea", "chen", "bea"]
    assert decisions[other.id].label == OTHER[case.name]
    assert decisions[bad.id].reason == "blurred"
    assert decisions[same.id].comment == desk.said[0].reference


def test_pulled_again_nothing_changes(review: Review):
    desk = Desk()
    item = add(review, "steel", 1)
    desk.say(item, OTHER["steel"])
    pull(review, desk, "steel", NOW)
    before = review.store.history(item.id)
    found = pull(review, desk, "steel", NOW + timedelta(hours=1))
    assert dataclasses.astuple(found) == (0, 0, 0, 1, (), ())
    assert review.store.history(item.id) == before
    review.export("steel", ANNA, key="e", now=NOW)
    assert pull(review, desk, "steel", NOW + timedelta(hours=2)).known == 1


def test_a_reopened_item_is_pushed_anew_and_keeps_its_old_annotation_out(review: Review):
    desk = Desk()
    item = add(review, "steel", 1)
    push(review, desk, "steel")
    desk.say(item, OTHER["steel"])
    pull(review, desk, "steel", NOW)
    review.reopen(item.id, "look again", CHEN, key="r", now=NOW)
    assert pull(review, desk, "steel", NOW).known == 1
    assert review.store.item(item.id).status.state is State.PENDING
    assert push(review, desk, "steel").new == 1
    desk.say(review.store.item(item.id), {"boxes": []})
    found = pull(review, desk, "steel", NOW)
    assert (found.corrected, found.known) == (1, 1)
    assert [one.label for one in review.store.decisions(item.id)] == [OTHER["steel"], {"boxes": []}]


def test_an_item_that_was_decided_here_is_a_conflict(review: Review):
    desk = Desk()
    decided, claimed = add(review, "steel", 1), add(review, "steel", 2)
    desk.say(decided, OTHER["steel"])
    desk.say(claimed, OTHER["steel"])
    review.claim(decided.id, ANNA, key="c1", now=NOW)
    review.decide(decided.id, Answer(Verdict.CONFIRM), ANNA, key="d", now=NOW)
    review.claim(claimed.id, ANNA, key="c2", now=NOW)
    found = pull(review, desk, "steel", NOW)
    assert (found.corrected, found.known) == (0, 0)
    assert f"item {decided.id}: anna decided it at" in found.conflicts[0]
    assert "anna has claimed it until" in found.conflicts[1]
    # Once the lease is over, the annotation counts.
    later = pull(review, desk, "steel", NOW + timedelta(hours=1))
    assert (later.corrected, len(later.conflicts)) == (1, 1)


def test_an_annotation_that_changed_since_is_a_conflict(review: Review):
    desk = Desk()
    item = add(review, "steel", 1)
    desk.say(item, OTHER["steel"])
    pull(review, desk, "steel", NOW)
    desk.said[0] = dataclasses.replace(desk.said[0], label={"boxes": []}, reference="desk, later")
    found = pull(review, desk, "steel", NOW)
    assert "desk, later: item" in found.conflicts[0]
    assert review.store.decisions(item.id)[0].label == OTHER["steel"]


def test_what_is_no_decision_is_refused_and_the_others_go_on(review: Review):
    desk = Desk()
    strange, outside, turned, foreign, good = (add(review, "steel", number) for number in range(5))
    desk.say(strange, {"boxes": [{"class_name": "rust", "box": [0.0, 0.0, 2.0, 2.0]}]})
    desk.say(outside, {"boxes": [{"class_name": "dent", "box": [0.0, 0.0, 99.0, 2.0]}]})
    desk.say(turned, problem="box 1: is rotated by 30 degrees; draw it upright")
    desk.say(add(review, "casting", 9), {"class_name": "ok"})
    desk.say(good, {"boxes": []})
    missing = dataclasses.replace(desk.said[0], ticket=dataclasses.replace(desk.said[0].ticket, item="0" * 32))
    desk.said.append(missing)
    ahead = dataclasses.replace(desk.said[4], ticket=dataclasses.replace(desk.said[4].ticket, round=2), label=None)
    desk.said.append(ahead)
    found = pull(review, desk, "steel", NOW)
    assert found.corrected == 1
    said = [line.partition(": ")[2] for line in found.refused]
    assert [line[:45] for line in said] == [
        "label: boxes.0: unknown class 'rust'; expecte",
        "label: boxes.0: [0.0, 0.0, 99.0, 2.0] exceeds",
        "box 1: is rotated by 30 degrees; draw it upri",
        said[3][:45],
        f"item {'0' * 32}: does n",
        f"item {good.id}: has no",
    ]
    assert "expected use case steel, got casting" in said[3]
    assert review.store.item(strange.id).status.state is State.PENDING
    assert review.store.item(foreign.id).status.state is State.PENDING


def test_the_queue_itself_has_all_items_and_nothing_to_pull(review: Review):
    add(review, "steel", 1)
    found = push(review, QueueTool(), "steel")
    assert (found.new, found.present) == (0, 1)
    assert dataclasses.astuple(pull(review, QueueTool(), "steel", NOW)) == (0, 0, 0, 0, (), ())


def test_two_pulls_at_once_decide_once(review: Review):
    desk = Desk()
    item = add(review, "steel", 1)
    desk.say(item, OTHER["steel"])

    class Twice(Desk):
        def annotations(self, use_case):
            pull(review, desk, "steel", NOW)  # another process, between the two reads of this one
            return iter(desk.said)

    assert pull(review, Twice(), "steel", NOW + timedelta(seconds=1)).known == 1
    assert len(review.store.decisions(item.id)) == 1
    assert Actor(review.store.decisions(item.id)[0].reviewer) == BEA


def test_two_annotators_of_one_image_are_two_opinions(review: Review):
    review.set_second_share("steel", 1.0)
    desk, item = Desk(), add(review, "steel", 1)
    desk.say(item, OTHER["steel"], reviewer="bea")
    assert pull(review, desk, "steel", NOW).corrected == 1
    assert review.store.item(item.id).status.state is State.PENDING
    assert pull(review, desk, "steel", NOW + timedelta(hours=1)).known == 1
    desk.say(item, OTHER["steel"], reviewer="chen")
    found = pull(review, desk, "steel", NOW + timedelta(hours=2))
    assert (found.corrected, found.known, found.conflicts) == (1, 1, ())
    assert review.store.item(item.id).status.state is State.DECIDED
    found = pull(review, desk, "steel", NOW + timedelta(hours=3))
    assert (found.corrected, found.known, found.conflicts) == (0, 2, ())
