"""What an intermediary must make of a request, from RFC 9110 §7 and RFC 9112 §3 alone: a slow model.

`expected` gives the request that has to reach the origin; `Request` is that of h11_judge. What the proxy adds
(X-Forwarded-*, Host of HTTP/1.0, the framing) is checked by `check_added`.
"""

import re

from h11_judge import Request

HOP_BY_HOP = {
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"content-length", b"upgrade",
    b"http2-settings",
}  # fmt: skip
ADDED = {b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}
# RFC 9110 §6.5.1: framing, routing, request modifiers, authentication, response control, content processing.
NEVER_TRAILERS = HOP_BY_HOP | {
    b"host", b"authorization", b"cookie", b"set-cookie", b"proxy-authorization", b"proxy-authenticate",
    b"www-authenticate", b"expect", b"max-forwards", b"cache-control", b"content-type", b"content-encoding",
    b"content-range", b"trailer", b"range", b"if-match", b"if-none-match", b"if-modified-since",
    b"if-unmodified-since", b"if-range", b"pragma", b"date", b"age", b"expires", b"location", b"retry-after", b"vary",
    b"warning",
}  # fmt: skip
NEVER_UPGRADED = {b"h2c", b"h2", b"http", b"tls"}
ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.I | re.S)


def one_spelling(host):
    """Give a Host in lower case, without a dot at the end of the name or a colon without a port."""
    name, port = re.fullmatch(rb"(.+?)\.?(?::([0-9]*))?", host.lower()).groups()
    return name + b":" + port if port else name


def claims_trust(name: bytes) -> bool:
    """Whether a field tells who the client is, in any spelling that some origin takes for it."""
    folded = name.lower().replace(b"_", b"-")
    return folded.startswith(b"x-forwarded-") or folded in (b"x-forwarded", b"forwarded", b"x-real-ip")


def list_members(values: list[bytes]) -> set[bytes]:
    """The members of a list field, in lower case."""
    return {member.strip(b" \t").lower() for value in values for member in value.split(b",")} - {b""}


def has_body(request: Request) -> bool:
    return bool(request.values(b"transfer-encoding") or request.body)


def is_upgrade(request: Request) -> bool:
    """RFC 9110 §7.8: ignored in HTTP/1.0. Behind HTTP or TLS no rule of the proxy would be heard, and with a body it
    could be read in two ways where the new protocol begins.
    """
    protocols = list_members(request.values(b"upgrade"))
    is_asked = protocols and not {protocol.partition(b"/")[0] for protocol in protocols} & NEVER_UPGRADED
    is_named = b"upgrade" in list_members(request.values(b"connection"))
    return bool(request.version > b"1.0" and is_named and is_asked and not has_body(request))


def takes_trailers(request: Request) -> bool:
    """RFC 9110 §10.1.4."""
    is_named = b"te" in list_members(request.values(b"connection"))
    return request.version > b"1.0" and is_named and b"trailers" in list_members(request.values(b"te"))


def kept(request: Request, fields: list[tuple[bytes, bytes]], never: set[bytes]) -> list[tuple[bytes, bytes]]:
    """Leave out what belongs to the connection, by its name or by the Connection field (RFC 9110 §7.6.1)."""
    named = list_members(request.values(b"connection")) - {b"host"}
    return [
        (name.lower(), value)
        for name, value in fields
        if name.lower() not in never and name.lower() not in named and not claims_trust(name)
    ]


def expected(request: Request) -> Request:
    """Give what reaches the origin, Host first, names in lower case."""
    target, hosts = request.target, request.values(b"host")
    if absolute := ABSOLUTE.fullmatch(target):
        hosts = [absolute[1]]  # RFC 9112 §3.2.2
        target = absolute[2]
        if not target:
            target = b"*" if request.method == b"OPTIONS" else b"/"  # §3.2.4
        elif target.startswith(b"?"):
            target = b"/" + target
    # RFC 9110 §10.1.1: nothing is expected without a body, or by HTTP/1.0
    never = HOP_BY_HOP | {b"host"} | (set() if has_body(request) and request.version > b"1.0" else {b"expect"})
    fields = kept(request, request.fields, never)
    if takes_trailers(request):
        fields.append((b"te", b"trailers"))
    if is_upgrade(request):
        fields += [(b"upgrade", value) for value in request.values(b"upgrade")]
    trailers = kept(request, request.trailers, NEVER_TRAILERS)
    fields = [(b"host", one_spelling(host)) for host in hosts] + fields
    return Request(request.method, target, b"1.1", fields, request.body, trailers)


def received(request: Request) -> Request:
    """Bring what the origin got into the form of `expected`."""
    fields = [(name.lower(), value) for name, value in request.fields]
    rest = [(n, v) for n, v in fields if n not in ADDED | HOP_BY_HOP | {b"host"}]
    for option in (b"te", b"upgrade"):
        if option in list_members(request.values(b"connection")):
            rest += [field for field in fields if field[0] == option]
    hosts = [field for field in fields if field[0] == b"host"]
    trailers = [(name.lower(), value) for name, value in request.trailers]
    return Request(request.method, request.target, b"1.1", hosts + rest, request.body, trailers)


def check_added(sent: Request, got: Request) -> str | None:
    """What the proxy itself writes: exactly one Host, who the client is, the framing as it came. Says what is wrong."""
    hosts = got.values(b"host")
    if len(hosts) != 1:
        return f"{len(hosts)} Host fields"
    wanted = {b"x-forwarded-for": [b"127.0.0.1"], b"x-forwarded-proto": [b"http"]}
    if sent.values(b"host") or ABSOLUTE.fullmatch(sent.target):
        wanted[b"x-forwarded-host"] = hosts
    for name, values in wanted.items():
        if got.values(name) != values:
            return f"{name.decode()} is {got.values(name)}"
    is_chunked = bool(sent.values(b"transfer-encoding"))
    if got.values(b"transfer-encoding") != [b"chunked"] * is_chunked:
        return f"Transfer-Encoding is {got.values(b'transfer-encoding')}"
    lengths = [b"%d" % len(sent.body)] if sent.values(b"content-length") and not is_chunked else []
    if got.values(b"content-length") != lengths:
        return f"Content-Length is {got.values(b'content-length')}"
    options = {b"upgrade"} if is_upgrade(sent) else set()
    options |= {b"te"} if takes_trailers(sent) else set()
    if list_members(got.values(b"connection")) != options:
        return f"Connection is {got.values(b'connection')}"
    return None
