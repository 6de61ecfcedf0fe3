"""The two access-log formats.

Owns the cached time texts. Never allocates, never trusts a byte of a field, never sees a header map: who fills the
record decides what is logged.
"""
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset, strlen
from libc.time cimport gmtime_r, time_t, tm

cdef enum:
    FIXED_ROOM = 640      # more than a line takes without its texts
    TIME_COMBINED = 28    # [24/Nov/2026:19:40:37 +0000]
    TIME_JSON = 20        # 2026-11-24T19:40:37.
    NOT_YET = -1

cdef int64_t LAST_MS = 253402300799999   # the end of the year 9999: RFC 3339 has four digits for it
cdef const char* HEX = "0123456789ABCDEF"
cdef const char** MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
cdef unsigned char PLAIN[256]            # 1 for printable ASCII but quote and backslash
cdef char combined_time[96]
cdef char json_time[96]
cdef int64_t cached_second = NOT_YET


cdef void fill_plain() noexcept nogil:
    cdef int c
    for c in range(256):
        PLAIN[c] = 0x20 <= c < 0x7f and c != c'"' and c != c'\\'

fill_plain()


cdef void refresh_time(int64_t second) noexcept nogil:
    """Make both time texts for `second`, at most once a second."""
    global cached_second
    cdef tm parts
    cdef time_t moment = <time_t>second
    if second == cached_second:
        return
    gmtime_r(&moment, &parts)
    snprintf(combined_time, sizeof(combined_time), "[%02d/%s/%04d:%02d:%02d:%02d +0000]", parts.tm_mday,
             MONTHS[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec)
    snprintf(json_time, sizeof(json_time), "%04d-%02d-%02dT%02d:%02d:%02d.", parts.tm_year + 1900, parts.tm_mon + 1,
             parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec)
    cached_second = second


cdef inline char* put_literal(char* at, const char* text) noexcept nogil:
    cdef size_t size = strlen(text)
    memcpy(at, text, size)
    return at + size


cdef char* put_number(char* at, uint64_t number, int least_digits) noexcept nogil:
    cdef char digits[24]
    cdef int size = 0
    while number or size < least_digits:
        size += 1
        digits[24 - size] = <char>(c"0" + number % 10)
        number //= 10
    memcpy(at, digits + 24 - size, size)
    return at + size


cdef inline size_t escape_size(unsigned char c, bint is_json) noexcept nogil:
    if not is_json:
        return 4
    return 2 if c == c'"' or c == c'\\' else 6


cdef char* put_escape(char* at, unsigned char c, bint is_json) noexcept nogil:
    if not is_json:
        at = put_literal(at, "\\x")
    elif c == c'"' or c == c'\\':
        at[0] = c'\\'
        at[1] = <char>c
        return at + 2
    else:
        at = put_literal(at, "\\u00")
    at[0] = HEX[c >> 4]
    at[1] = HEX[c & 15]
    return at + 2


cdef char* put_escaped(char* at, const char* text, size_t size, size_t share, bint is_json) noexcept nogil:
    """Write `text` so that every octet is plain; at most `share` bytes, the end replaced by "..." if that is short."""
    cdef char* limit = at + share
    cdef char* cut = at              # the last place between two octets from which "..." still fits
    cdef size_t i = 0, run, taken
    while i < size:
        run = i
        while run < size and PLAIN[<unsigned char>text[run]]:
            run += 1
        run -= i
        taken = min(run, <size_t>(limit - at))
        memcpy(at, text + i, taken)
        if limit - 3 >= at:
            cut = min(at + taken, limit - 3)
        at += taken
        i += run
        if taken < run:
            return put_literal(cut, "...")
        if i < size:
            if <size_t>(limit - at) < escape_size(<unsigned char>text[i], is_json):
                return put_literal(cut, "...")
            at = put_escape(at, <unsigned char>text[i], is_json)
            i += 1
    return at


cdef inline char* put_combined_text(char* at, LogText text, size_t share) noexcept nogil:
    if text.size == 0:
        at[0] = c"-"
        return at + 1
    return put_escaped(at, text.at, text.size, share, False)


cdef inline char* put_protocol(char* at, const AccessRecord* record) noexcept nogil:
    if record.protocol != NULL:
        return put_literal(at, record.protocol)
    return put_number(put_literal(at, "HTTP/1."), record.minor_version, 1)


cdef size_t format_combined(const AccessRecord* record, char* out, size_t room) noexcept nogil:
    cdef char* at = out
    cdef size_t share
    if room < LINE_MIN:
        return 0
    share = (room - FIXED_ROOM) // 16
    refresh_time(min(max(record.at_ms, 0), LAST_MS) // 1000)
    at = put_combined_text(at, record.client, share)
    at = put_literal(at, " - - ")
    memcpy(at, combined_time, TIME_COMBINED)
    at = put_literal(at + TIME_COMBINED, ' "')
    if record.method.size == 0:
        at = put_literal(at, "-")
    else:
        at = put_escaped(at, record.method.at, record.method.size, share, False)
        at = put_literal(at, " ")
        at = put_escaped(at, record.target.at, record.target.size, share * 8, False)
        at = put_protocol(put_literal(at, " "), record)
    at = put_literal(at, '" ')
    at = put_number(at, record.status, 3)
    at = put_literal(at, " ")
    at = put_number(at, record.sent_bytes, 1)
    at = put_literal(at, ' "')
    at = put_combined_text(at, record.referer, share)
    at = put_literal(at, '" "')
    at = put_combined_text(at, record.user_agent, share)
    at = put_literal(at, '"\n')
    return at - out


cdef char* put_json_text(char* at, const char* key, LogText text, size_t share) noexcept nogil:
    at = put_literal(at, key)
    if text.size == 0:
        return put_literal(at, "null")
    at = put_literal(at, '"')
    at = put_escaped(at, text.at, text.size, share, True)
    return put_literal(at, '"')


cdef char* put_json_ms(char* at, const char* key, int64_t duration_us) noexcept nogil:
    at = put_literal(at, key)
    if duration_us < 0:
        return put_literal(at, "null")
    at = put_number(at, <uint64_t>duration_us // 1000, 1)
    at = put_literal(at, ".")
    return put_number(at, <uint64_t>duration_us % 1000, 3)


cdef char* put_json_time(char* at, int64_t at_ms) noexcept nogil:
    refresh_time(at_ms // 1000)
    at = put_literal(at, '{"time":"')
    memcpy(at, json_time, TIME_JSON)
    at = put_number(at + TIME_JSON, at_ms % 1000, 3)
    return put_literal(at, 'Z"')


cdef size_t format_json(const AccessRecord* record, char* out, size_t room) noexcept nogil:
    cdef char* at
    cdef size_t share
    cdef LogText error, spoken
    if room < LINE_MIN:
        return 0
    share = (room - FIXED_ROOM) // 16
    at = put_json_time(out, min(max(record.at_ms, 0), LAST_MS))
    at = put_json_text(at, ',"client":', record.client, share)
    at = put_json_text(at, ',"method":', record.method, share)
    at = put_json_text(at, ',"target":', record.target, share * 8)
    at = put_protocol(put_literal(at, ',"protocol":"'), record)
    at = put_literal(at, '","status":')
    at = put_number(at, record.status, 1) if record.status else put_literal(at, "null")
    at = put_literal(at, ',"bytes_sent":')
    at = put_number(at, record.sent_bytes, 1)
    at = put_literal(at, ',"bytes_received":')
    at = put_number(at, record.received_bytes, 1)
    at = put_json_ms(at, ',"duration_ms":', record.total_us)
    at = put_json_ms(at, ',"connect_ms":', record.connect_us)
    at = put_json_ms(at, ',"first_byte_ms":', record.first_byte_us)
    at = put_json_text(at, ',"upstream":', record.upstream, share)
    spoken.at = record.upstream_protocol
    spoken.size = strlen(record.upstream_protocol) if record.upstream_protocol != NULL else 0
    at = put_json_text(at, ',"upstream_protocol":', spoken, share)
    at = put_literal(at, ',"attempts":')
    at = put_number(at, record.attempts, 1)
    at = put_literal(at, ',"reused":')
    at = put_literal(at, "true" if record.reused else "false")
    at = put_json_text(at, ',"host":', record.host, share)
    at = put_json_text(at, ',"user_agent":', record.user_agent, share)
    at = put_json_text(at, ',"referer":', record.referer, share)
    at = put_json_text(at, ',"request_id":', record.request_id, share)
    error.at = record.error
    error.size = strlen(record.error) if record.error != NULL else 0
    at = put_json_text(at, ',"error":', error, share)
    at = put_literal(at, "}\n")
    return at - out


cdef int take_text(LogText* text, dict fields, str name, list kept) except -1:
    """Move `name` from `fields` to `text`; `kept` keeps the bytes alive."""
    value = fields.pop(name, None)
    text.at = NULL
    text.size = 0
    if value is None:
        return 0
    value = value if isinstance(value, bytes) else str(value).encode()
    kept.append(value)
    text.at = <bytes>value
    text.size = <size_t>len(<bytes>value)
    return 0


def format_line(str style, *, Py_ssize_t room=LINE_ROOM, **fields) -> bytes:
    """Return one access-log line in `style` ("combined" or "json") from fields named as in `AccessRecord`.

    Texts are bytes or str, None or left out means absent. Raises ValueError for another style or too little room and
    TypeError for an unknown field.
    """
    cdef AccessRecord record
    cdef LogText error, spoken
    cdef list kept = []
    cdef bytearray out = bytearray(max(room, 0))
    cdef size_t size
    memset(&record, 0, sizeof(record))
    take_text(&record.client, fields, "client", kept)
    take_text(&record.method, fields, "method", kept)
    take_text(&record.target, fields, "target", kept)
    take_text(&record.host, fields, "host", kept)
    take_text(&record.referer, fields, "referer", kept)
    take_text(&record.user_agent, fields, "user_agent", kept)
    take_text(&record.request_id, fields, "request_id", kept)
    take_text(&record.upstream, fields, "upstream", kept)
    take_text(&spoken, fields, "upstream_protocol", kept)
    record.upstream_protocol = spoken.at
    take_text(&error, fields, "error", kept)
    record.error = error.at
    record.minor_version = fields.pop("minor_version", 1)
    record.status = fields.pop("status", 0)
    record.reused = fields.pop("reused", False)
    record.attempts = fields.pop("attempts", 0)
    record.sent_bytes = fields.pop("sent_bytes", 0)
    record.received_bytes = fields.pop("received_bytes", 0)
    record.at_ms = fields.pop("at_ms", 0)
    record.total_us = fields.pop("total_us", -1)
    record.connect_us = fields.pop("connect_us", -1)
    record.first_byte_us = fields.pop("first_byte_us", -1)
    if fields:
        raise TypeError(f"unknown field of an access record: {next(iter(fields))}")
    if style == "combined":
        size = format_combined(&record, <char*>out, <size_t>len(out))
    elif style == "json":
        size = format_json(&record, <char*>out, <size_t>len(out))
    else:
        raise ValueError(f"unknown access-log format {style!r}, expected 'combined' or 'json'")
    if size == 0:
        raise ValueError(f"room for a line is at least {LINE_MIN} bytes, not {room}")
    return bytes(out[:size])
