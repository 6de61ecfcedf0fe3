"""The outcome of calls that this proxy answers by itself."""
from urllib.parse import quote

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport strlen
from pingora_c.base.ascii cimport equals_nocase
from pingora_c.h2.section cimport FieldSection
from pingora_c.http.field cimport NAME_CONTENT_TYPE, Field
from pingora_c.http.header_block cimport (
    BLOCK_OK, HeaderBlock, block_add, block_field, block_find, block_find_known, block_may_hold,
)

from pingora_c.proxy.response import Response as MakeResponse

cdef enum:
    TYPE_SIZE = 16          # of "application/grpc"
    ZERO = 48               # of the digits
    DIGITS_MAX = 8          # of a timeout
    MESSAGE_MAX = 1024      # bytes of a hook's answer that become the message

# The status of gRPC by that of HTTP, as clients read it from servers that speak none, but with what a proxy knows
# better: a time limit (504) is DEADLINE_EXCEEDED, since a call that may be at work is not one to repeat, and a size is
# RESOURCE_EXHAUSTED.
cdef dict STATUSES = {
    400: 13, 401: 16, 403: 7, 404: 12, 405: 12, 408: 1, 413: 8, 429: 8, 431: 8,
    500: 13, 501: 12, 502: 14, 503: 14, 504: 4,
}
cdef int UNKNOWN = 2


cdef bint is_grpc_type(const char* value, uint32_t size) noexcept nogil:
    if size < TYPE_SIZE or not equals_nocase(value, b"application/grpc", TYPE_SIZE):
        return False
    return size == TYPE_SIZE or value[TYPE_SIZE] == b"+" or value[TYPE_SIZE] == b";"


cdef bint holds_grpc_type(HeaderBlock* block) noexcept nogil:
    cdef Py_ssize_t at
    cdef Field* field
    if not block_may_hold(block, NAME_CONTENT_TYPE):
        return False
    at = block_find_known(block, NAME_CONTENT_TYPE, 0)
    if at < 0:
        return False
    field = block_field(block, <uint32_t>at)
    return is_grpc_type(block.base + field.value_at, field.value_size)


cdef bint is_grpc(RequestHead head) noexcept:
    return holds_grpc_type(&head.block)


cdef uint64_t grpc_timeout_ms(RequestHead head) noexcept:
    cdef Py_ssize_t at
    cdef Field* field
    cdef const char* text
    cdef uint64_t number = 0
    cdef uint32_t i, digit
    if not is_grpc(head):
        return 0
    at = block_find(&head.block, b"grpc-timeout", 12, 0)
    if at < 0:
        return 0
    field = block_field(&head.block, <uint32_t>at)
    if not 2 <= field.value_size <= DIGITS_MAX + 1:
        return 0
    text = head.block.base + field.value_at
    for i in range(field.value_size - 1):
        digit = <unsigned char>text[i] - ZERO
        if digit > 9:
            return 0
        number = 10 * number + digit
    return in_ms(number, text[field.value_size - 1])


cdef uint64_t in_ms(uint64_t number, char unit) noexcept nogil:
    """At least 1 for a timeout of whatever unit, 0 for a unit that there is not."""
    cdef uint64_t per_unit_ns
    if unit == b"H":
        per_unit_ns = 3600 * <uint64_t>1000000000
    elif unit == b"M":
        per_unit_ns = 60 * <uint64_t>1000000000
    elif unit == b"S":
        per_unit_ns = 1000000000
    elif unit == b"m":
        per_unit_ns = 1000000
    elif unit == b"u":
        per_unit_ns = 1000
    elif unit == b"n":
        per_unit_ns = 1
    else:
        return 0
    # 10^8 hours in nanoseconds are past 64 bits, in milliseconds they are not
    if per_unit_ns >= 1000000:
        number *= per_unit_ns // 1000000
    else:
        number = number * per_unit_ns // 1000000
    return number if number else 1


cdef bint holds_grpc(const FieldSection* section) noexcept nogil:
    cdef const Field* field
    cdef uint32_t i
    for i in range(section.n):
        field = section.fields + i
        if field.known == NAME_CONTENT_TYPE:
            return is_grpc_type(section.bytes + field.value_at, field.value_size)
    return False


cdef Response as_grpc(bint is_call, Response response, const char* reason):
    cdef Response made
    cdef int http_status = response.head.status_code
    if not is_call or holds_grpc_type(&response.head.block) or response.stream is not None and http_status == 200:
        return response
    if reason != NULL:
        message = reason.decode("ascii")
    else:
        message = response.body[:MESSAGE_MAX].decode("utf-8", "replace").strip() or f"HTTP status {http_status}"
    headers = [(name, value) for name, value in response.headers.items()
               if name.lower() not in ("content-type", "content-encoding", "grpc-status", "grpc-message")]
    made = <Response>MakeResponse(200, [
        ("content-type", "application/grpc"),
        ("grpc-status", str(STATUSES.get(http_status, UNKNOWN))),
        ("grpc-message", quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")),
        *headers,
    ])
    return made


cdef Trailers call_status(int http_status, const char* reason):
    cdef Trailers trailers = Trailers.__new__(Trailers)
    cdef bytes code = str(STATUSES.get(http_status, UNKNOWN)).encode()
    if (block_add(&trailers.block, b"grpc-status", 11, code, <uint32_t>len(code)) != BLOCK_OK
            or block_add(&trailers.block, b"grpc-message", 12, reason, <uint32_t>strlen(reason)) != BLOCK_OK):
        raise MemoryError
    return trailers


def probe(request_head, response=None, reason=None):
    """For tests: whether a request is a call, how long it may take, and an answer to it."""
    cdef RequestHead head = request_head
    cdef bytes text = reason
    return is_grpc(head), grpc_timeout_ms(head), (
        None if response is None else as_grpc(is_grpc(head), response, NULL if text is None else <const char*>text))
