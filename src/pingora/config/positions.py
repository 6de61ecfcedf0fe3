"""Where keys and values of a TOML document stand: tomllib gives the values, this the places.

Reads what tomllib has accepted, so it checks nothing; of anything else the places may be wrong, but no error comes.
"""

import bisect
import contextlib
import re
import tomllib
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
SCALAR_END = re.compile(r"[,\]}\n#]|$")
STRINGS = {
    '"""': re.compile(r'"""(?:\\.|(?!""")[^\\])*"{3,5}', re.DOTALL),
    "'''": re.compile(r"'''.*?'{3,5}", re.DOTALL),
    '"': re.compile(r'"(?:\\.|[^"\\\n])*"'),
    "'": re.compile(r"'[^'\n]*'"),
}


class Place(NamedTuple):
    """A line and a column, both from 1; a tab is one column."""

    line: int
    column: int


class Positions:
    """The places of a document. Paths are keys and indices: ("upstreams", "endpoints", 0, "weight")."""

    def __init__(self, text: str) -> None:
        text = text.replace("\r\n", "\n")
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        finder = Finder(text)
        with contextlib.suppress(RecursionError, tomllib.TOMLDecodeError):  # tomllib refuses such a document, too
            finder.read()
        self._keys, self._values = finder.keys, finder.values

    def key(self, path: Path) -> Place:
        """Say where the key stands; of an element, where its value begins; of what is not there, its nearest table."""
        return self._find(path, (self._keys, self._values))

    def value(self, path: Path) -> Place:
        """Say where the value begins; of a table with a header, where its name stands there."""
        return self._find(path, (self._values, self._keys))

    def paths(self) -> set[Path]:
        """Give all keys and elements that have a place."""
        return set(self._keys) | set(self._values)

    def _find(self, path: Path, maps: tuple[dict[Path, int], ...]) -> Place:
        for size in range(len(path), 0, -1):
            for places in maps:
                if (at := places.get(path[:size])) is not None:
                    return self.place(at)
        return Place(1, 1)

    def place(self, at: int) -> Place:
        """Turn an offset into a place."""
        line = bisect.bisect_right(self._line_starts, at)
        return Place(line, at - self._line_starts[line - 1] + 1)


class Finder:
    """Walks a document from left to right and notes where each path begins."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.keys: dict[Path, int] = {}
        self.values: dict[Path, int] = {}
        self._n_tables: dict[Path, int] = {}  # of arrays of tables, so far

    def read(self) -> None:
        """Read the document."""
        table: Path = ()
        self._skip_blank()
        while self.at < len(self.text):
            before = self.at
            if self._takes("[["):
                table = self._header(is_array=True)
            elif self._takes("["):
                table = self._header(is_array=False)
            else:
                self._pair(table)
            self._skip_blank()
            if self.at == before:
                return  # not TOML

    def _header(self, is_array: bool) -> Path:
        path: Path = ()
        parts = self._dotted_key()
        for index, (part, at) in enumerate(parts):
            path = (*path, part)
            self.keys.setdefault(path, at)
            if is_array and index == len(parts) - 1:
                self._n_tables[path] = self._n_tables.get(path, 0) + 1
                self.keys[(*path, self._n_tables[path] - 1)] = at
            if path in self._n_tables:
                path = (*path, self._n_tables[path] - 1)
        self._takes("]]" if is_array else "]")
        return path

    def _pair(self, table: Path) -> None:
        path = table
        for part, at in self._dotted_key():
            path = (*path, part)
            self.keys.setdefault(path, at)
        self._skip_blank()
        if self._takes("="):
            self._skip_blank()
            self._value(path)

    def _dotted_key(self) -> list[tuple[str, int]]:
        parts = []
        while True:
            self._skip_blank()
            at = self.at
            if quote := self._string():
                parts.append((tomllib.loads(f"key = {quote}")["key"], at))
            elif match := BARE_KEY.match(self.text, at):
                self.at = match.end()
                parts.append((match[0], at))
            self._skip_blank()
            if not self._takes("."):
                return parts

    def _value(self, path: Path) -> None:
        self.values[path] = self.at
        if self._takes("["):
            self._items("]", lambda index: self._value((*path, index)))
        elif self._takes("{"):
            self._items("}", lambda index: self._pair(path))
        elif not self._string():
            match = SCALAR_END.search(self.text, self.at)
            self.at = match.start() if match else len(self.text)

    def _items(self, end: str, read: Callable[[int], None]) -> None:
        index = 0
        self._skip_blank()
        while self.at < len(self.text) and not self._takes(end):
            before = self.at
            read(index)
            index += 1
            self._skip_blank()
            self._takes(",")
            self._skip_blank()
            if self.at == before:
                return  # not TOML

    def _string(self) -> str:
        """Step over a string and return its source; "" if there is none."""
        for quotes, pattern in STRINGS.items():
            if self.text.startswith(quotes, self.at) and (match := pattern.match(self.text, self.at)):
                self.at = match.end()
                return match[0]
        return ""

    def _takes(self, symbol: str) -> bool:
        if not self.text.startswith(symbol, self.at):
            return False
        self.at += len(symbol)
        return True

    def _skip_blank(self) -> None:
        match = BLANK.match(self.text, self.at)
        assert match is not None  # it matches the empty string
        self.at = match.end()
