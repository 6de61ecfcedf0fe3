"""Targets and Host. Owns nothing; never repairs, never chooses between two hosts."""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp

from pingora_c.base.ascii cimport equals_nocase, is_digit
from pingora_c.h1.field_table cimport FieldTable
from pingora_c.h1.verdict cimport BAD_HOST, BAD_TARGET_FORM, HEAD_OK, MANY_HOSTS, NO_HOST
from pingora_c.http.authority cimport is_valid_authority, settle_authority
from pingora_c.http.field cimport FIELD_REMOVED, NAME_HOST, Field
from pingora_c.http.header_block cimport block_field, block_find_known, block_set


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
            return BAD_TARGET_FORM
        authority.size = <uint32_t>size
        return HEAD_OK
    if size and target[0] == 0x2f:
        return HEAD_OK
    if size == 1 and target[0] == 0x2a:
        return HEAD_OK if method_size == 7 and memcmp(method, b"OPTIONS", 7) == 0 else BAD_TARGET_FORM
    start = end = scheme_size(target, size)
    if start == 0:
        return BAD_TARGET_FORM
    while end < size and target[end] != 0x2f and target[end] != 0x3f:
        end += 1
    # An "@" is no part of a valid authority: userinfo misleads (RFC 9110 §4.2.4).
    if not is_valid_authority(target + start, end - start):
        return BAD_TARGET_FORM
    authority[0] = Span(at=<uint32_t>start, size=<uint32_t>(end - start))
    return HEAD_OK


cdef int check_host(
    const char* base, const Field* fields, uint32_t n_fields, uint8_t minor,
) noexcept nogil:
    cdef const Field* host = NULL
    cdef uint32_t i
    for i in range(n_fields):
        if fields[i].known != NAME_HOST or fields[i].flags & FIELD_REMOVED:
            continue
        if host != NULL:
            return MANY_HOSTS
        host = fields + i
    if host == NULL:
        return NO_HOST if minor > 0 else HEAD_OK
    return HEAD_OK if is_valid_authority(base + host.value_at, host.value_size) else BAD_HOST


cdef int settle_host(RequestHead head, Span authority) noexcept:
    cdef char* text
    cdef Field* host
    cdef Py_ssize_t row
    cdef int code
    if authority.size:
        text = head.block.base + head.target.at + authority.at
        code = block_set(&head.block, b"Host", 4, text, authority.size)
        if code < 0:
            return code
    row = block_find_known(&head.block, NAME_HOST, 0)
    if row >= 0:
        host = block_field(&head.block, <uint32_t>row)
        host.value_size = <uint32_t>settle_authority(head.block.base + host.value_at, host.value_size)
    return HEAD_OK


def host_error(fields, uint8_t minor=1) -> int:
    """Check the Host fields among (name, value) pairs: 0 or a negative error."""
    cdef FieldTable table = FieldTable(fields)
    return check_host(table.text, table.rows, table.n, minor)


def target_authority(bytes method not None, bytes target not None):
    """Check a target against its method: the authority in it, which may be empty, or a negative error."""
    cdef Span authority
    cdef int error = check_target(method, <size_t>len(method), target, <size_t>len(target), &authority)
    return error if error != HEAD_OK else target[authority.at:authority.at + authority.size]
