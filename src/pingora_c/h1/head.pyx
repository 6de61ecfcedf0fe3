"""HTTP/1 head parser (RFC 9112 §2–§5): start line and fields from bytes to spans.

Owns nothing: no state between calls, no allocation. Never repairs, never reads past the buffer, never decides what a
field means.

The verdict depends on the bytes alone, not on how they were cut into calls: a bad line is refused when its LF is
there, not before.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from pingora_c.base.ascii cimport is_digit
from pingora_c.base.span cimport Span
from pingora_c.http.field cimport Field, recognise
from pingora_c.lib.scan cimport pg_scan_target, pg_scan_text, pg_scan_token

cdef enum:
    HTAB = 0x09
    LF = 0x0a
    CR = 0x0d
    SP = 0x20
    COLON = 0x3a
    METHOD_MAX = 64
    VERSION_SIZE = 8       # of "HTTP/1.1"
    NAME_MAX = 0xffff      # what Field.name_size holds


cdef inline bint has_line_end(const char* buf, size_t at, size_t end) noexcept nogil:
    return at < end and memchr(buf + at, LF, end - at) != NULL


cdef inline Py_ssize_t judge(
    const char* buf, size_t line_at, size_t end, bint is_full, Py_ssize_t error,
) noexcept nogil:
    """Hold an error back until the line it is in has ended, so that it does not depend on where the bytes were cut."""
    return error if is_full or has_line_end(buf, line_at, end) else <Py_ssize_t>H1_INCOMPLETE


cdef inline Py_ssize_t line_end(const char* buf, size_t at, size_t end, int otherwise) noexcept nogil:
    """Offset behind the CRLF at `at`; `otherwise` is the error if another byte than CR or LF is there."""
    if at == end:
        return H1_INCOMPLETE
    if buf[at] == CR:
        if at + 1 == end:
            return H1_INCOMPLETE
        return <Py_ssize_t>at + 2 if buf[at + 1] == LF else <Py_ssize_t>H1_BAD_LINE_END
    return H1_BAD_LINE_END if buf[at] == LF else otherwise


cdef inline int version_at(const char* buf, size_t at, int otherwise) noexcept nogil:
    """Minor version, 0 or 1, of the eight bytes at `at`, or an error: `otherwise` if they have not the form of a
    version.
    """
    if memcmp(buf + at, b"HTTP/1.1", VERSION_SIZE) == 0:
        return 1
    if memcmp(buf + at, b"HTTP/", 5) != 0 or not is_digit(buf[at + 5]) or buf[at + 6] != 0x2e \
            or not is_digit(buf[at + 7]):
        return otherwise
    if buf[at + 5] != 0x31:
        return H1_BAD_VERSION
    return buf[at + 7] != 0x30


cdef Py_ssize_t request_line(
    const char* buf, size_t at, size_t end, uint32_t target_bytes, RequestLine* line,
) noexcept nogil:
    """Parse the request line at `at`; return the offset behind it or an error."""
    cdef size_t start = at
    cdef Py_ssize_t behind
    cdef int minor

    at = pg_scan_token(buf, at, end)
    if at - start > METHOD_MAX:
        return H1_METHOD_TOO_LONG
    if at == end:
        return H1_INCOMPLETE
    if buf[at] == CR or buf[at] == LF:
        return H1_BAD_REQUEST_LINE
    if buf[at] != SP or at == start:
        return H1_BAD_METHOD
    line.method = Span(at=<uint32_t>start, size=<uint32_t>(at - start))

    start = at + 1
    at = pg_scan_target(buf, start, end)
    if at - start > target_bytes:
        return H1_TARGET_TOO_LONG
    if at == end:
        return H1_INCOMPLETE
    if buf[at] == CR or buf[at] == LF:
        return H1_BAD_REQUEST_LINE
    if buf[at] != SP or at == start:
        return H1_BAD_TARGET
    line.target = Span(at=<uint32_t>start, size=<uint32_t>(at - start))

    at += 1
    if end - at < VERSION_SIZE:
        # Without an LF in it judge() turns this into H1_INCOMPLETE.
        return H1_BAD_REQUEST_LINE
    minor = version_at(buf, at, H1_BAD_REQUEST_LINE)
    if minor == H1_BAD_REQUEST_LINE:
        return minor
    behind = line_end(buf, at + VERSION_SIZE, end, H1_BAD_REQUEST_LINE)
    if behind < 0:
        return behind
    if minor < 0:
        return minor
    line.minor = <uint8_t>minor
    return behind


cdef Py_ssize_t status_line(const char* buf, size_t end, StatusLine* line) noexcept nogil:
    """Parse the status line at the start; return the offset behind it or an error."""
    cdef size_t at = VERSION_SIZE + 4
    cdef size_t reason_at
    cdef Py_ssize_t behind
    cdef int minor

    if end < at:
        return H1_BAD_STATUS_LINE
    minor = version_at(buf, 0, H1_BAD_STATUS_LINE)
    if minor == H1_BAD_STATUS_LINE:
        return minor
    if buf[8] != SP or not is_digit(buf[9]) or not is_digit(buf[10]) or not is_digit(buf[11]):
        return H1_BAD_STATUS_LINE
    line.status = <uint16_t>((buf[9] - 0x30) * 100 + (buf[10] - 0x30) * 10 + (buf[11] - 0x30))

    reason_at = at
    if at < end and buf[at] == SP:
        reason_at = at + 1
        at = pg_scan_text(buf, reason_at, end)
    behind = line_end(buf, at, end, H1_BAD_STATUS_LINE)
    if behind < 0:
        return behind
    if minor < 0:
        return minor
    if not 100 <= line.status <= 599:
        return H1_BAD_STATUS_LINE
    line.reason = Span(at=<uint32_t>reason_at, size=<uint32_t>(at - reason_at))
    line.minor = <uint8_t>minor
    return behind


cdef inline Py_ssize_t field_line(const char* buf, size_t at, size_t end, Field* field) noexcept nogil:
    """Parse the field line at `at`; return the offset behind it or an error."""
    cdef size_t start = at
    cdef size_t name_size
    cdef Py_ssize_t behind

    at = pg_scan_token(buf, at, end)
    if at == end:
        return H1_INCOMPLETE
    name_size = at - start
    if buf[at] != COLON or name_size == 0:
        return H1_BAD_FIELD_NAME
    if name_size > NAME_MAX:
        return H1_HEAD_TOO_LARGE
    field.name_at = <uint32_t>start
    field.name_size = <uint16_t>name_size
    field.known = <uint8_t>recognise(buf + start, name_size)
    field.flags = 0

    start = at + 1
    while start < end and (buf[start] == SP or buf[start] == HTAB):
        start += 1
    at = pg_scan_text(buf, start, end)
    behind = line_end(buf, at, end, H1_BAD_FIELD_VALUE)
    if behind < 0:
        return behind
    while at > start and (buf[at - 1] == SP or buf[at - 1] == HTAB):
        at -= 1
    field.value_at = <uint32_t>start
    field.value_size = <uint32_t>(at - start)
    return behind


cdef Py_ssize_t field_section(
    const char* buf, size_t at, size_t end, bint is_full, uint32_t room, Field* fields, uint32_t* n_fields,
) noexcept nogil:
    """Parse field lines from `at` up to the empty line; return the offset behind that or an error that stands."""
    cdef Py_ssize_t behind
    cdef uint32_t n = 0

    while True:
        if at == end:
            return H1_INCOMPLETE
        if buf[at] == CR or buf[at] == LF:
            behind = line_end(buf, at, end, H1_BAD_LINE_END)
            if behind < 0:
                return judge(buf, at, end, is_full, behind)
            n_fields[0] = n
            return behind
        if n == room:
            return judge(buf, at, end, is_full, H1_TOO_MANY_FIELDS)
        behind = field_line(buf, at, end, fields + n)
        if behind < 0:
            return judge(buf, at, end, is_full, behind)
        n += 1
        at = <size_t>behind


cdef Py_ssize_t parse_request_head(
    const char* buf, size_t size, size_t seen, const HeadLimits* limits,
    RequestLine* line, Field* fields, uint32_t* n_fields,
) noexcept nogil:
    cdef bint is_full = size >= limits.head_bytes
    cdef size_t end = limits.head_bytes if is_full else size
    cdef size_t start = 0
    cdef Py_ssize_t at = 0

    if not is_full and (seen or end == 0) and not has_line_end(buf, seen, end):
        return H1_INCOMPLETE
    if end and (buf[0] == CR or buf[0] == LF):
        at = line_end(buf, 0, end, H1_BAD_LINE_END)
    if at >= 0:
        start = <size_t>at
        at = request_line(buf, start, end, limits.target_bytes, line)
    if at > 0:
        at = field_section(buf, <size_t>at, end, is_full, limits.fields, fields, n_fields)
    else:
        at = judge(buf, start, end, is_full, at)
    return H1_HEAD_TOO_LARGE if is_full and at == H1_INCOMPLETE else at


cdef Py_ssize_t parse_response_head(
    const char* buf, size_t size, size_t seen, const HeadLimits* limits,
    StatusLine* line, Field* fields, uint32_t* n_fields,
) noexcept nogil:
    cdef bint is_full = size >= limits.head_bytes
    cdef size_t end = limits.head_bytes if is_full else size
    cdef Py_ssize_t at

    if not is_full and (seen or end == 0) and not has_line_end(buf, seen, end):
        return H1_INCOMPLETE
    at = status_line(buf, end, line)
    if at > 0:
        at = field_section(buf, <size_t>at, end, is_full, limits.fields, fields, n_fields)
    else:
        at = judge(buf, 0, end, is_full, at)
    return H1_HEAD_TOO_LARGE if is_full and at == H1_INCOMPLETE else at


cdef Py_ssize_t parse_fields(
    const char* buf, size_t size, size_t at, const HeadLimits* limits, Field* fields, uint32_t* n_fields,
) noexcept nogil:
    cdef bint is_full = size - at >= limits.head_bytes
    cdef size_t end = at + limits.head_bytes if is_full else size
    cdef Py_ssize_t behind = field_section(buf, at, end, is_full, limits.fields, fields, n_fields)
    return H1_HEAD_TOO_LARGE if is_full and behind == H1_INCOMPLETE else behind


cdef int head_error_status(int error) noexcept nogil:
    if error == H1_TARGET_TOO_LONG:
        return 414
    if error == H1_BAD_VERSION:
        return 505
    if error == H1_TOO_MANY_FIELDS or error == H1_HEAD_TOO_LARGE:
        return 431
    if error == H1_METHOD_TOO_LONG:
        return 501
    return 400


cdef const char* head_error_reason(int error) noexcept nogil:
    if error == H1_INCOMPLETE:
        return "incomplete"
    if error == H1_BAD_REQUEST_LINE:
        return "bad_request_line"
    if error == H1_BAD_METHOD:
        return "bad_method"
    if error == H1_BAD_TARGET:
        return "bad_target"
    if error == H1_TARGET_TOO_LONG:
        return "target_too_long"
    if error == H1_BAD_VERSION:
        return "bad_version"
    if error == H1_BAD_STATUS_LINE:
        return "bad_status_line"
    if error == H1_BAD_LINE_END:
        return "bad_line_end"
    if error == H1_BAD_FIELD_NAME:
        return "bad_field_name"
    if error == H1_BAD_FIELD_VALUE:
        return "bad_field_value"
    if error == H1_TOO_MANY_FIELDS:
        return "too_many_fields"
    if error == H1_HEAD_TOO_LARGE:
        return "head_too_large"
    if error == H1_METHOD_TOO_LONG:
        return "method_too_long"
    return "unknown"


cdef class _Call:
    """One call from Python: the caller's memory, limits and a field table, given back when it dies."""

    cdef Py_buffer view
    cdef bint has_view
    cdef HeadLimits limits
    cdef Field* fields
    cdef uint32_t n_fields

    def __cinit__(self, data, uint32_t head_bytes, uint32_t target_bytes, uint32_t fields):
        PyObject_GetBuffer(data, &self.view, PyBUF_SIMPLE)
        self.has_view = True
        self.limits = HeadLimits(head_bytes=head_bytes, target_bytes=target_bytes, fields=fields)
        self.fields = <Field*>malloc((fields or 1) * sizeof(Field))
        if self.fields == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.fields)
        if self.has_view:
            PyBuffer_Release(&self.view)

    cdef const char* bytes(self) noexcept:
        return <const char*>self.view.buf

    cdef object cut(self, uint32_t at, uint32_t size):
        return self.bytes()[at:at + size]

    cdef list field_list(self):
        cdef Field* field
        cdef uint32_t i
        cdef list found = []
        for i in range(self.n_fields):
            field = self.fields + i
            found.append((
                self.cut(field.name_at, field.name_size), self.cut(field.value_at, field.value_size), field.known,
            ))
        return found


