"""Metrics as text: Prometheus' format 0.0.4, or OpenMetrics 1.0 for whoever accepts it."""

import re
from collections.abc import Iterable, Iterator

from pingora.observe.collected import Collected, Distribution
from pingora.observe.families import Family

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
UNITS = ("seconds", "bytes")


def wants_openmetrics(accept: str) -> bool:
    """Say whether an Accept field prefers OpenMetrics 1.0 to plain text (RFC 9110 §12.5.1)."""
    best = {"openmetrics": 0.0, "plain": 0.0}
    for entry in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        given = {name: value for name, _, value in (parameter.partition("=") for parameter in parameters)}
        quality = float(given["q"]) if re.fullmatch(r"[01](\.[0-9]{0,3})?", given.get("q", "")) else 1.0
        if kind == "application/openmetrics-text" and given.get("version", "1.0.0") == "1.0.0":
            best["openmetrics"] = max(best["openmetrics"], quality)
        elif kind in ("text/plain", "text/*", "*/*"):
            best["plain"] = max(best["plain"], quality)
    return best["openmetrics"] > 0 and best["openmetrics"] >= best["plain"]


def render(collected: Collected, is_openmetrics: bool) -> str:
    """Write all metrics that have a value."""
    lines: list[str] = []
    for name in sorted({*collected.values, *collected.distributions}):
        lines += lines_of(collected, collected.families[name], is_openmetrics)
    return "\n".join([*lines, *(["# EOF"] if is_openmetrics else []), ""])


def lines_of(collected: Collected, family: Family, is_openmetrics: bool) -> Iterator[str]:
    """Write a metric."""
    name = family.name.removesuffix("_total") if is_openmetrics and family.kind == "counter" else family.name
    kind, unit = family.kind, next((unit for unit in UNITS if name.endswith("_" + unit)), None)
    if is_openmetrics and name.endswith("_info"):
        kind, name = "info", name.removesuffix("_info")
    yield f"# HELP {name} {escaped(family.text, is_openmetrics)}"
    yield f"# TYPE {name} {kind}"
    if is_openmetrics and unit:
        yield f"# UNIT {name} {unit}"
    for labels, value in sorted(collected.values.get(family.name, {}).items()):
        yield f"{family.name}{labelled(family, labels)} {number(value)}"
    for labels, distribution in sorted(collected.distributions.get(family.name, {}).items(), key=lambda item: item[0]):
        yield from histogram_lines(family, labels, distribution)


def histogram_lines(family: Family, labels: tuple[str, ...], distribution: Distribution) -> Iterator[str]:
    """Write a histogram of one set of labels."""
    borders: Iterable[str] = (*(number(float(border)) for border in family.borders), "+Inf")
    for border, count in zip(borders, distribution.counts, strict=True):
        yield f"{family.name}_bucket{labelled(family, labels, (('le', border),))} {number(count)}"
    yield f"{family.name}_count{labelled(family, labels)} {number(distribution.counts[-1])}"
    yield f"{family.name}_sum{labelled(family, labels)} {number(float(distribution.total))}"


def labelled(family: Family, values: tuple[str, ...], more: tuple[tuple[str, str], ...] = ()) -> str:
    """Write labels in braces, nothing for none."""
    pairs = [*zip(family.labels, values, strict=True), *more]
    inside = ",".join(f'{name}="{escaped(value, True)}"' for name, value in pairs)
    return f"{{{inside}}}" if inside else ""


def escaped(text: str, has_quotes: bool) -> str:
    """Escape a text of a label, or of a HELP line, whose quotes only OpenMetrics escapes."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if has_quotes else text


def number(value: float) -> str:
    """Write a number: whole ones without a point, unless they are a border or a sum."""
    if isinstance(value, int):
        return str(value)
    if value in (float("inf"), float("-inf")) or value != value:
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    return repr(value)
