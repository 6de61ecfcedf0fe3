"""How long a body is, whether the connection lives on, what is expected of it: RFC 9112 §6 and §9.3 over a parsed head.

Owns nothing, reads no body. Never chooses between two readings of a head: where two parsers could differ, the head is
refused.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from pingora_c.base.ascii cimport is_digit, is_token
from pingora_c.h1.field_table cimport FieldTable
from pingora_c.h1.members cimport next_member
from pingora_c.h1.upgrade cimport read_protocols
from pingora_c.h1.verdict cimport (
    BAD_CODING, BAD_CONNECTION, BAD_LENGTH, CODING_IN_HTTP10, FRAMING_ALIAS, HEAD_OK, LENGTH_AND_CODING,
    UNEXPECTED_TRANSFER, UNKNOWN_CODING, UNKNOWN_EXPECTATION,
)
from pingora_c.http.field cimport (
    FIELD_REMOVED, NAME_CONNECTION, NAME_CONTENT_LENGTH, NAME_EXPECT, NAME_OTHER, NAME_TE, NAME_TRANSFER_ENCODING,
    NAME_UPGRADE, Field, is_framing_alias,
)
from pingora_c.lib.scan cimport pg_equals_lower

cdef enum:
    LENGTH_MAX_DIV_10 = 922337203685477580   # (2**63 - 1) // 10; the last digit may be up to 7

# What the framing fields of one head say, before they are weighed against each other.
cdef struct Facts:
    uint64_t length
    int coding             # HEAD_OK for exactly `chunked`, or the error that the codings amount to
    bint has_length
    bint has_coding
    uint32_t n_protocols   # of all Upgrade fields
    bint has_http          # a version of HTTP or TLS is among them
    bint expects           # Expect: 100-continue
    bint has_unknown       # another expectation
    bint takes_trailers    # TE: trailers
    uint32_t n_members     # of all Connection fields
    bint names_close
    bint names_keep_alive
    bint names_upgrade
    bint names_te
    bint names_fields      # others than these four


cdef int read_length(const char* text, size_t size, uint64_t* length) noexcept nogil:
    """Content-Length = 1*DIGIT (RFC 9110 §8.6), below 2**63."""
    cdef uint64_t value = 0
    cdef size_t i
    if size == 0:
        return BAD_LENGTH
    for i in range(size):
        if not is_digit(text[i]):
            return BAD_LENGTH
        if value > LENGTH_MAX_DIV_10 or (value == LENGTH_MAX_DIV_10 and text[i] > 0x37):
            return BAD_LENGTH
        value = value * 10 + <uint64_t>(text[i] - 0x30)
    length[0] = value
    return HEAD_OK


cdef int read_coding(const char* text, size_t size) noexcept nogil:
    """HEAD_OK for exactly `chunked`; another coding is unknown if the list is well formed and chunked at most
    its last member.
    """
    cdef size_t at = 0, start = 0, member_size = 0
    cdef bint is_chunked = False
    cdef bint has_other = False
    while next_member(text, size, &at, &start, &member_size):
        if is_chunked or not is_token(text + start, member_size):
            return BAD_CODING
        is_chunked = member_size == 7 and pg_equals_lower(text + start, "chunked", 7)
        if not is_chunked:
            has_other = True
    return UNKNOWN_CODING if has_other else HEAD_OK


cdef int read_connection(const char* text, size_t size, Facts* facts) noexcept nogil:
    """Note the members of one Connection field. Empty members are allowed (RFC 9110 §5.6.1.2)."""
    cdef size_t at = 0, start = 0, member_size = 0
    while next_member(text, size, &at, &start, &member_size):
        if member_size == 0:
            continue
        facts.n_members += 1
        if facts.n_members > CONNECTION_MEMBERS_MAX or not is_token(text + start, member_size):
            return BAD_CONNECTION
        if member_size == 5 and pg_equals_lower(text + start, "close", 5):
            facts.names_close = True
        elif member_size == 10 and pg_equals_lower(text + start, "keep-alive", 10):
            facts.names_keep_alive = True
        elif member_size == 7 and pg_equals_lower(text + start, "upgrade", 7):
            facts.names_upgrade = True
        elif member_size == 2 and pg_equals_lower(text + start, "te", 2):
            facts.names_te = True
        else:
            facts.names_fields = True
    return HEAD_OK


cdef void read_expect(const char* text, size_t size, Facts* facts) noexcept nogil:
    cdef size_t at = 0, start = 0, member_size = 0
    while next_member(text, size, &at, &start, &member_size):
        if member_size == 12 and pg_equals_lower(text + start, "100-continue", 12):
            facts.expects = True
        elif member_size:
            facts.has_unknown = True


cdef void read_te(const char* text, size_t size, Facts* facts) noexcept nogil:
    cdef size_t at = 0, start = 0, member_size = 0
    while next_member(text, size, &at, &start, &member_size):
        if member_size == 8 and pg_equals_lower(text + start, "trailers", 8):
            facts.takes_trailers = True


cdef int read_facts(const char* base, const Field* fields, uint32_t n_fields, Facts* facts) noexcept nogil:
    """Fill `facts`; HEAD_OK or the first error inside one field."""
    cdef const Field* field
    cdef const char* value
    cdef uint32_t i
    cdef int error = HEAD_OK
    memset(facts, 0, sizeof(Facts))
    for i in range(n_fields):
        field = fields + i
        if field.flags & FIELD_REMOVED:
            continue
        value = base + field.value_at
        if field.known == NAME_CONTENT_LENGTH:
            # Equal repetitions are refused too: RFC 9112 §6.3 lets a recipient choose.
            error = BAD_LENGTH if facts.has_length else read_length(value, field.value_size, &facts.length)
            facts.has_length = True
        elif field.known == NAME_TRANSFER_ENCODING:
            facts.coding = BAD_CODING if facts.has_coding else read_coding(value, field.value_size)
            facts.has_coding = True
        elif field.known == NAME_CONNECTION:
            error = read_connection(value, field.value_size, facts)
        elif field.known == NAME_UPGRADE:
            error = read_protocols(value, field.value_size, &facts.n_protocols, &facts.has_http)
        elif field.known == NAME_EXPECT:
            read_expect(value, field.value_size, facts)
        elif field.known == NAME_TE:
            read_te(value, field.value_size, facts)
        elif field.known == NAME_OTHER and is_framing_alias(base + field.name_at, field.name_size):
            error = FRAMING_ALIAS
        if error != HEAD_OK:
            return error
    return HEAD_OK


cdef int weigh(const Facts* facts, uint8_t minor, Framing* framing) noexcept nogil:
    """What holds for requests and responses alike: the kind by fields alone, persistence, upgrade."""
    framing.kind = BODY_NONE
    framing.length = facts.length
    framing.has_length = facts.has_length
    framing.keep_alive = not facts.names_close and (minor > 0 or facts.names_keep_alive)
    # RFC 9110 §7.8: Upgrade in an HTTP/1.0 message is ignored.
    framing.upgrade = minor > 0 and facts.names_upgrade and facts.n_protocols > 0
    framing.names_fields = facts.names_fields
    framing.expects = framing.takes_trailers = False
    if facts.has_coding:
        if facts.has_length:
            return LENGTH_AND_CODING
        if minor == 0:
            return CODING_IN_HTTP10
        framing.kind = BODY_CHUNKED
        return facts.coding
    if facts.length:
        framing.kind = BODY_LENGTH
    return HEAD_OK


cdef int request_framing(
    const char* base, const Field* fields, uint32_t n_fields, uint8_t minor, Framing* framing,
) noexcept nogil:
    cdef Facts facts
    cdef int error = read_facts(base, fields, n_fields, &facts)
    if error == HEAD_OK:
        error = weigh(&facts, minor, framing)
    if error != HEAD_OK:
        return error
    if minor > 0:
        if facts.has_unknown:
            return UNKNOWN_EXPECTATION
        # Without a body there is nothing to wait with (RFC 9110 §10.1.1).
        framing.expects = facts.expects and framing.kind != BODY_NONE
        framing.takes_trailers = facts.names_te and facts.takes_trailers
    # Where the body ends and the new protocol begins must not be read in two ways: with a body it is no upgrade.
    framing.upgrade = framing.upgrade and framing.kind == BODY_NONE and not facts.has_http
    return HEAD_OK


cdef int response_framing(
    const char* base, const Field* fields, uint32_t n_fields, uint8_t minor, uint16_t status,
    bint to_head, bint to_connect, bint to_upgrade, Framing* framing,
) noexcept nogil:
    cdef Facts facts
    cdef int error = read_facts(base, fields, n_fields, &facts)
    if error == HEAD_OK:
        error = weigh(&facts, minor, framing)
    if error != HEAD_OK:
        return error
    if status < 200 or status == 204:
        # RFC 9112 §6.1 and RFC 9110 §8.6; "Content-Length: 0" is a common slip and cannot be misread.
        if facts.has_coding or facts.length:
            return UNEXPECTED_TRANSFER
        # RFC 9110 §7.8: a switch was asked for, and names the protocol
        if status == 101 and not (to_upgrade and framing.upgrade):
            return UNEXPECTED_TRANSFER
    if status == 205 and facts.length and not to_head:
        return UNEXPECTED_TRANSFER       # RFC 9110 §15.3.6; what has a coding is read to its end (RFC 9112 §6.3)
    if status == 101 or (to_connect and 200 <= status < 300):
        framing.kind = BODY_TUNNEL
        framing.keep_alive = False
    elif to_head or status < 200 or status == 204 or status == 304:
        framing.kind = BODY_NONE
    elif not facts.has_length and not facts.has_coding:
        framing.kind = BODY_CLOSE
        framing.keep_alive = False
    return HEAD_OK


cdef dict describe(const Framing* framing):
    return {
        "kind": ("none", "length", "chunked", "close", "tunnel")[framing.kind],
        "length": framing.length,
        "keep_alive": bool(framing.keep_alive),
        "upgrade": bool(framing.upgrade),
        "has_length": bool(framing.has_length),
        "expects": bool(framing.expects),
        "takes_trailers": bool(framing.takes_trailers),
        "names_fields": bool(framing.names_fields),
    }


def request_body(fields, uint8_t minor=1):
    """Decide a request's body from (name, value) pairs: the fields of Framing by name, or a negative verdict."""
    cdef FieldTable table = FieldTable(fields)
    cdef Framing framing
    cdef int error = request_framing(table.text, table.rows, table.n, minor, &framing)
    return error if error != HEAD_OK else describe(&framing)


def response_body(
    fields, uint16_t status, uint8_t minor=1, bint to_head=False, bint to_connect=False, bint to_upgrade=False,
):
    """Decide a response's body in the same way."""
    cdef FieldTable table = FieldTable(fields)
    cdef Framing framing
    cdef int error = response_framing(
        table.text, table.rows, table.n, minor, status, to_head, to_connect, to_upgrade, &framing)
    return error if error != HEAD_OK else describe(&framing)
