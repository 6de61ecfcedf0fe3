"""Encoder of HTTP/1.1 heads and chunk lines. Writes into the caller's buffer; owns nothing.

Never copies a field that frames the message or belongs to the connection: those are written anew from `Outgoing`.
"""
from http import HTTPStatus

from libc.stdint cimport int64_t
from libc.string cimport memchr, memcmp, memcpy, memset, strlen

from pingora_c.base.ascii cimport equals_nocase, put_decimal
from pingora_c.base.clock cimport DATE_SIZE, date_text
from pingora_c.h1.max_forwards cimport HOPS_UNLIMITED, max_forwards
from pingora_c.http.field cimport (
    FIELD_REMOVED, FIELD_WRITTEN, NAME_CONNECTION, NAME_CONTENT_LENGTH, NAME_DATE, NAME_EXPECT, NAME_FORWARDED,
    NAME_HOST,
    NAME_HTTP2_SETTINGS, NAME_KEEP_ALIVE, NAME_MAX_FORWARDS, NAME_OTHER, NAME_PROXY_CONNECTION, NAME_TE,
    NAME_TRANSFER_ENCODING, NAME_UPGRADE, NAME_X_FORWARDED_FOR, NAME_X_FORWARDED_HOST, NAME_X_FORWARDED_PORT,
    NAME_X_FORWARDED_PROTO, NAME_X_REAL_IP, Field, KnownName, is_forwarding_name,
)
from pingora_c.http.header_block cimport block_field, block_find_known
from pingora_c.http.message cimport HTTP2_MINOR, METHOD_OPTIONS

cdef enum:
    COLON = 58

# Removed in both directions: RFC 9110 §7.6.1 and the legacy ones.
cdef uint64_t HOP_BY_HOP = (
    (<uint64_t>1 << <int>NAME_CONNECTION) | (<uint64_t>1 << <int>NAME_KEEP_ALIVE)
    | (<uint64_t>1 << <int>NAME_PROXY_CONNECTION) | (<uint64_t>1 << <int>NAME_TRANSFER_ENCODING)
    | (<uint64_t>1 << <int>NAME_CONTENT_LENGTH) | (<uint64_t>1 << <int>NAME_TE) | (<uint64_t>1 << <int>NAME_UPGRADE)
    | (<uint64_t>1 << <int>NAME_HTTP2_SETTINGS)
)
cdef uint64_t X_FORWARDED = (      # what put_x_forwarded writes
    (<uint64_t>1 << <int>NAME_X_FORWARDED_FOR) | (<uint64_t>1 << <int>NAME_X_FORWARDED_HOST)
    | (<uint64_t>1 << <int>NAME_X_FORWARDED_PROTO)
)
cdef uint64_t FORWARDED = (
    X_FORWARDED | (<uint64_t>1 << <int>NAME_X_FORWARDED_PORT) | (<uint64_t>1 << <int>NAME_X_REAL_IP)
    | (<uint64_t>1 << <int>NAME_FORWARDED)
)
cdef Skips ANSWER_SKIPS = Skips(HOP_BY_HOP, 0, False)
cdef Skips NO_SKIPS = Skips(0, 0, False)
cdef const char* HEX = "0123456789abcdef"
cdef char PHRASES[24000]   # 600 phrases of up to 39 bytes and a NUL, by status
memset(PHRASES, 0, sizeof(PHRASES))


cdef int load_phrases() except -1:
    cdef bytes phrase
    for status in HTTPStatus:
        phrase = status.phrase.encode("ascii")
        if len(phrase) < 40 and status.value < 600:
            memcpy(PHRASES + 40 * <int>status.value, <const char*>phrase, len(phrase))
    return 0


load_phrases()


cdef const char* reason_phrase(uint16_t status) noexcept nogil:
    return &PHRASES[40 * status if status < 600 else 0]


cdef inline char* put(char* out, const char* text, size_t size) noexcept nogil:
    memcpy(out, text, size)
    return out + size


