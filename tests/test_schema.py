"""Problems are named by the keys of a file, for every form of schema."""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from visionops.schema import Problem, describe_problem, first_error, known_keys, locate
from visionops.settings import Settings


class Cat(Settings):
    kind: Literal["cat", "kitten"]
    lives: int = 9


class Dog(Settings):
    kind: Literal["dog"]
    tricks: tuple[str, ...] = ()


class Size(enum.StrEnum):
    SMALL = "small"
    LARGE = "large"


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Home(Settings):
    pet: Pet | None = None
    pets: list[Pet] = Field(default_factory=list)
    by_name: dict[str, Pet] = Field(default_factory=dict)
    beds: dict[Size, int] = Field(default_factory=dict)
    place: tuple[float, Cat] | None = None
    either: Cat | int | tuple[str, ...] | None = None


def problem(raw: dict[str, object]) -> Problem:
    with pytest.raises(ValidationError) as caught:
        Home.model_validate(raw)
    return describe_problem(first_error(caught.value), Home)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"pet": {"kind": "kitten", "live": 1}}, "unknown key 'pet.live'; did you mean 'lives'?"),
        ({"pets": [{"kind": "dog", "lives": 1}]}, "unknown key 'pets.0.lives'; known here: kind, tricks"),
        ({"by_name": {"dog": {"kind": "dog", "trick": 1}}}, "unknown key 'by_name.dog.trick'; did you mean 'tricks'?"),
        (
            {"by_name": {"x": {"kind": "dog", "tricks": ["a", 1]}}},
            "by_name.x.tricks.1: expected a text; write it in quotes: '1' (got 1)",
        ),
        ({"beds": {"smal": 1}}, "unknown key 'beds.smal'; did you mean 'small'?"),
        ({"place": [0.5, {"kind": "cat", "livs": 1}]}, "unknown key 'place.1.livs'; did you mean 'lives'?"),
        ({"either": {"kind": "cat", "livs": 1}}, "unknown key 'either.livs'; did you mean 'lives'?"),
        ({"pet": {"kind": "cow"}}, "pet: unknown kind 'cow'; known: 'cat', 'kitten', 'dog'"),
        ({"pet": {}}, "'pet.kind' is missing; set it to one of cat, kitten, dog"),
        ({"bed": 1}, "unknown key 'bed'; did you mean 'beds'?"),
    ],
)
def test_a_problem_in_words(raw, text):
    assert problem(raw).text.startswith(text)


def test_keys_above_the_schema_come_first():
    with pytest.raises(ValidationError) as caught:
        Cat.model_validate({"kind": "cat", "lives": "many"})
    assert describe_problem(first_error(caught.value), Cat, ("pets", "tom")).key == ("pets", "tom", "lives")


def test_the_keys_of_an_alternative_are_those_of_its_model():
    assert known_keys(locate(Home, ("by_name", "rex", "dog")).annotation) == ["kind", "tricks"]
    assert known_keys(locate(Home, ("beds",)).annotation) == ["large", "small"]
    assert known_keys(locate(Home, ("pet", "dog", "tricks")).annotation) == []
