"""Label schemes of use cases, and the checks that the labels of all tasks share.

A label is plain JSON in the task's own form (`TaskSpec.label_form`), in pixels of the image after EXIF rotation.
Classes are named, never numbered: a number would change its meaning with the order of classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from visionops.errors import LabelError
from visionops.schema import describe_problem, first_error

__all__ = ["LabelForm", "LabelScheme", "Question", "class_among", "read_form"]

_MOST_NAMED = 8
FormT = TypeVar("FormT", bound=BaseModel)
ClassName = Annotated[str, Field(min_length=1, max_length=200)]


class LabelForm(BaseModel):
    """Base of label forms: strict, finite numbers only."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Question(BaseModel):
    """A question that every image answers with one of its classes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassName
    class_names: tuple[ClassName, ...] = Field(min_length=1)


class LabelScheme(BaseModel):
    """Possible answers in a use case. A task with numeric answers has neither classes nor questions.

    Raises:
        pydantic.ValidationError: A name occurs twice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    class_names: tuple[ClassName, ...] = ()
    """Classes of objects, in the order of their ids."""
    questions: tuple[Question, ...] = ()
    """Questions about whole images."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        lists = [self.class_names, tuple(question.name for question in self.questions)]
        for names in [*lists, *(question.class_names for question in self.questions)]:
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"names {twice[0]!r} twice; remove one")
        return self

    def extends(self, earlier: LabelScheme) -> bool:
        """Return whether the scheme includes all earlier classes and questions, in the same order."""
        ours = {question.name: question.class_names for question in self.questions}
        return self.class_names[: len(earlier.class_names)] == earlier.class_names and all(
            ours.get(question.name, ())[: len(question.class_names)] == question.class_names
            for question in earlier.questions
        )


def read_form(form: type[FormT], label: Mapping[str, Any]) -> FormT:
    """Parse a label by its form.

    Raises:
        LabelError: It does not have this form; the message names the first error.
    """
    try:
        return form.model_validate(label)
    except ValidationError as error:
        raise LabelError(f"label: {describe_problem(first_error(error), form).text}") from error


def class_among(name: str, class_names: tuple[str, ...], where: str) -> str:
    """Return ``name`` if it is one of the classes.

    Raises:
        LabelError: The class is unknown.
    """
    if name not in class_names:
        more = ", …" if len(class_names) > _MOST_NAMED else ""
        known = ", ".join(class_names[:_MOST_NAMED]) + more
        raise LabelError(f"label: {where}: unknown class {name[:100]!r}; expected one of {known or 'none'}")
    return name