cdef bint is_left_out(const HeaderBlock* block, const Field* field, const Skips* skips) noexcept nogil:
    if field.known != NAME_OTHER:
        return (skips.known >> field.known) & 1 and not (
            field.flags & FIELD_WRITTEN and (skips.unless_written >> field.known) & 1)
    return (skips.aliases and not field.flags & FIELD_WRITTEN
            and is_forwarding_name(block.base + field.name_at, field.name_size))


cdef char* put_fields(char* out, const HeaderBlock* block, const Skips* skips) noexcept nogil:
    cdef Field* field
    cdef uint32_t i
    for i in range(block.n):
        field = block_field(block, i)
        if field.flags & FIELD_REMOVED or is_left_out(block, field, skips):
            continue
        out = put(out, block.base + field.name_at, field.name_size)
        out = put(out, b": ", 2)
        out = put(out, block.base + field.value_at, field.value_size)
        out = put(out, b"\r\n", 2)
    return out


cdef char* put_connection(char* out, const Outgoing* how) noexcept nogil:
    if not (how.is_upgrade or how.takes_trailers or how.close or how.keep_alive):
        return out
    out = put(out, b"Connection: ", 12)
    if how.is_upgrade:
        out = put(out, b"upgrade, ", 9)
    if how.takes_trailers:
        out = put(out, b"TE, ", 4)
    if how.close:
        out = put(out, b"close, ", 7)
    elif how.keep_alive:
        out = put(out, b"keep-alive, ", 12)
    return put(out - 2, b"\r\n", 2)


cdef char* put_framing(char* out, const Outgoing* how) noexcept nogil:
    if how.framing == FRAME_LENGTH:
        out = put(out, b"Content-Length: ", 16)
        out = put_decimal(out, how.length)
        out = put(out, b"\r\n", 2)
    elif how.framing == FRAME_CHUNKED:
        out = put(out, b"Transfer-Encoding: chunked\r\n", 28)
    if how.takes_trailers:
        out = put(out, b"TE: trailers\r\n", 14)
    return put_connection(out, how)


cdef char* put_values(char* out, const HeaderBlock* block, KnownName name) noexcept nogil:
    """All values of a list field, each with a comma behind it."""
    cdef Py_ssize_t i = block_find_known(block, name, 0)
    cdef Field* field
    while i >= 0:
        field = block_field(block, <uint32_t>i)
        if field.value_size:
            out = put(out, block.base + field.value_at, field.value_size)
            out = put(out, b", ", 2)
        i = block_find_known(block, name, <uint32_t>i + 1)
    return out


cdef char* put_x_forwarded(char* out, const HeaderBlock* block, const Outgoing* how) noexcept nogil:
    """X-Forwarded-For, -Host and -Proto of this hop; a trusted sender's list is continued and its Host and Proto
    kept.
    """
    cdef Py_ssize_t i
    cdef Field* field
    out = put(out, b"X-Forwarded-For: ", 17)
    if how.is_trusted:
        out = put_values(out, block, NAME_X_FORWARDED_FOR)
    out = put(out, how.client, how.client_size)
    out = put(out, b"\r\n", 2)
    if not (how.is_trusted and block_find_known(block, NAME_X_FORWARDED_PROTO, 0) >= 0):
        out = put(out, b"X-Forwarded-Proto: ", 19)
        out = put(out, how.proto, strlen(how.proto))
        out = put(out, b"\r\n", 2)
    if not (how.is_trusted and block_find_known(block, NAME_X_FORWARDED_HOST, 0) >= 0):
        i = block_find_known(block, NAME_HOST, 0)
        if i >= 0:
            field = block_field(block, <uint32_t>i)
            out = put(out, b"X-Forwarded-Host: ", 18)
            out = put(out, block.base + field.value_at, field.value_size)
            out = put(out, b"\r\n", 2)
    return out


