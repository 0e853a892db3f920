"""Define a field whose type is a union of models that are looked up at validation.

>>> Training = Annotated[TrainingBase, OpenUnion("task", settings_of_all_tasks)]
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Union

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

__all__ = ["OpenUnion"]


class OpenUnion:
    """Marks a field as a discriminated union that other packages can extend.

    Values are checked, and errors located, as in pydantic's own unions.

    Args:
        discriminator: Key that every alternative has as a `Literal`.
        alternatives: Returns the models, in the order in which messages name them.
    """

    def __init__(self, discriminator: str, alternatives: Callable[[], Sequence[type[BaseModel]]]) -> None:
        self.discriminator = discriminator
        self._alternatives = alternatives

    @property
    def annotation(self) -> Any:
        """The union of the current alternatives."""
        return _union(tuple(dict.fromkeys(self._alternatives())), self.discriminator)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a schema that checks a value against the current union."""
        return core_schema.no_info_plain_validator_function(
            lambda value: _adapter(self.annotation).validate_python(value)
        )

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe the union of the moment."""
        return handler(_adapter(self.annotation).core_schema)


@functools.cache
def _union(models: tuple[type[BaseModel], ...], discriminator: str) -> Any:
    return Annotated[Union[models], Field(discriminator=discriminator)]  # noqa: UP007 - built from a tuple


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)
