"""Access-log lines. Owns nothing."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from pingora_c.http.field cimport (
    NAME_HOST, NAME_REFERER, NAME_USER_AGENT, NAME_X_REQUEST_ID, Field, KnownName,
)
from pingora_c.http.header_block cimport block_field, block_find_known
from pingora_c.http.message cimport HTTP2_MINOR
from pingora_c.lib.time cimport CLOCK_REALTIME, clock_gettime, timespec
from pingora_c.log.access cimport LINE_ROOM, LogText, format_combined, format_json


cdef inline LogText log_text(const char* at, size_t size) noexcept:
    cdef LogText text
    text.at = at
    text.size = size
    return text


cdef LogText text_of(RequestHead head, KnownName known) noexcept:
    cdef Py_ssize_t i = block_find_known(&head.block, known, 0)
    cdef Field* field
    if i < 0:
        return log_text(NULL, 0)
    field = block_field(&head.block, <uint32_t>i)
    return log_text(head.block.base + field.value_at, field.value_size)


cdef int write_record(Plan plan, AccessRecord* record, RequestHead head, HttpPeer peer) except -1:
    cdef char line[LINE_ROOM]
    cdef timespec now
    cdef size_t size
    cdef bytes upstream
    clock_gettime(CLOCK_REALTIME, &now)
    record.minor_version = 1
    if head is not None:
        record.minor_version = head.minor
        if head.minor == HTTP2_MINOR:
            record.protocol = b"HTTP/2.0"
        record.method = log_text(head.block.base + head.method.at, head.method.size)
        record.target = log_text(head.block.base + head.target.at, head.target.size)
        record.host = text_of(head, NAME_HOST)
        record.referer = text_of(head, NAME_REFERER)
        record.user_agent = text_of(head, NAME_USER_AGENT)
        record.request_id = text_of(head, NAME_X_REQUEST_ID)
    if peer is not None:
        upstream = peer.address.text.encode()
        record.upstream = log_text(PyBytes_AS_STRING(upstream), PyBytes_GET_SIZE(upstream))
    record.at_ms = now.tv_sec * 1000 + now.tv_nsec // 1000000
    if plan.access_format == ACCESS_JSON:
        size = format_json(record, line, LINE_ROOM)
    else:
        size = format_combined(record, line, LINE_ROOM)
    plan.access_writer.put(line, size)
    return 0