cdef char* put_standard_forwarded(char* out, const HeaderBlock* block, const Outgoing* how) noexcept nogil:
    """Forwarded of this hop (RFC 7239 §4); a trusted sender's list is continued."""
    cdef Py_ssize_t i = block_find_known(block, NAME_HOST, 0)
    cdef Field* field
    cdef bint is_ipv6 = memchr(how.client, COLON, how.client_size) != NULL
    out = put(out, b"Forwarded: ", 11)
    if how.is_trusted:
        out = put_values(out, block, NAME_FORWARDED)
    if is_ipv6:
        out = put(out, b"for=\"[", 6)
    else:
        out = put(out, b"for=", 4)
    if how.client_size == 4 and memcmp(how.client, b"unix", 4) == 0:
        out = put(out, b"unknown", 7)
    else:
        out = put(out, how.client, how.client_size)
    if is_ipv6:
        out = put(out, b"]\"", 2)
    if i >= 0 and block_field(block, <uint32_t>i).value_size:
        field = block_field(block, <uint32_t>i)
        out = put(out, b";host=\"", 7)      # a valid authority holds no quote and no backslash
        out = put(out, block.base + field.value_at, field.value_size)
        out = put(out, b"\"", 1)
    out = put(out, b";proto=", 7)
    out = put(out, how.proto, strlen(how.proto))
    return put(out, b"\r\n", 2)


cdef char* put_upgrade(char* out, const HeaderBlock* block) noexcept nogil:
    cdef Py_ssize_t i = block_find_known(block, NAME_UPGRADE, 0)
    cdef Field* field
    while i >= 0:
        field = block_field(block, <uint32_t>i)
        out = put(out, b"Upgrade: ", 9)
        out = put(out, block.base + field.value_at, field.value_size)
        out = put(out, b"\r\n", 2)
        i = block_find_known(block, NAME_UPGRADE, <uint32_t>i + 1)
    return out


cdef size_t request_room(RequestHead head) noexcept:
    # values of Host, X-Forwarded-For and Forwarded may be written up to three times
    return 3 * <size_t>head.block.used + 8 * <size_t>head.block.n + FIXED_ROOM


cdef size_t response_room(ResponseHead head) noexcept:
    return <size_t>head.block.used + 8 * <size_t>head.block.n + FIXED_ROOM


cdef char* put_target(char* out, RequestHead head) noexcept:
    """The target as received; an absolute form becomes origin form (RFC 9112 §3.2.1), Host was set from it before.

    OPTIONS of an absolute form without path and query becomes "*" (RFC 9112 §3.2.4).
    """
    cdef const char* target = head.block.base + head.target.at
    cdef uint32_t size = head.target.size
    cdef uint32_t at = 0
    if size and target[0] != 47 and size > 7 and (equals_nocase(target, b"http://", 7) or (
            size > 8 and equals_nocase(target, b"https://", 8))):
        at = 8
        while at < size and target[at] != 47 and target[at] != 63:
            at += 1
        if at == size or target[at] == 63:
            out[0] = 42 if at == size and head.method_id == METHOD_OPTIONS else 47
            out += 1
    return put(out, target + at, size - at)


cdef Skips request_skips(RequestHead head, const Outgoing* how, int64_t* hops) noexcept:
    cdef uint64_t skip = HOP_BY_HOP
    cdef Skips skips
    skips.aliases = how.client != NULL and not how.is_trusted
    skips.unless_written = FORWARDED
    if how.forwarded & <int>FORWARD_X:
        skips.unless_written &= ~X_FORWARDED
    if how.forwarded & <int>FORWARD_STANDARD:
        skips.unless_written &= ~(<uint64_t>1 << <int>NAME_FORWARDED)
    hops[0] = HOPS_UNLIMITED
    if head.method_id == METHOD_OPTIONS:
        hops[0] = max_forwards(&head.block)     # goes on with one less (RFC 9110 §7.6.2)
    if hops[0] >= 0:
        skip |= <uint64_t>1 << <int>NAME_MAX_FORWARDS
    if skips.aliases:
        skip |= FORWARDED
    elif how.client != NULL:
        if how.forwarded & <int>FORWARD_X:
            skip |= <uint64_t>1 << <int>NAME_X_FORWARDED_FOR
        if how.forwarded & <int>FORWARD_STANDARD:
            skip |= <uint64_t>1 << <int>NAME_FORWARDED
    if how.drop_expect:
        skip |= <uint64_t>1 << <int>NAME_EXPECT
    skips.known = skip
    return skips