def parse_request(data, size_t seen=0, head_bytes=65536, target_bytes=8192, fields=128):
    """Parse a request head: (size, method, target, minor, [(name, value, known)]), or a negative error."""
    cdef _Call call = _Call(data, head_bytes, target_bytes, fields)
    cdef RequestLine line
    cdef Py_ssize_t size = parse_request_head(
        call.bytes(), <size_t>call.view.len, seen, &call.limits, &line, call.fields,
        &call.n_fields)
    if size < 0:
        return size
    return (
        size, call.cut(line.method.at, line.method.size), call.cut(line.target.at, line.target.size), line.minor,
        call.field_list(),
    )


def parse_response(data, size_t seen=0, head_bytes=65536, fields=128):
    """Parse a response head: (size, status, reason, minor, [(name, value, known)]), or a negative error."""
    cdef _Call call = _Call(data, head_bytes, 0, fields)
    cdef StatusLine line
    cdef Py_ssize_t size = parse_response_head(
        call.bytes(), <size_t>call.view.len, seen, &call.limits, &line, call.fields,
        &call.n_fields)
    if size < 0:
        return size
    return size, line.status, call.cut(line.reason.at, line.reason.size), line.minor, call.field_list()


def parse_trailers(data, size_t at=0, head_bytes=16384, fields=128):
    """Parse field lines from offset `at`: (offset behind the empty line, [(name, value, known)]), or a negative
    error.
    """
    cdef _Call call = _Call(data, head_bytes, 0, fields)
    cdef Py_ssize_t behind
    if at > <size_t>call.view.len:
        raise ValueError("at is behind the end of data")
    behind = parse_fields(call.bytes(), <size_t>call.view.len, at, &call.limits, call.fields, &call.n_fields)
    return behind if behind < 0 else (behind, call.field_list())


def repeat_request(data, size_t rounds, size_t seen=0):
    """Parse the same request head `rounds` times and make no object of it, for benchmarks; return the last verdict."""
    cdef _Call call = _Call(data, 65536, 8192, 128)
    cdef RequestLine line
    cdef Py_ssize_t size = 0
    cdef size_t _round
    with nogil:
        for _round in range(rounds):
            size = parse_request_head(
                <const char*>call.view.buf, <size_t>call.view.len, seen, &call.limits, &line, call.fields,
                &call.n_fields)
    return size


def head_status(int error) -> int:
    """Return the HTTP status that answers a client's bad head."""
    return head_error_status(error)


def head_reason(int error) -> str:
    """Return the reason of a negative verdict in snake case."""
    return head_error_reason(error).decode("ascii")
