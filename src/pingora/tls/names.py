"""Names of hosts as certificates and handshakes have them: DNS names, and patterns of one label."""

import re

NAME = re.compile(r"(?:\*\.)?(?:LABEL\.)*LABEL".replace("LABEL", r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"))
LONGEST = 253


def wire_name(name: str) -> str:
    """Give "xn--bcher-kva.example" for "Bücher.example.". Raises UnicodeError for what is no name."""
    encoded = name if name.isascii() else name.encode("idna").decode("ascii")
    return encoded.lower().removesuffix(".")


def wildcard_of(name: str) -> str:
    """Give "*.example.com" for "a.example.com"."""
    return "*." + name.partition(".")[2]


def check_host_name(name: str) -> None:
    """Raise ValueError for what no client asks for as a name, and no pattern "*.name" stands for."""
    try:
        known = wire_name(name)
    except UnicodeError:
        known = ""
    is_address = known.rpartition(".")[2].isdecimal()  # for which no client asks, RFC 6066 §3
    if is_address or not NAME.fullmatch(known) or len(known) > LONGEST:
        raise ValueError(
            f"expected a DNS name such as 'admin.example.com', or '*.example.com', without a port, got {name!r}"
        )
