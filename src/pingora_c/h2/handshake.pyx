"""Handshakes of WebSocket. Owns nothing."""
import base64
import hashlib
import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from pingora_c.http.field cimport Field
from pingora_c.http.header_block cimport (
    BLOCK_OK, HeaderBlock, block_add, block_append_bytes, block_field, block_find, block_remove, block_set,
)
from pingora_c.http.message cimport METHOD_GET

cdef bytes GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"     # RFC 6455 §1.3


cdef int become_upgrade(RequestHead head) except -1:
    cdef bytes key = base64.b64encode(os.urandom(16))
    if (block_append_bytes(&head.block, b"GET", 3, &head.method) != BLOCK_OK
            or block_add(&head.block, b"Upgrade", 7, b"websocket", 9) != BLOCK_OK
            or block_set(&head.block, b"Sec-WebSocket-Key", 17, PyBytes_AS_STRING(key),
                         <uint32_t>PyBytes_GET_SIZE(key)) != BLOCK_OK):
        raise MemoryError
    head.method_id = METHOD_GET
    return 0


cdef bytes only_value(const HeaderBlock* block, const char* name, uint32_t size):
    """The value of the field of this name; None unless there is one."""
    cdef Py_ssize_t row = block_find(block, name, size, 0)
    cdef const Field* field
    if row < 0 or block_find(block, name, size, <uint32_t>row + 1) >= 0:
        return None
    field = block_field(block, <uint32_t>row)
    return block.base[field.value_at:field.value_at + field.value_size]


cdef bytes accept_of(RequestHead head):
    cdef bytes key = only_value(&head.block, b"Sec-WebSocket-Key", 17)
    return None if key is None else base64.b64encode(hashlib.sha1(key + GUID).digest())


cdef bint is_accepted(RequestHead head, ResponseHead answer) except -1:
    cdef bytes accept = accept_of(head)
    return accept is not None and only_value(&answer.block, b"Sec-WebSocket-Accept", 20) == accept


cdef int become_switch(ResponseHead head, bytes accept) except -1:
    block_remove(&head.block, b"Content-Length", 14)      # RFC 9110 §9.3.6: ignored
    if (block_add(&head.block, b"Upgrade", 7, b"websocket", 9) != BLOCK_OK
            or block_set(&head.block, b"Sec-WebSocket-Accept", 20, PyBytes_AS_STRING(accept),
                         <uint32_t>PyBytes_GET_SIZE(accept)) != BLOCK_OK):
        raise MemoryError
    return 0
