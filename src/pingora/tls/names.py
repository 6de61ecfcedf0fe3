"""Names of hosts as certificates and handshakes have them."""


def wire_name(name: str) -> str:
    """Give "xn--bcher-kva.example" for "Bücher.example.". Raises UnicodeError for what is no name."""
    encoded = name if name.isascii() else name.encode("idna").decode("ascii")
    return encoded.lower().removesuffix(".")


def wildcard_of(name: str) -> str:
    """Give "*.example.com" for "a.example.com"."""
    return "*." + name.partition(".")[2]
