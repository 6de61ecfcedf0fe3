"""What is wrong with a file, each with its place, and all of it at once."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pingora.config.positions import Path, Place, Positions
from pingora.usage import ConfigError

BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass
class Source:
    """A configuration file that is being read: its values, and what was found wrong so far."""

    name: str  # as messages have it
    text: str
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find where things are."""
        self.positions = Positions(self.text)
        self.problems: list[tuple[Place, str]] = []

    def key_problem(self, path: Path, message: str) -> None:
        """Note that a key should not be there, or that one lacks."""
        self.add(self.positions.key(path), path, message)

    def value_problem(self, path: Path, message: str) -> None:
        """Note that a value is wrong."""
        self.add(self.positions.value(path), path, message)

    def add(self, place: Place, path: Path, message: str) -> None:
        """Note what is wrong at a place."""
        line = " ".join(f"{name_of(path)}: {message}".split() if path else message.split())
        self.problems.append((place, printable(line)))

    def check(self) -> None:
        """Raise ConfigError if anything was found wrong."""
        if self.problems:
            raise ConfigError(self.lines())

    def lines(self) -> list[str]:
        """Give what was found wrong, in the order of the file."""
        ordered = sorted(self.problems, key=lambda problem: problem[0])
        return [f"{self.name}:{place.line}:{place.column}: {text}" for place, text in ordered]


def printable(text: str) -> str:
    """Replace what would do something to a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def name_of(path: Path) -> str:
    """Write a path as TOML has it, with indices: upstreams.endpoints[1].weight."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            written = part if BARE.fullmatch(part) else f'"{part}"'
            text += f".{written}" if text else written
    return text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Give the nearest known name as the end of a message, or "" if none is near."""
    names = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1)
    return f', did you mean "{names[near[0]]}"?' if near else ""
