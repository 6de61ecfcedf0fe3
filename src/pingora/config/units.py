"""Times and sizes as people write them: 30, "30s", "1m30s"; 65536, "64KiB"."""

import re
from typing import Any

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
TIME = 'seconds, or a text such as "30s", "500ms" or "1m30s"'
SIZE = 'bytes, or a text such as "64KiB" or "1MiB"'

PART = r"(\d+(?:\.\d+)?)({})"
TIME_PART = re.compile(PART.format("|".join(SECONDS)), re.ASCII)
SIZE_PART = re.compile(PART.format("|".join(BYTES)), re.ASCII)


def parse_time(text: str) -> float:
    """Give seconds; parts add up. Raises ValueError."""
    parts = TIME_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"expected {TIME}")
    return float(sum(float(number) * SECONDS[unit] for number, unit in parts))


def parse_size(text: str) -> int:
    """Give bytes. Raises ValueError, also for a part of a byte."""
    match = SIZE_PART.fullmatch(text)
    size = float(match[1]) * BYTES[match[2]] if match else 0.5
    if not size.is_integer():
        raise ValueError(f"expected {SIZE}")
    return int(size)


def shown(value: Any) -> str:
    """Show a value of a TOML document in a message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}…"'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge number"
    return str(value)
