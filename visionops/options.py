"""Read and write the options of a server process, on its command line and in its environment.

>>> ServerOptions(port=0, open_ready=True).to_arguments()
['--port', '0', '--open-ready', 'true']
>>> ServerOptions.parse(["--port", "0", "--open-ready"]) == ServerOptions(port=0, open_ready=True)
True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from visionops.addresses import SECRET_ERROR
from visionops.arguments import Parser
from visionops.errors import ConfigError
from visionops.schema_words import describe_expectation

__all__ = ["CommandOptions", "comma_separated", "flag", "variable"]


def variable(name: str) -> str:
    """Return the environment variable for an option."""
    return f"VISIONOPS_{name.upper()}"


def flag(name: str) -> str:
    """Return the command-line argument for an option."""
    return "--" + name.replace("_", "-")


def comma_separated(value: object) -> object:
    """Split a text at commas into a tuple; return any other value unchanged."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class CommandOptions(BaseModel):
    """Base of the options of a program: each field is an argument and an environment variable."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    PROGRAM: ClassVar[str]
    DESCRIPTION: ClassVar[str]
    SECRETS: ClassVar[frozenset[str]] = frozenset()
    """Fields that are read from the environment only: other users can read a command line."""

    @classmethod
    def parse(cls, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Self:
        """Read a command line, and the environment variables of options it lacks; empty variables are ignored.

        Raises:
            ConfigError: A value cannot be used; the message names the argument or the variable.
            SystemExit: An option is unknown, or help was requested.
        """
        given = {name: value for name, value in vars(cls._parser().parse_args(arguments)).items() if value is not None}
        known = {name: (environment or {}).get(variable(name)) for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in known.items() if value} | given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if not first["loc"]:
                raise ConfigError(first["msg"].removeprefix("Value error, ")) from error
            name = str(first["loc"][0])
            place = flag(name) if name in given else variable(name)
            if first["type"] == SECRET_ERROR:
                raise ConfigError(f"{place}: {first['msg']}") from None  # the trace must not show the value either
            expected = describe_expectation(
                first, cls.model_fields[name].annotation if len(first["loc"]) == 1 else None
            )
            raise ConfigError(f"{place}: {expected} (got {first['input']!r})") from error

    def to_arguments(self, *, joined: bool = False, order: Sequence[str] = ()) -> list[str]:
        """Return the command line for these options, without secrets: those that were set or differ from the default.

        Args:
            joined: Write ``--port=0`` as one argument. Otherwise as two, unless the value begins with a dash.
            order: Names of the options to write first; the others follow as declared.
        """
        values = self.model_dump(mode="json", exclude=set(self.SECRETS))
        arguments: list[str] = []
        for name in dict.fromkeys((*order, *values)):
            value, default = getattr(self, name), type(self).model_fields[name].default
            if value == default and (name not in self.model_fields_set or value in (None, "", ())):
                continue
            text = _text(values[name])
            arguments += [f"{flag(name)}={text}"] if joined or text.startswith("-") else [flag(name), text]
        return arguments

    @classmethod
    def _parser(cls) -> Parser:
        parser = Parser(prog=cls.PROGRAM, description=cls.DESCRIPTION)
        for name, field in cls.model_fields.items():
            if name in cls.SECRETS:
                continue
            shown = "" if field.default in (None, ()) else f" [{field.default}]"
            switch: dict[str, Any] = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
            parser.add_argument(flag(name), help=f"{field.description}{shown}", **switch)
        return parser


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list) else str(value)
