"""The PROXY protocol. Strict: what two receivers could read differently is refused. No socket, no Python."""
from libc.stdint cimport uint32_t
from libc.string cimport memchr, memcmp, memcpy, memset, strlen
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from pingora_c.base.ascii cimport is_digit, put_decimal
from pingora_c.lib.socket cimport AF_INET, AF_INET6, inet_ntop, inet_pton

cdef enum:
    TEXT_MOST = 46           # INET6_ADDRSTRLEN
    PATH_SIZE = 108          # of a Unix address in version 2
    V2_FIXED = 16            # signature, version and command, family, length
    LF = 10
    CR = 13
    SPACE = 32
    DOT = 46
    ZERO = 48
    COMMAND_LOCAL = 0x20     # with the version
    COMMAND_PROXY = 0x21
    TLV_CRC32C = 0x03
    TLV_UNIQUE_ID = 0x05

cdef uint32_t CASTAGNOLI = 0x82F63B78U
cdef const char* V1_START = b"PROXY "
cdef const char* SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"      # 12 bytes
cdef const char* REASONS[8]
REASONS[0] = b"proxy_header_incomplete"
REASONS[1] = b"proxy_header_missing"
REASONS[2] = b"proxy_header_bad_line"
REASONS[3] = b"proxy_header_too_long"
REASONS[4] = b"proxy_header_bad_version"
REASONS[5] = b"proxy_header_bad_length"
REASONS[6] = b"proxy_header_bad_tlv"
REASONS[7] = b"proxy_header_bad_checksum"


cdef const char* proxy_reason(int code) noexcept nogil:
    return REASONS[-code]


cdef bint read_ipv4(const char* text, size_t size, uint8_t* out) noexcept nogil:
    """Four decimal numbers without leading zeros, which some read as octal."""
    cdef size_t i, digits = 0
    cdef uint32_t number = 0
    cdef int part = 0
    for i in range(size + 1):
        if i < size and is_digit(text[i]):
            if digits == 3 or (digits and number == 0):
                return False
            number = number * 10 + <uint32_t>(text[i] - ZERO)
            digits += 1
        elif digits and number < 256 and part < 4 and (i == size or text[i] == DOT):
            out[part] = <uint8_t>number
            part += 1
            number = 0
            digits = 0
        else:
            return False
    return part == 4


cdef bint read_ipv6(const char* text, size_t size, uint8_t* out) noexcept nogil:
    cdef char copy[TEXT_MOST]
    if size >= TEXT_MOST or memchr(text, 0, size) != NULL:
        return False
    memcpy(copy, text, size)
    copy[size] = 0
    return inet_pton(AF_INET6, copy, out) == 1


cdef bint read_port(const char* text, size_t size, uint16_t* out) noexcept nogil:
    cdef size_t i
    cdef uint32_t number = 0
    if not 1 <= size <= 5 or (size > 1 and text[0] == ZERO):
        return False
    for i in range(size):
        if not is_digit(text[i]):
            return False
        number = number * 10 + <uint32_t>(text[i] - ZERO)
    out[0] = <uint16_t>number
    return number <= 65535


cdef bint read_words(const char* line, size_t size, ProxyHeader* header) noexcept nogil:
    """The four words behind "TCP4 " or "TCP6 ", each behind one space."""
    cdef Span words[4]
    cdef size_t at = 0, i
    cdef int n = 0
    for i in range(size + 1):
        if i < size and line[i] != SPACE:
            continue
        if n == 4:
            return False
        words[n].at = <uint32_t>at
        words[n].size = <uint32_t>(i - at)
        n += 1
        at = i + 1
    if n != 4 or not read_port(line + words[2].at, words[2].size, &header.source_port) or (
            not read_port(line + words[3].at, words[3].size, &header.destination_port)):
        return False
    if header.family == PROXY_INET:
        return (read_ipv4(line + words[0].at, words[0].size, header.source)
                and read_ipv4(line + words[1].at, words[1].size, header.destination))
    return (read_ipv6(line + words[0].at, words[0].size, header.source)
            and read_ipv6(line + words[1].at, words[1].size, header.destination))


cdef Py_ssize_t parse_line(const char* data, size_t size, ProxyHeader* header) noexcept nogil:
    cdef size_t line = PROXY_V1_MOST if size > PROXY_V1_MOST else size      # below: without its CRLF
    cdef const char* end = <const char*>memchr(data, LF, line)
    if end == NULL:
        return PROXY_INCOMPLETE if size < PROXY_V1_MOST else PROXY_TOO_LONG
    line = end - data
    if data[line - 1] != CR:
        return PROXY_BAD_LINE
    line -= 1
    header.version = 1
    if line >= 13 and memcmp(data + 6, b"UNKNOWN", 7) == 0 and (line == 13 or data[13] == SPACE):
        return line + 2             # what follows is to be ignored
    if line < 11 or memcmp(data + 6, b"TCP", 3) != 0 or data[10] != SPACE:
        return PROXY_BAD_LINE
    if data[9] == c"4":
        header.family = PROXY_INET
    elif data[9] == c"6":
        header.family = PROXY_INET6
    else:
        return PROXY_BAD_LINE
    return line + 2 if read_words(data + 11, line - 11, header) else PROXY_BAD_LINE


