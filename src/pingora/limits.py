"""The check of limits: what range each has, and one message that names all that is wrong."""

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a limit may be. `unit` is how a person reads it; `also` are values outside the range that mean "none"."""

    least: float
    most: float
    unit: str
    also: tuple[float | None, ...] = ()

    @property
    def is_whole(self) -> bool:
        """True if only a whole number makes sense."""
        return self.unit != "seconds"

    def __str__(self) -> str:
        others = "".join(f", or {value!r} for none" for value in self.also)
        return f"{self.least:g} to {self.most:g} {self.unit}{others}"

    def complaint(self, value: Any) -> str:
        """Return what is wrong with `value`, "" if nothing is."""
        if any(value is other or (value == other and not isinstance(value, bool)) for other in self.also):
            return ""
        wanted = int if self.is_whole else (int, float)
        # A NaN is in no range.
        if isinstance(value, bool) or not isinstance(value, wanted) or not self.least <= value <= self.most:
            return f"expected {self}, got {value!r}"
        return ""


DAY = 86400
RULES = {
    "head_timeout": Rule(0.001, DAY, "seconds"),
    "keep_alive": Rule(0.001, DAY, "seconds"),
    "body_timeout": Rule(0.001, DAY, "seconds"),
    "write_timeout": Rule(0.001, DAY, "seconds"),
    "head_bytes": Rule(256, 65536, "bytes"),
    "target_bytes": Rule(1, 65536, "bytes"),
    "fields": Rule(1, 256, "fields"),
    "hook_timeout": Rule(0.001, DAY, "seconds", also=(0,)),
    "blocked_after": Rule(0.01, DAY, "seconds", also=(None,)),
}


def check_limits(limits: Any) -> None:
    """Raise ValueError that names every field of the dataclass `limits` that is of a wrong type or out of range."""
    complaints = []
    for field in dataclasses.fields(limits):
        if complaint := RULES[field.name].complaint(getattr(limits, field.name)):
            complaints.append(f"{field.name}: {complaint}")
    if complaints:
        raise ValueError(f"{type(limits).__name__}: {'; '.join(complaints)}")
