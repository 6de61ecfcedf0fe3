"""Cython source as a list of logical lines, without comments and without what strings say.

Enough to check declarations; no parser.
"""

import re
from dataclasses import dataclass

TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""'
    r"|'''(?:\\.|[^\\])*?'''"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'(?:\\.|[^'\\\n])*'"
    r"|\#[^\n]*",
    re.DOTALL,
)


@dataclass(frozen=True)
class Statement:
    """A logical line: continuation lines are joined by a space, strings are empty."""

    line: int  # number of its first line
    indent: int  # columns before it
    text: str
    is_extern: bool  # inside a `cdef extern from` block


def blank(token: re.Match[str]) -> str:
    """Replace a string by an empty one and a comment by nothing; keep the count of lines."""
    if token[0].startswith("#"):
        return ""
    return '""' + "\n" * token[0].count("\n")


def statements(text: str) -> list[Statement]:
    """Split `text` into logical lines."""
    found: list[Statement] = []
    extern_indent: int | None = None
    pending = ""
    first = depth = 0
    for number, line in enumerate(TOKEN.sub(blank, text).splitlines(), 1):
        if not pending:
            if not line.strip():
                continue
            first = number
        depth += sum(line.count(bracket) for bracket in "([{") - sum(line.count(bracket) for bracket in ")]}")
        is_continued = line.endswith("\\")
        pending += line.rstrip("\\").rstrip() if not pending else " " + line.rstrip("\\").strip()
        if depth > 0 or is_continued:
            continue
        indent = len(pending) - len(pending.lstrip())
        if extern_indent is not None and indent <= extern_indent:
            extern_indent = None
        found.append(Statement(first, indent, pending.strip(), extern_indent is not None))
        if re.match(r"cdef\s+extern\b", pending.strip()):
            extern_indent = indent
        pending, depth = "", 0
    return found
