"""ClientHello without TLS. Reads no more of it than the lists that it needs to step over. No socket, no Python."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcpy, memset

cdef enum:
    RECORD_HEAD = 5
    RECORD_MOST = 16384
    HANDSHAKE = 22
    CLIENT_HELLO = 1
    MESSAGE_HEAD = 4
    SERVER_NAME = 0
    ALPN = 16
    NAME_MOST = 255


# What is left of a message: `at` is moved over what was read, `is_bad` set by a read beyond `end`.
cdef struct Reader:
    const uint8_t* data
    size_t at
    size_t end
    bint is_bad


cdef size_t number(Reader* reader, size_t octets) noexcept nogil:
    cdef size_t value = 0
    if reader.is_bad or octets > reader.end - reader.at:
        reader.is_bad = True
        return 0
    while octets:
        value = value << 8 | reader.data[reader.at]
        reader.at += 1
        octets -= 1
    return value


cdef Reader part(Reader* reader, size_t octets) noexcept nogil:
    """What stands behind a length of so many octets; it is stepped over."""
    cdef Reader inner
    cdef size_t size = number(reader, octets)
    if reader.is_bad or size > reader.end - reader.at:
        reader.is_bad = True
        size = 0
    inner.data = reader.data
    inner.at = reader.at
    inner.end = reader.at + size
    inner.is_bad = reader.is_bad
    reader.at += size
    return inner


cdef bint read_server_name(Reader* reader, Hello* hello) noexcept nogil:
    """One host name, as every client sends it; OpenSSL refuses others too."""
    cdef Reader names = part(reader, 2)
    cdef size_t kind = number(&names, 1)
    cdef Reader name = part(&names, 2)
    cdef size_t size = name.end - name.at
    if names.is_bad or reader.at != reader.end or names.at != names.end or kind != 0 or not 0 < size <= NAME_MOST:
        return False
    if memchr(name.data + name.at, 0, size) != NULL:
        return False
    hello.server_name.at = <uint32_t>name.at
    hello.server_name.size = <uint32_t>size
    return True


cdef bint read_alpn(Reader* reader, Hello* hello) noexcept nogil:
    cdef Reader protocols = part(reader, 2)
    cdef Reader protocol
    if protocols.is_bad or reader.at != reader.end or protocols.at == protocols.end:
        return False
    hello.alpn.at = <uint32_t>protocols.at
    hello.alpn.size = <uint32_t>(protocols.end - protocols.at)
    while protocols.at < protocols.end:
        protocol = part(&protocols, 1)
        if protocols.is_bad or protocol.at == protocol.end:
            return False
    return True


cdef bint read_message(const char* message, size_t size, Hello* hello) noexcept nogil:
    cdef Reader reader
    cdef Reader extensions, extension, skipped
    cdef size_t kind
    cdef bint has_name = False, has_alpn = False
    reader.data = <const uint8_t*>message
    reader.at = MESSAGE_HEAD
    reader.end = size
    reader.is_bad = False
    if number(&reader, 1) != 3:
        return False
    number(&reader, 1)
    if reader.end - reader.at < 32:
        return False
    reader.at += 32                     # random
    skipped = part(&reader, 1)          # session id
    if skipped.end - skipped.at > 32:
        return False
    skipped = part(&reader, 2)          # cipher suites
    if skipped.at == skipped.end or (skipped.end - skipped.at) % 2:
        return False
    skipped = part(&reader, 1)          # compression methods
    if reader.is_bad or skipped.at == skipped.end:
        return False
    if reader.at == reader.end:
        return True                     # TLS 1.2 without extensions
    extensions = part(&reader, 2)
    if reader.is_bad or reader.at != reader.end:
        return False
    while extensions.at < extensions.end:
        kind = number(&extensions, 2)
        extension = part(&extensions, 2)
        if extensions.is_bad:
            return False
        if kind == SERVER_NAME:
            if has_name or not read_server_name(&extension, hello):
                return False
            has_name = True
        elif kind == ALPN:
            if has_alpn or not read_alpn(&extension, hello):
                return False
            has_alpn = True
    return True


cdef Py_ssize_t check_message(const char* message, size_t size) noexcept nogil:
    """The whole size of a message that begins so, 0 if that is not known yet, else a HelloCode."""
    cdef const uint8_t* octets = <const uint8_t*>message
    cdef size_t whole
    if size and octets[0] != CLIENT_HELLO:
        return HELLO_BAD
    if size < MESSAGE_HEAD:
        return 0
    whole = MESSAGE_HEAD + (<size_t>octets[1] << 16 | <size_t>octets[2] << 8 | octets[3])
    return HELLO_TOO_LONG if whole > HELLO_MOST else <Py_ssize_t>whole


cdef Py_ssize_t parse_client_hello(const char* data, size_t size, char* message, Hello* hello) noexcept nogil:
    cdef const uint8_t* octets = <const uint8_t*>data
    cdef size_t at = 0, length, here, taken = 0
    cdef Py_ssize_t whole
    cdef int _record
    memset(hello, 0, sizeof(Hello))
    if size and octets[0] != HANDSHAKE or size > 1 and octets[1] != 3:
        return HELLO_ABSENT
    for _record in range(HELLO_RECORDS_MOST):
        if at < size and octets[at] != HANDSHAKE or at + 1 < size and octets[at + 1] != 3:
            return HELLO_BAD
        if size - at < RECORD_HEAD:
            return HELLO_INCOMPLETE
        length = <size_t>octets[at + 3] << 8 | octets[at + 4]
        if length == 0 or length > RECORD_MOST:
            return HELLO_BAD
        at += RECORD_HEAD
        here = size - at if size - at < length else length
        # no more than one message of at most HELLO_MOST bytes: what is behind it is refused below
        if here > HELLO_MOST - taken:
            here = HELLO_MOST - taken
        memcpy(message + taken, data + at, here)
        taken += here
        whole = check_message(message, taken)
        if whole < 0:
            return whole
        if whole and taken >= <size_t>whole:
            # a record that holds more than the message: nothing may follow before the server has answered
            if taken > <size_t>whole or here < length:
                return HELLO_BAD
            at += length
            return <Py_ssize_t>at if read_message(message, whole, hello) else HELLO_BAD
        if here < length:
            # the message may not end within this record unless it ends with it
            if whole and taken + (length - here) > <size_t>whole:
                return HELLO_BAD
            return HELLO_INCOMPLETE
        at += length
    return HELLO_TOO_LONG


def parse(data):
    """Parse a hello, for tests: its size, server name and protocols, else a HelloCode and None twice."""
    cdef char message[HELLO_MOST]
    cdef Hello hello
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    code = parse_client_hello(<const char*>view.buf, <size_t>view.len, message, &hello)
    PyBuffer_Release(&view)
    if code <= 0:
        return code, None, None
    return (code, message[hello.server_name.at:hello.server_name.at + hello.server_name.size],
            message[hello.alpn.at:hello.alpn.at + hello.alpn.size])
