"""Protocols of Upgrade fields. Owns nothing."""
from libc.string cimport memchr

from pingora_c.base.ascii cimport equals_nocase, is_token
from pingora_c.h1.members cimport next_member
from pingora_c.h1.verdict cimport BAD_UPGRADE, HEAD_OK
from pingora_c.http.field cimport NAME_UPGRADE, Field
from pingora_c.http.header_block cimport block_field, block_find_known


cdef bint is_http_or_tls(const char* name, size_t size) noexcept nogil:
    if size == 2:
        return equals_nocase(name, b"h2", 2)
    if size == 3:
        return equals_nocase(name, b"h2c", 3) or equals_nocase(name, b"tls", 3)
    return size == 4 and equals_nocase(name, b"http", 4)


cdef int read_protocols(const char* text, size_t size, uint32_t* n, bint* is_http) noexcept nogil:
    cdef size_t at = 0, start = 0, member_size = 0, name_size
    cdef const char* slash
    while next_member(text, size, &at, &start, &member_size):
        if member_size == 0:
            continue
        slash = <const char*>memchr(text + start, 0x2f, member_size)
        name_size = member_size if slash == NULL else <size_t>(slash - text) - start
        if not is_token(text + start, name_size) or (
                slash != NULL and not is_token(slash + 1, member_size - name_size - 1)):
            return BAD_UPGRADE
        n[0] += 1
        if is_http_or_tls(text + start, name_size):
            is_http[0] = True
    return HEAD_OK


cdef bint names_websocket(const HeaderBlock* block) noexcept nogil:
    cdef Py_ssize_t row = block_find_known(block, NAME_UPGRADE, 0)
    cdef const Field* field
    if row < 0:
        return False
    field = block_field(block, <uint32_t>row)
    return field.value_size == 9 and equals_nocase(block.base + field.value_at, b"websocket", 9)


cdef bint is_offered(const HeaderBlock* request, const char* protocol, size_t size) noexcept nogil:
    cdef size_t at, start = 0, member_size = 0
    cdef Py_ssize_t row = block_find_known(request, NAME_UPGRADE, 0)
    cdef const Field* field
    while row >= 0:
        field = block_field(request, <uint32_t>row)
        at = 0
        while next_member(request.base + field.value_at, field.value_size, &at, &start, &member_size):
            if member_size == size and equals_nocase(request.base + field.value_at + start, protocol, size):
                return True
        row = block_find_known(request, NAME_UPGRADE, <uint32_t>row + 1)
    return False


cdef bint are_offered(const HeaderBlock* request, const HeaderBlock* response) noexcept nogil:
    cdef size_t at, start = 0, member_size = 0
    cdef Py_ssize_t row = block_find_known(response, NAME_UPGRADE, 0)
    cdef const Field* field
    while row >= 0:
        field = block_field(response, <uint32_t>row)
        at = 0
        while next_member(response.base + field.value_at, field.value_size, &at, &start, &member_size):
            if member_size and not is_offered(request, response.base + field.value_at + start, member_size):
                return False
        row = block_find_known(response, NAME_UPGRADE, <uint32_t>row + 1)
    return True
