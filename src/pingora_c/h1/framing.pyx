"""How long a body is, whether the connection lives on, and whom a request is for: RFC 9112 §3.2, §6 and §9.3 over a
parsed head.

Owns nothing, reads no body. Never chooses between two readings of a head: where two parsers could differ, the head is
refused.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from pingora_c.base.ascii cimport equals_nocase, is_digit, is_token
from pingora_c.base.span cimport Span
from pingora_c.http.field cimport (
    FIELD_REMOVED, NAME_CONNECTION, NAME_CONTENT_LENGTH, NAME_HOST, NAME_TRANSFER_ENCODING, NAME_UPGRADE, Field,
    recognise,
)
from pingora_c.lib.ascii cimport PG_TOKEN
from pingora_c.lib.scan cimport pg_equals_lower
from pingora_c.lib.socket cimport AF_INET6, inet_pton

cdef enum:
    LENGTH_MAX_DIV_10 = 922337203685477580   # (2**63 - 1) // 10; the last digit may be up to 7
    IPV6_TEXT_MAX = 45                       # "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
    PORT_MAX = 65535

# What the framing fields of one head say, before they are weighed against each other.
cdef struct Facts:
    uint64_t length
    int coding             # FRAMING_OK for exactly `chunked`, or the error that the codings amount to
    bint has_length
    bint has_coding
    bint has_upgrade       # an Upgrade field is there
    bint has_h2c           # an Upgrade field names h2c
    uint32_t n_members     # of all Connection fields
    bint names_close
    bint names_keep_alive
    bint names_upgrade


cdef inline bint is_gap(char c) noexcept nogil:
    return c == 0x20 or c == 0x09


cdef bint next_member(const char* text, size_t size, size_t* at, size_t* start, size_t* member_size) noexcept nogil:
    """Cut the next member of a comma-separated list, white space around it left out; False behind the last."""
    cdef const char* comma
    cdef size_t end
    if at[0] > size:
        return False
    comma = <const char*>memchr(text + at[0], 0x2c, size - at[0])
    end = <size_t>(comma - text) if comma != NULL else size
    start[0] = at[0]
    at[0] = end + 1
    while start[0] < end and is_gap(text[start[0]]):
        start[0] += 1
    while end > start[0] and is_gap(text[end - 1]):
        end -= 1
    member_size[0] = end - start[0]
    return True


cdef int read_length(const char* text, size_t size, uint64_t* length) noexcept nogil:
    """Content-Length = 1*DIGIT (RFC 9110 §8.6), below 2**63."""
    cdef uint64_t value = 0
    cdef size_t i
    if size == 0:
        return FRAMING_BAD_LENGTH
    for i in range(size):
        if not is_digit(text[i]):
            return FRAMING_BAD_LENGTH
        if value > LENGTH_MAX_DIV_10 or (value == LENGTH_MAX_DIV_10 and text[i] > 0x37):
            return FRAMING_BAD_LENGTH
        value = value * 10 + <uint64_t>(text[i] - 0x30)
    length[0] = value
    return FRAMING_OK


cdef int read_coding(const char* text, size_t size) noexcept nogil:
    """FRAMING_OK for exactly `chunked`; another coding is unknown if the list is well formed and chunked at most
    its last member.
    """
    cdef size_t at = 0, start = 0, member_size = 0
    cdef bint is_chunked = False
    cdef bint has_other = False
    while next_member(text, size, &at, &start, &member_size):
        if is_chunked or not is_token(text + start, member_size):
            return FRAMING_BAD_CODING
        is_chunked = member_size == 7 and pg_equals_lower(text + start, "chunked", 7)
        if not is_chunked:
            has_other = True
    return FRAMING_UNKNOWN_CODING if has_other else FRAMING_OK


cdef int read_connection(const char* text, size_t size, Facts* facts) noexcept nogil:
    """Note the members of one Connection field. Empty members are allowed (RFC 9110 §5.6.1.2)."""
    cdef size_t at = 0, start = 0, member_size = 0
    while next_member(text, size, &at, &start, &member_size):
        if member_size == 0:
            continue
        facts.n_members += 1
        if facts.n_members > CONNECTION_MEMBERS_MAX or not is_token(text + start, member_size):
            return FRAMING_BAD_CONNECTION
        if member_size == 5 and pg_equals_lower(text + start, "close", 5):
            facts.names_close = True
        elif member_size == 10 and pg_equals_lower(text + start, "keep-alive", 10):
            facts.names_keep_alive = True
        elif member_size == 7 and pg_equals_lower(text + start, "upgrade", 7):
            facts.names_upgrade = True
    return FRAMING_OK


cdef bint names_h2c(const char* text, size_t size) noexcept nogil:
    cdef size_t at = 0, start = 0, member_size = 0
    while next_member(text, size, &at, &start, &member_size):
        if member_size == 3 and pg_equals_lower(text + start, "h2c", 3):
            return True
    return False


cdef int read_facts(const char* base, const Field* fields, uint32_t n_fields, Facts* facts) noexcept nogil:
    """Fill `facts`; FRAMING_OK or the first error inside one field."""
    cdef const Field* field
    cdef const char* value
    cdef uint32_t i
    cdef int error = FRAMING_OK
    facts[0] = Facts(
        length=0, coding=FRAMING_OK, has_length=False, has_coding=False, has_upgrade=False, has_h2c=False,
        n_members=0, names_close=False, names_keep_alive=False, names_upgrade=False,
    )
    for i in range(n_fields):
        field = fields + i
        if field.flags & FIELD_REMOVED:
            continue
        value = base + field.value_at
        if field.known == NAME_CONTENT_LENGTH:
            # Equal repetitions are refused too: RFC 9112 §6.3 lets a recipient choose.
            error = FRAMING_BAD_LENGTH if facts.has_length else read_length(value, field.value_size, &facts.length)
            facts.has_length = True
        elif field.known == NAME_TRANSFER_ENCODING:
            facts.coding = FRAMING_BAD_CODING if facts.has_coding else read_coding(value, field.value_size)
            facts.has_coding = True
        elif field.known == NAME_CONNECTION:
            error = read_connection(value, field.value_size, facts)
        elif field.known == NAME_UPGRADE:
            facts.has_upgrade = True
            facts.has_h2c = facts.has_h2c or names_h2c(value, field.value_size)
        if error != FRAMING_OK:
            return error
    return FRAMING_OK


cdef int weigh(const Facts* facts, uint8_t minor, Framing* framing) noexcept nogil:
    """What holds for requests and responses alike: the kind by fields alone, persistence, upgrade."""
    framing.kind = BODY_NONE
    framing.length = facts.length
    framing.has_length = facts.has_length
    framing.keep_alive = not facts.names_close and (minor > 0 or facts.names_keep_alive)
    # RFC 9110 §7.8: Upgrade in an HTTP/1.0 message is ignored. h2c is obsolete (RFC 9113 §3.1), and a way to send an
    # origin requests that no hook sees.
    framing.upgrade = minor > 0 and facts.names_upgrade and facts.has_upgrade and not facts.has_h2c
    if facts.has_coding:
        if facts.has_length:
            return FRAMING_BOTH
        if minor == 0:
            return FRAMING_CODING_IN_HTTP10
        framing.kind = BODY_CHUNKED
        return facts.coding
    if facts.length:
        framing.kind = BODY_LENGTH
    return FRAMING_OK


cdef int request_framing(
    const char* base, const Field* fields, uint32_t n_fields, uint8_t minor, Framing* framing,
) noexcept nogil:
    cdef Facts facts
    cdef int error = read_facts(base, fields, n_fields, &facts)
    return error if error != FRAMING_OK else weigh(&facts, minor, framing)


cdef int response_framing(
    const char* base, const Field* fields, uint32_t n_fields, uint8_t minor, uint16_t status,
    bint to_head, bint to_connect, bint to_upgrade, Framing* framing,
) noexcept nogil:
    cdef Facts facts
    cdef int error = read_facts(base, fields, n_fields, &facts)
    if error == FRAMING_OK:
        error = weigh(&facts, minor, framing)
    if error != FRAMING_OK:
        return error
    if status < 200 or status == 204:
        # RFC 9112 §6.1 and RFC 9110 §8.6; "Content-Length: 0" is a common slip and cannot be misread.
        if facts.has_coding or facts.length:
            return FRAMING_UNEXPECTED_TRANSFER
        if status == 101 and not to_upgrade:
            return FRAMING_UNEXPECTED_TRANSFER
    if status == 101 or (to_connect and 200 <= status < 300):
        framing.kind = BODY_TUNNEL
        framing.keep_alive = False
    elif to_head or status < 200 or status == 204 or status == 304:
        framing.kind = BODY_NONE
    elif not facts.has_length and not facts.has_coding:
        framing.kind = BODY_CLOSE
        framing.keep_alive = False
    return FRAMING_OK


cdef bint is_port(const char* text, size_t size) noexcept nogil:
    """*DIGIT, at most 65535."""
    cdef uint32_t port = 0
    cdef size_t i
    for i in range(size):
        if not is_digit(text[i]):
            return False
        port = port * 10 + <uint32_t>(text[i] - 0x30)
        if port > PORT_MAX:
            return False
    return True


cdef bint is_ipv6(const char* text, size_t size) noexcept nogil:
    cdef char terminated[IPV6_TEXT_MAX + 1]
    cdef unsigned char address[16]
    if size == 0 or size > IPV6_TEXT_MAX or memchr(text, 0, size) != NULL:
        return False
    memcpy(terminated, text, size)
    terminated[size] = 0
    return inet_pton(AF_INET6, terminated, address) == 1


cdef inline bint is_hex(char c) noexcept nogil:
    return is_digit(c) or 0x61 <= (c | 0x20) <= 0x66


cdef size_t reg_name_size(const char* text, size_t size) noexcept nogil:
    """Bytes of the reg-name at the front: unreserved, pct-encoded, sub-delims but ",", which only a joined list of
    hosts has.
    """
    cdef size_t at = 0
    cdef char c
    while at < size:
        c = text[at]
        if c == 0x25:
            if size - at < 3 or not is_hex(text[at + 1]) or not is_hex(text[at + 2]):
                break
            at += 3
            continue
        # tchar beyond unreserved and sub-delims: "#", "%", "^", "`", "|"; sub-delims beyond tchar: "(", ")", ";", "=".
        if PG_TOKEN[<uint8_t>c]:
            if c == 0x23 or c == 0x5e or c == 0x60 or c == 0x7c:
                break
        elif c != 0x28 and c != 0x29 and c != 0x3b and c != 0x3d:
            break
        at += 1
    return at


cdef bint is_valid_authority(const char* text, size_t size) noexcept nogil:
    cdef const char* bracket
    cdef size_t at
    if size and text[0] == 0x5b:
        bracket = <const char*>memchr(text, 0x5d, size)
        if bracket == NULL or not is_ipv6(text + 1, <size_t>(bracket - text) - 1):
            return False
        at = <size_t>(bracket - text) + 1
    else:
        at = reg_name_size(text, size)
    if at == 0:
        return False
    return at == size or (text[at] == 0x3a and is_port(text + at + 1, size - at - 1))


cdef inline size_t scheme_size(const char* target, size_t size) noexcept nogil:
    """Bytes of "http://" or "https://" at the front, else 0."""
    if size > 7 and equals_nocase(target, "http://", 7):
        return 7
    return 8 if size > 8 and equals_nocase(target, "https://", 8) else 0


cdef int check_target(
    const char* method, size_t method_size, const char* target, size_t size, Span* authority,
) noexcept nogil:
    cdef size_t start, end
    authority[0] = Span(at=0, size=0)
    if method_size == 7 and memcmp(method, b"CONNECT", 7) == 0:
        # Authority form has a port, without a default (RFC 9112 §3.2.3).
        if not is_valid_authority(target, size) or memchr(target, 0x3a, size) == NULL or not is_digit(target[size - 1]):
            return FRAMING_BAD_TARGET
        authority.size = <uint32_t>size
        return FRAMING_OK
    if size and target[0] == 0x2f:
        return FRAMING_OK
    if size == 1 and target[0] == 0x2a:
        return FRAMING_OK if method_size == 7 and memcmp(method, b"OPTIONS", 7) == 0 else FRAMING_BAD_TARGET
    start = end = scheme_size(target, size)
    if start == 0:
        return FRAMING_BAD_TARGET
    while end < size and target[end] != 0x2f and target[end] != 0x3f:
        end += 1
    # An "@" is no part of a valid authority: userinfo misleads (RFC 9110 §4.2.4).
    if not is_valid_authority(target + start, end - start):
        return FRAMING_BAD_TARGET
    authority[0] = Span(at=<uint32_t>start, size=<uint32_t>(end - start))
    return FRAMING_OK


cdef int check_host(
    const char* base, const Field* fields, uint32_t n_fields, uint8_t minor,
) noexcept nogil:
    cdef const Field* host = NULL
    cdef uint32_t i
    for i in range(n_fields):
        if fields[i].known != NAME_HOST or fields[i].flags & FIELD_REMOVED:
            continue
        if host != NULL:
            return FRAMING_MANY_HOSTS
        host = fields + i
    if host == NULL:
        return FRAMING_NO_HOST if minor > 0 else FRAMING_OK
    return FRAMING_OK if is_valid_authority(base + host.value_at, host.value_size) else FRAMING_BAD_HOST


cdef int framing_error_status(int error) noexcept nogil:
    return 501 if error == FRAMING_UNKNOWN_CODING else 400


cdef const char* framing_error_reason(int error) noexcept nogil:
    if error == FRAMING_BAD_LENGTH:
        return "bad_content_length"
    if error == FRAMING_BAD_CODING:
        return "bad_transfer_encoding"
    if error == FRAMING_UNKNOWN_CODING:
        return "unknown_transfer_coding"
    if error == FRAMING_BOTH:
        return "length_and_coding"
    if error == FRAMING_CODING_IN_HTTP10:
        return "coding_in_http10"
    if error == FRAMING_NO_HOST:
        return "no_host"
    if error == FRAMING_MANY_HOSTS:
        return "many_hosts"
    if error == FRAMING_BAD_HOST:
        return "bad_host"
    if error == FRAMING_BAD_CONNECTION:
        return "bad_connection"
    if error == FRAMING_BAD_TARGET:
        return "bad_target_form"
    if error == FRAMING_UNEXPECTED_TRANSFER:
        return "unexpected_transfer"
    return "unknown"


cdef class _Fields:
    """A field table made from Python pairs, as the head parser would make it."""

    cdef bytes text
    cdef Field[64] rows
    cdef uint32_t n

    def __cinit__(self, pairs):
        cdef Field* field
        cdef bytes name
        at = 0
        self.text = b"".join([name + value for name, value in pairs])
        if len(pairs) > 64:
            raise ValueError("more than 64 fields")
        for name, value in pairs:
            field = &self.rows[self.n]
            field.name_at = at
            field.name_size = len(name)
            field.value_at = at + len(name)
            field.value_size = len(value)
            field.known = <uint8_t>recognise(<const char*>name, <size_t>len(name))
            field.flags = 0
            at += len(name) + len(value)
            self.n += 1


cdef tuple describe(const Framing* framing):
    kind = ("none", "length", "chunked", "close", "tunnel")[framing.kind]
    return kind, framing.length, bool(framing.keep_alive), bool(framing.upgrade), bool(framing.has_length)


def request_body(fields, uint8_t minor=1):
    """Decide a request's body from (name, value) pairs: (kind, length, keep_alive, upgrade, has_length), or a
    negative error.
    """
    cdef _Fields table = _Fields(fields)
    cdef Framing framing
    cdef int error = request_framing(table.text, table.rows, table.n, minor, &framing)
    return error if error != FRAMING_OK else describe(&framing)


def response_body(
    fields, uint16_t status, uint8_t minor=1, bint to_head=False, bint to_connect=False, bint to_upgrade=False,
):
    """Decide a response's body in the same way."""
    cdef _Fields table = _Fields(fields)
    cdef Framing framing
    cdef int error = response_framing(
        table.text, table.rows, table.n, minor, status, to_head, to_connect, to_upgrade, &framing)
    return error if error != FRAMING_OK else describe(&framing)


def host_error(fields, uint8_t minor=1) -> int:
    """Check the Host fields among (name, value) pairs: 0 or a negative error."""
    cdef _Fields table = _Fields(fields)
    return check_host(table.text, table.rows, table.n, minor)


def target_authority(bytes method not None, bytes target not None):
    """Check a target against its method: the authority in it, which may be empty, or a negative error."""
    cdef Span authority
    cdef int error = check_target(method, <size_t>len(method), target, <size_t>len(target), &authority)
    return error if error != FRAMING_OK else target[authority.at:authority.at + authority.size]


def is_authority(bytes text not None) -> bool:
    """Return whether `text` is uri-host [":" port]."""
    return is_valid_authority(text, <size_t>len(text))


def framing_status(int error) -> int:
    """Return the HTTP status that answers a client's bad framing."""
    return framing_error_status(error)


def framing_reason(int error) -> str:
    """Return the reason of a negative verdict in snake case."""
    return framing_error_reason(error).decode("ascii")