cdef uint32_t checksum(const uint8_t* data, size_t size, size_t field) noexcept nogil:
    """CRC-32C of the header, in which the four bytes of the checksum itself count as zero."""
    cdef uint32_t crc = <uint32_t>0xFFFFFFFFU
    cdef size_t i
    cdef int _bit
    for i in range(size):
        if not field <= i < field + 4:
            crc ^= data[i]
        for _bit in range(8):
            crc = crc >> 1 ^ (CASTAGNOLI & (0 - (crc & 1)))
    return ~crc


cdef size_t next_tlv(const char* data, size_t size, size_t at, uint8_t* kind, Span* value) noexcept nogil:
    cdef const uint8_t* octets = <const uint8_t*>data
    cdef size_t length
    if size < 3 or at > size - 3:
        return 0
    length = <size_t>octets[at + 1] << 8 | octets[at + 2]
    if length > size - at - 3:
        return 0
    kind[0] = octets[at]
    value.at = <uint32_t>(at + 3)
    value.size = <uint32_t>length
    return at + 3 + length


cdef int check_tlvs(const char* data, size_t size, size_t at) noexcept nogil:
    """The triples must fill what is left of the header to its last byte."""
    cdef uint8_t kind = 0
    cdef Span value
    cdef const uint8_t* given
    while at < size:
        at = next_tlv(data, size, at, &kind, &value)
        if at == 0 or (kind == TLV_UNIQUE_ID and value.size > PROXY_ID_MOST):
            return PROXY_BAD_TLV
        if kind == TLV_CRC32C:
            if value.size != 4:
                return PROXY_BAD_TLV
            given = <const uint8_t*>data + value.at
            if checksum(<const uint8_t*>data, size, value.at) != (
                    <uint32_t>given[0] << 24 | <uint32_t>given[1] << 16 | <uint32_t>given[2] << 8 | given[3]):
                return PROXY_BAD_CHECKSUM
    return 0


cdef Span path_at(const char* data, size_t at) noexcept nogil:
    """A path ends at its first NUL; an abstract name, which begins with one, where only NULs follow."""
    cdef Span span
    cdef size_t size = PATH_SIZE
    cdef const char* end = <const char*>memchr(data + at, 0, PATH_SIZE)
    if data[at]:
        if end != NULL:
            size = end - (data + at)
    else:
        while size and data[at + size - 1] == 0:
            size -= 1
    span.at = <uint32_t>at
    span.size = <uint32_t>size
    return span


cdef uint16_t number_at(const char* data, size_t at) noexcept nogil:
    return <uint16_t>((<const uint8_t*>data)[at] << 8 | (<const uint8_t*>data)[at + 1])


cdef Py_ssize_t parse_binary(const char* data, size_t size, ProxyHeader* header) noexcept nogil:
    cdef size_t whole, at = V2_FIXED
    cdef uint8_t command, family
    cdef int code
    if size < 13:
        return PROXY_INCOMPLETE
    command = <uint8_t>data[12]
    if command != COMMAND_LOCAL and command != COMMAND_PROXY:
        return PROXY_BAD_VERSION
    if size < 14:
        return PROXY_INCOMPLETE
    family = <uint8_t>data[13]
    # of streams; one that speaks for itself may say anything, which is ignored
    if command == COMMAND_PROXY and family != 0 and family != 0x11 and family != 0x21 and family != 0x31:
        return PROXY_BAD_VERSION
    if size < V2_FIXED:
        return PROXY_INCOMPLETE
    whole = V2_FIXED + number_at(data, 14)
    if whole > PROXY_V2_MOST:
        return PROXY_TOO_LONG
    header.version = 2
    header.is_local = command == COMMAND_LOCAL
    if not header.is_local:
        header.family = family >> 4
    if header.family == PROXY_INET:
        at += 12
    elif header.family == PROXY_INET6:
        at += 36
    elif header.family == PROXY_UNIX:
        at += 2 * PATH_SIZE
    if at > whole:
        return PROXY_BAD_LENGTH
    if size < whole:
        return PROXY_INCOMPLETE
    if header.family == PROXY_INET:
        memcpy(header.source, data + 16, 4)
        memcpy(header.destination, data + 20, 4)
    elif header.family == PROXY_INET6:
        memcpy(header.source, data + 16, 16)
        memcpy(header.destination, data + 32, 16)
    elif header.family == PROXY_UNIX:
        header.source_path = path_at(data, 16)
        header.destination_path = path_at(data, 16 + PATH_SIZE)
    if header.family == PROXY_INET or header.family == PROXY_INET6:
        header.source_port = number_at(data, at - 4)
        header.destination_port = number_at(data, at - 2)
    if header.family != PROXY_NONE:
        code = check_tlvs(data, whole, at)
        if code < 0:
            return code
        header.tlvs.at = <uint32_t>at
        header.tlvs.size = <uint32_t>(whole - at)
    return whole


