"""What a command line says to a flag or a choice that it does not know."""

from __future__ import annotations

import pytest

from visionops.arguments import Parser, one_of


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="tool")
    parser.add_argument("--config")
    parser.add_argument("--kind", type=one_of(["brightness", "noise"]))
    return parser


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--confg", "x"], "unrecognized arguments: --confg x; did you mean --config?"),
        (["--confg=x"], "unrecognized arguments: --confg=x; did you mean --config?"),
        (["a.yaml"], "unrecognized arguments: a.yaml; did you mean --config a.yaml?"),
        (["x"], "unrecognized arguments: x; --help lists what there is"),
        (
            ["--kind", "brigthness"],
            "argument --kind: invalid choice: 'brigthness'; did you mean 'brightness'? choose from brightness, noise",
        ),
        (["--kind", "dark"], "argument --kind: invalid choice: 'dark'; choose from brightness, noise"),
    ],
)
def test_what_is_not_known_is_refused_with_the_nearest(
    parser: Parser, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"tool: error: {message}\n"


def test_what_is_known_is_taken(parser: Parser):
    parsed = parser.parse_args(["--kind", "noise"])
    assert (parsed.kind, parsed.config) == ("noise", None)
