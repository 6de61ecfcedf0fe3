"""Targets and Host. Owns nothing; never repairs, never chooses between two hosts."""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy

from pingora_c.base.ascii cimport equals_nocase, is_digit
from pingora_c.h1.field_table cimport FieldTable
from pingora_c.h1.verdict cimport BAD_HOST, BAD_TARGET_FORM, HEAD_OK, MANY_HOSTS, NO_HOST
from pingora_c.http.field cimport FIELD_REMOVED, NAME_HOST, Field
from pingora_c.http.header_block cimport block_field, block_find_known, block_set
from pingora_c.lib.ascii cimport PG_LOWER, PG_TOKEN
from pingora_c.lib.socket cimport AF_INET6, inet_pton

cdef enum:
    IPV6_TEXT_MAX = 45                       # "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
    PORT_MAX = 65535


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
    cdef const Field* host
    cdef Py_ssize_t row
    cdef uint32_t i
    cdef int code
    if authority.size:
        text = head.block.base + head.target.at + authority.at
        code = block_set(&head.block, b"Host", 4, text, authority.size)
        if code < 0:
            return code
    row = block_find_known(&head.block, NAME_HOST, 0)
    if row >= 0:
        host = block_field(&head.block, <uint32_t>row)
        text = head.block.base + host.value_at
        for i in range(host.value_size):
            text[i] = <char>PG_LOWER[<uint8_t>text[i]]
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


def is_authority(bytes text not None) -> bool:
    """Return whether `text` is uri-host [":" port]."""
    return is_valid_authority(text, <size_t>len(text))