cdef Py_ssize_t parse_proxy_header(const char* data, size_t size, ProxyHeader* header) noexcept nogil:
    cdef size_t line = 6 if size > 6 else size
    cdef size_t signature = 12 if size > 12 else size
    memset(header, 0, sizeof(ProxyHeader))
    if size == 0:
        return PROXY_INCOMPLETE
    if data[0] == V1_START[0]:
        if memcmp(data, V1_START, line) != 0:
            return PROXY_ABSENT
        return parse_line(data, size, header)
    if memcmp(data, SIGNATURE, signature) != 0:
        return PROXY_ABSENT
    return parse_binary(data, size, header)


cdef char* put(char* out, const void* data, size_t size) noexcept nogil:
    memcpy(out, data, size)
    return out + size


cdef char* put_number(char* out, uint16_t number) noexcept nogil:
    out[0] = <char>(number >> 8)
    out[1] = <char>(number & 0xFF)
    return out + 2


cdef char* put_ip(char* out, const ProxyHeader* header, const uint8_t* host) noexcept nogil:
    inet_ntop(AF_INET if header.family == PROXY_INET else AF_INET6, host, out, TEXT_MOST)
    out += strlen(out)
    out[0] = SPACE
    return out + 1


cdef size_t encode_line(const ProxyHeader* header, char* start) noexcept nogil:
    cdef char* out = start
    if header.family != PROXY_INET and header.family != PROXY_INET6:
        return put(out, b"PROXY UNKNOWN\r\n", 15) - start
    out = put(out, b"PROXY TCP4 " if header.family == PROXY_INET else b"PROXY TCP6 ", 11)
    out = put_ip(out, header, header.source)
    out = put_ip(out, header, header.destination)
    out = put_decimal(out, header.source_port)
    out[0] = SPACE
    out = put_decimal(out + 1, header.destination_port)
    return put(out, b"\r\n", 2) - start


cdef size_t encode_proxy_header(const ProxyHeader* header, char* start) noexcept nogil:
    cdef char* out = start
    cdef size_t host = 4 if header.family == PROXY_INET else 16
    cdef bint is_known = header.family == PROXY_INET or header.family == PROXY_INET6
    if header.version == 1:
        return encode_line(header, start)
    out = put(out, SIGNATURE, 12)
    out[0] = <char>(COMMAND_PROXY if is_known else COMMAND_LOCAL)
    out[1] = <char>(header.family << 4 | 1) if is_known else 0
    out += 2
    if not is_known:
        out = put_number(out, 0)
    else:
        out = put_number(out, <uint16_t>(2 * host + 4))
        out = put(out, header.source, host)
        out = put(out, header.destination, host)
        out = put_number(out, header.source_port)
        out = put_number(out, header.destination_port)
    return out - start


cdef tuple described(const char* data, const ProxyHeader* header):
    """As Python sees it: version, is_local, source, destination, TLVs."""
    cdef list tlvs = []
    cdef size_t at = header.tlvs.at, host = 4
    cdef uint8_t kind = 0
    cdef Span value
    source = destination = None
    if header.family == PROXY_UNIX:
        source = data[header.source_path.at:header.source_path.at + header.source_path.size]
        destination = data[header.destination_path.at:header.destination_path.at + header.destination_path.size]
    elif header.family != PROXY_NONE:
        host = 4 if header.family == PROXY_INET else 16
        source = (<const char*>header.source)[:host], header.source_port
        destination = (<const char*>header.destination)[:host], header.destination_port
    while True:
        at = next_tlv(data, header.tlvs.at + header.tlvs.size, at, &kind, &value)
        if at == 0:
            break
        tlvs.append((kind, data[value.at:value.at + value.size]))
    return header.version, header.is_local, source, destination, tuple(tlvs)


def parse(data):
    """Parse a header, for tests: its size and what it says, else a ProxyCode and None."""
    cdef ProxyHeader header
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        code = parse_proxy_header(<const char*>view.buf, <size_t>view.len, &header)
        return code, described(<const char*>view.buf, &header) if code > 0 else None
    finally:
        PyBuffer_Release(&view)


def encode(int version, source=None, destination=None):
    """Encode a header, for tests: addresses as `parse` gives them, but for paths."""
    cdef ProxyHeader header
    cdef char out[PROXY_ROOM]
    cdef bytes host
    memset(&header, 0, sizeof(header))
    header.version = <uint8_t>version
    if source is not None:
        host, header.source_port = source
        header.family = PROXY_INET if len(host) == 4 else PROXY_INET6
        memcpy(header.source, <const char*>host, len(host))
        host, header.destination_port = destination
        memcpy(header.destination, <const char*>host, len(host))
    return out[:encode_proxy_header(&header, out)]


def reason(int code):
    """Return what logs say of a ProxyCode."""
    return proxy_reason(code).decode("ascii")
