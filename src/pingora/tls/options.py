"""Options of an address: what stands behind its "?"."""

from urllib.parse import unquote


def options_of(query: str) -> dict[str, list[str]]:
    """Give the values of "name=value&name=value" by name. No form wrote it: a "+" is one, in names of files as well."""
    options: dict[str, list[str]] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        options.setdefault(unquote(name), []).append(unquote(value))
    return options
