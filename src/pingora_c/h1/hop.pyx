"""Removal of what Connection names. Owns nothing; the standard hop-by-hop fields are left to the encoder."""
from libc.stdint cimport uint32_t, uint64_t

from pingora_c.base.ascii cimport equals_nocase
from pingora_c.h1.members cimport next_member
from pingora_c.http.field cimport (
    NAME_CONNECTION, NAME_CONTENT_LENGTH, NAME_DATE, NAME_FORWARDED, NAME_HOST, NAME_KEEP_ALIVE, NAME_MAX_FORWARDS,
    NAME_PROXY_CONNECTION, NAME_TE, NAME_TRANSFER_ENCODING, NAME_UPGRADE, NAME_X_FORWARDED_FOR, NAME_X_FORWARDED_HOST,
    NAME_X_FORWARDED_PORT, NAME_X_FORWARDED_PROTO, NAME_X_REAL_IP, Field,
)
from pingora_c.http.header_block cimport block_field, block_find_known, is_live, remove_row

cdef uint64_t KEPT = (
    (<uint64_t>1 << <int>NAME_CONNECTION) | (<uint64_t>1 << <int>NAME_CONTENT_LENGTH) | (<uint64_t>1 << <int>NAME_DATE)
    | (<uint64_t>1 << <int>NAME_FORWARDED) | (<uint64_t>1 << <int>NAME_HOST) | (<uint64_t>1 << <int>NAME_KEEP_ALIVE)
    | (<uint64_t>1 << <int>NAME_MAX_FORWARDS)
    | (<uint64_t>1 << <int>NAME_PROXY_CONNECTION) | (<uint64_t>1 << <int>NAME_TE)
    | (<uint64_t>1 << <int>NAME_TRANSFER_ENCODING) | (<uint64_t>1 << <int>NAME_UPGRADE)
    | (<uint64_t>1 << <int>NAME_X_FORWARDED_FOR) | (<uint64_t>1 << <int>NAME_X_FORWARDED_HOST)
    | (<uint64_t>1 << <int>NAME_X_FORWARDED_PORT) | (<uint64_t>1 << <int>NAME_X_FORWARDED_PROTO)
    | (<uint64_t>1 << <int>NAME_X_REAL_IP)
)


cdef void remove_listed(HeaderBlock* block, const char* names, size_t size) noexcept nogil:
    """Remove the fields that the members of one Connection value name."""
    cdef size_t at = 0, start = 0, name_size = 0
    cdef uint32_t i
    cdef const Field* field
    while next_member(names, size, &at, &start, &name_size):
        for i in range(block.n):
            field = block_field(block, i)
            if (field.name_size == name_size and is_live(field) and not (KEPT >> field.known) & 1
                    and equals_nocase(block.base + field.name_at, names + start, name_size)):
                remove_row(block, i)


cdef void remove_named(HeaderBlock* block, const HeaderBlock* head) noexcept nogil:
    cdef Py_ssize_t row = block_find_known(head, NAME_CONNECTION, 0)
    cdef const Field* field
    while row >= 0:
        field = block_field(head, <uint32_t>row)
        remove_listed(block, head.base + field.value_at, field.value_size)
        row = block_find_known(head, NAME_CONNECTION, <uint32_t>row + 1)