cdef char* put_via(char* out, uint8_t minor, const char* via, size_t size) noexcept nogil:
    out = put(out, b"2.0 " if minor == HTTP2_MINOR else b"1.1 " if minor else b"1.0 ", 4)
    return put(out, via, size)


cdef char* put_added(char* out, RequestHead head, const Outgoing* how, int64_t hops) noexcept:
    if how.client != NULL and how.forwarded & <int>FORWARD_X:
        out = put_x_forwarded(out, &head.block, how)
    if how.client != NULL and how.forwarded & <int>FORWARD_STANDARD:
        out = put_standard_forwarded(out, &head.block, how)
    if how.via != NULL:      # behind those of the hops before, which were copied
        out = put(out, b"Via: ", 5)
        out = put_via(out, head.minor, how.via, how.via_size)
        out = put(out, b"\r\n", 2)
    if hops >= 0:
        out = put(out, b"Max-Forwards: ", 14)
        out = put_decimal(out, <uint64_t>hops - 1 if hops else 0)
        out = put(out, b"\r\n", 2)
    return out


cdef size_t encode_request(RequestHead head, const Outgoing* how, char* out) noexcept:
    cdef char* start = out
    cdef int64_t hops = HOPS_UNLIMITED
    cdef Skips skips = request_skips(head, how, &hops)
    out = put(out, head.block.base + head.method.at, head.method.size)
    out[0] = 32
    out = put_target(out + 1, head)
    out = put(out, b" HTTP/1.1\r\n", 11)
    out = put_fields(out, &head.block, &skips)
    if how.host != NULL and block_find_known(&head.block, NAME_HOST, 0) < 0:
        out = put(out, b"Host: ", 6)
        out = put(out, how.host, how.host_size)
        out = put(out, b"\r\n", 2)
    out = put_added(out, head, how, hops)
    if how.is_upgrade:
        out = put_upgrade(out, &head.block)
    out = put_framing(out, how)
    out = put(out, b"\r\n", 2)
    return out - start


cdef size_t encode_response(ResponseHead head, const Outgoing* how, char* out) noexcept:
    cdef char* start = out
    cdef const char* phrase
    cdef const char* date
    out = put(out, b"HTTP/1.1 ", 9)
    out = put_decimal(out, head.status_code)
    out[0] = 32
    out += 1
    if head.reason.size:
        out = put(out, head.block.base + head.reason.at, head.reason.size)
    else:
        phrase = reason_phrase(head.status_code)
        out = put(out, phrase, strlen(phrase))
    out = put(out, b"\r\n", 2)
    out = put_fields(out, &head.block, &ANSWER_SKIPS)
    # RFC 9110 §6.6.1: a response without Date gets one; an interim response needs none.
    if head.status_code >= 200 and block_find_known(&head.block, NAME_DATE, 0) < 0:
        out = put(out, b"Date: ", 6)
        date = date_text()
        out = put(out, date, DATE_SIZE)
        out = put(out, b"\r\n", 2)
    if how.is_upgrade:
        out = put_upgrade(out, &head.block)
    out = put_framing(out, how)
    out = put(out, b"\r\n", 2)
    return out - start


cdef size_t trailers_room(const HeaderBlock* block) noexcept nogil:
    return <size_t>block.used + 8 * <size_t>block.n + 16


cdef size_t encode_trailers(const HeaderBlock* block, bint is_first, char* out) noexcept nogil:
    cdef char* start = out
    if not is_first:
        out = put(out, b"\r\n", 2)
    out = put(out, b"0\r\n", 3)
    out = put_fields(out, block, &NO_SKIPS)
    out = put(out, b"\r\n", 2)
    return out - start


cdef size_t encode_chunk_line(uint64_t size, bint is_first, char* out) noexcept nogil:
    cdef char* start = out
    cdef char digits[16]
    cdef int at = 16
    while True:
        at -= 1
        digits[at] = HEX[size & 15]
        size >>= 4
        if size == 0:
            break
    if not is_first:
        out = put(out, b"\r\n", 2)
    out = put(out, digits + at, <size_t>(16 - at))
    return put(out, b"\r\n", 2) - start
