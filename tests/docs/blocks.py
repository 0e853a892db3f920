"""Read the code blocks of the guides and the commands in them.

The word after the language of a block says how it is tested: `make docs-commands` executes `bash run`; `bash cluster`
needs a cluster or an image that is not available in tests. All other blocks are only checked.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

__all__ = ["GUIDES", "MARKS", "Block", "blocks", "blocks_in", "commands"]

GUIDES = ("airflow", "containers", "helm", "kubernetes", "staging")
MARKS = {"", "cluster", "run"}
_BLOCK = re.compile(r"^```(\w*)[ ]*([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEREDOC = re.compile(r"<<-?'?(\w+)'?")
_SUBSTITUTED = re.compile(r"\$\(([^()]*)\)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_ENDS = {"|", "||", "&", "&&", ";"}


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Code block of a guide."""

    place: str
    """File and line, as `helm.md:12`."""
    language: str
    mark: str
    """Word after the language: one of `MARKS`."""
    text: str


def blocks(guide: str) -> list[Block]:
    """Return the code blocks of a guide in `docs/how-to`."""
    return blocks_in(ROOT / "docs" / "how-to" / f"{guide}.md")


def blocks_in(path: Path) -> list[Block]:
    """Return the code blocks of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(f"{path.name}:{text.count(chr(10), 0, found.start()) + 1}", *map(str.strip, found.groups()[:2]), found[3])
        for found in _BLOCK.finditer(text)
    ]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the simple commands of a script as words, including those in `$(…)`, without leading assignments."""
    for line in _lines(text):
        for inner in _SUBSTITUTED.findall(line):
            yield from commands(inner)
        lexer = shlex.shlex(_SUBSTITUTED.sub("_", line), posix=True, punctuation_chars="|&;")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in _ENDS:
                words.append(word)
                continue
            while words and _ASSIGNMENT.fullmatch(words[0]):
                del words[0]
            if words:
                yield [words[0].removeprefix(".venv/bin/"), *words[1:]]
            words = []


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a script with continuations joined, without the bodies of heredocs."""
    delimiter = ""
    for line in text.replace("\\\n", " ").splitlines():
        if delimiter:
            delimiter = "" if line.strip() == delimiter else delimiter
            continue
        found = _HEREDOC.search(line)
        delimiter = found[1] if found else ""
        if line.strip():
            yield _HEREDOC.sub("", line)
