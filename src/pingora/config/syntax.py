"""What a syntax error of TOML is told with: its line, and what was probably meant there."""

import re

from pingora.config.positions import Place

LINE_MOST = 80  # characters of a line that are shown
BEHIND_VALUES = ("Invalid value", "Unclosed", "Expected newline")  # what tomllib says where a value is none, or goes on
BARE_WORD = re.compile(r"(?<=[=\[,\s])[\w.:/@%+-]+(?=[\],}\s#]|$)")


def shown_at(text: str, place: Place, message: str) -> str:
    """Show the line of a syntax error, as the end of its message, and say if a text lacks its quotes there."""
    lines = text.split("\n")
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    shown_line = line.strip() if len(line.strip()) <= LINE_MOST else f"{line.strip()[: LINE_MOST - 1]}…"
    end = f": {shown_line}" if shown_line else ""
    if not message.startswith(BEHIND_VALUES):
        return end
    for found in BARE_WORD.finditer(line):
        word = found[0]
        if found.start() < place.column <= found.end() and not is_number(word):
            is_flag = word.lower() in ("true", "false")
            return f"{end}; write {word.lower()}" if is_flag else f'{end}; texts stand in quotes: "{word}"'
    return end


def is_number(word: str) -> bool:
    """Say whether a word could be meant as a number."""
    return re.fullmatch(r"[+-]?[0-9._]*", word) is not None and word.count(".") < 2
