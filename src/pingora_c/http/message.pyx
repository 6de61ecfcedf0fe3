"""The neutral heads: start-line parts as spans into the same bytes as the fields, and what Python sees of them.

Owns each head's block. Decides nothing about framing: that a method or status has no body, and which fields go out,
is for the codecs and the session.
"""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memmove

from pingora_c.base.ascii cimport equals_nocase, is_token
from pingora_c.base.properties cimport read_by_table
from pingora_c.base.span cimport Span
from pingora_c.http.field cimport NAME_HOST, Field
from pingora_c.http.header_block cimport (
    BLOCK_MAX, BLOCK_OK, HeaderBlock, block_append_bytes, block_copy, block_detach, block_field,
    block_find_known, block_free, block_load, block_start_unpooled,
)
from pingora_c.http.header_map cimport HeaderMap

cdef enum:
    METHOD_MAX = 64        # bytes, as the parser has it
    START_BYTES = 512      # memory of a head made in Python, before it grows


cdef Method recognise_method(const char* text, size_t size) noexcept nogil:
    if size == 3:
        if memcmp(text, b"GET", 3) == 0:
            return METHOD_GET
        if memcmp(text, b"PUT", 3) == 0:
            return METHOD_PUT
    elif size == 4:
        if memcmp(text, b"POST", 4) == 0:
            return METHOD_POST
        if memcmp(text, b"HEAD", 4) == 0:
            return METHOD_HEAD
    elif size == 5:
        if memcmp(text, b"PATCH", 5) == 0:
            return METHOD_PATCH
        if memcmp(text, b"TRACE", 5) == 0:
            return METHOD_TRACE
    elif size == 6:
        if memcmp(text, b"DELETE", 6) == 0:
            return METHOD_DELETE
    elif size == 7:
        if memcmp(text, b"OPTIONS", 7) == 0:
            return METHOD_OPTIONS
        if memcmp(text, b"CONNECT", 7) == 0:
            return METHOD_CONNECT
    return METHOD_OTHER


cdef bint is_idempotent(Method method) noexcept nogil:
    return (
        method == METHOD_GET or method == METHOD_HEAD or method == METHOD_PUT or method == METHOD_DELETE
        or method == METHOD_OPTIONS or method == METHOD_TRACE
    )


cdef int replace_part(HeaderBlock* block, Span* part, bytes text) except -1:
    """Write a start-line part: over the old one if it fits, else appended."""
    cdef const char* data = text
    cdef Py_ssize_t size = len(text)
    if size <= part.size:
        memmove(block.base + part.at, data, size)
        part.size = <uint32_t>size
        return 0
    if size > BLOCK_MAX:
        raise ValueError(f"the head would pass {BLOCK_MAX} bytes")
    if block_append_bytes(block, data, <uint32_t>size, part) != BLOCK_OK:
        raise MemoryError("no buffer for the start line: the pool or the head is at its limit")
    return 0


cdef inline str part_text(const HeaderBlock* block, Span part):
    if part.size == 0:
        return ""
    return PyUnicode_DecodeLatin1(block.base + part.at, part.size, NULL)


cdef int restart(HeaderBlock* block) except -1:
    """Begin a head that Python makes: it may live for ever, so it holds no pooled buffer."""
    block_free(block)
    if block_start_unpooled(block, START_BYTES) != BLOCK_OK:
        raise MemoryError("no memory for a head")
    return 0


cdef int add_fields(HeaderMap map, object headers) except -1:
    if headers is not None:
        map.update(headers)
    return 0


cdef bytes octets(object text, str what):
    """The bytes of a str or bytes argument."""
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise TypeError(f"{what} must be str or bytes, not {type(text).__name__}")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} has the character U+{ord(text[error.start]):04X} at position {error.start}, expected latin-1"
        ) from None


cdef bytes checked_method(object method):
    cdef bytes text = octets(method, "method")
    if not is_token(text, len(text)) or len(text) > METHOD_MAX:
        raise ValueError(f"method is {shown(text)}, expected a token of 1 to {METHOD_MAX} bytes (RFC 9110 §9.1)")
    if text == b"CONNECT":
        raise ValueError("method cannot be set to CONNECT: a tunnel begins only with a client's own request for one")
    return text


cdef bytes checked_target(object target):
    """A request target in origin, absolute or asterisk form; authority form belongs to CONNECT, which Python
    cannot make.
    """
    cdef bytes text = octets(target, "target")
    cdef Py_ssize_t i
    cdef unsigned char c
    for i in range(len(text)):
        c = text[i]
        if c <= 32 or c >= 127 or c == b"#":
            raise ValueError(
                f"target has 0x{c:02X} at position {i}, expected visible ASCII without '#'; "
                "percent-encode it (RFC 9112 §3.2)"
            )
    if not (text.startswith(b"/") or text == b"*" or authority_end(text, len(text)) > 0):
        raise ValueError(f"target is {shown(text)}, expected '/…', '*' or 'http://host…' (RFC 9112 §3.2)")
    return text


cdef str shown(bytes text):
    return repr(text[:64].decode("latin-1"))


cdef Py_ssize_t authority_start(const char* target, size_t size) noexcept nogil:
    """Offset of an absolute form's authority, 0 for the other forms."""
    if size > 7 and equals_nocase(target, b"http://", 7):
        return 7
    if size > 8 and equals_nocase(target, b"https://", 8):
        return 8
    return 0


cdef Py_ssize_t authority_end(const char* target, size_t size) noexcept nogil:
    """Offset behind an absolute form's authority, 0 for the other forms and for an empty authority."""
    cdef size_t start = authority_start(target, size)
    cdef size_t end = start
    if start == 0:
        return 0
    while end < size and target[end] != b"/" and target[end] != b"?":
        end += 1
    return end if end > start else 0


# offsets into the target: [path_at, query_at) is the path, what follows is '?' and the query, or nothing
cdef struct TargetParts:
    uint32_t path_at
    uint32_t query_at


cdef TargetParts split_target(const char* target, size_t size) noexcept nogil:
    cdef TargetParts parts
    cdef size_t at = authority_end(target, size)
    parts.path_at = <uint32_t>at
    while at < size and target[at] != b"?":
        at += 1
    parts.query_at = <uint32_t>at
    return parts


cdef int write_method(RequestHead head, bytes text) except -1:
    replace_part(&head.block, &head.method, text)
    head.method_id = recognise_method(text, len(text))
    return 0


cdef int write_target(RequestHead head, bytes text) except -1:
    return replace_part(&head.block, &head.target, text)


cdef bytes target_octets(RequestHead head):
    if head.target.size == 0:
        return b""
    return PyBytes_FromStringAndSize(head.block.base + head.target.at, head.target.size)


cdef TargetParts split(RequestHead head) noexcept:
    return split_target(head.block.base + head.target.at, head.target.size)


@cython.final
@cython.freelist(16)
cdef class RequestHead:
    """The head of a request: method, target, version and header fields.

    `headers` is a mapping or an iterable of (name, value) pairs. Raises ValueError for what RFC 9110 and 9112 do not
    allow.
    """

    def __init__(self, method="GET", target="/", headers=None):
        cdef bytes checked = checked_method(method), checked_to = checked_target(target)
        restart(&self.block)
        self.method = Span(0, 0)
        self.target = Span(0, 0)
        self.minor = 1
        write_method(self, checked)
        write_target(self, checked_to)
        add_fields(self.fields(), headers)

    def __dealloc__(self):
        block_free(&self.block)

    @staticmethod
    cdef RequestHead new():
        return RequestHead.__new__(RequestHead)

    cdef int load(
        self, const char* bytes, uint32_t size, Span method, Span target, uint8_t minor, const Field* fields,
        uint32_t n,
    ) noexcept:
        cdef int code
        block_free(&self.block)
        code = block_load(&self.block, bytes, size, fields, n)
        if code != BLOCK_OK:
            self.method = Span(0, 0)
            self.target = Span(0, 0)
            return code
        self.method = method
        self.target = target
        self.method_id = recognise_method(bytes + method.at, method.size)
        self.minor = minor
        return BLOCK_OK

    cdef RequestHead copy(self):
        cdef RequestHead head = RequestHead.new()
        if block_copy(&head.block, &self.block) != BLOCK_OK:
            return None
        head.method = self.method
        head.target = self.target
        head.method_id = self.method_id
        head.minor = self.minor
        return head

    cdef HeaderMap fields(self):
        cdef HeaderMap map = HeaderMap.over(self, &self.block)
        map.is_request = True
        return map

    cdef int detach(self) noexcept:
        return block_detach(&self.block)

    @property
    def method(self):
        """The method; case matters (RFC 9110 §9.1). It can be set to any token but CONNECT."""
        return part_text(&self.block, self.method)

    @method.setter
    def method(self, method):
        write_method(self, checked_method(method))

    @property
    def target(self):
        """The request target as it was received or set (RFC 9112 §3.2)."""
        return part_text(&self.block, self.target)

    @target.setter
    def target(self, target):
        write_target(self, checked_target(target))

    @property
    def target_bytes(self):
        """The request target as bytes."""
        return target_octets(self)

    @property
    def path(self):
        """The target up to '?', without an absolute form's scheme and authority. Setting it keeps the query."""
        cdef TargetParts parts = split(self)
        if self.method_id == METHOD_CONNECT:
            return ""
        if parts.path_at == parts.query_at:
            return "/" if self.target.size else ""
        return part_text(&self.block, Span(self.target.at + parts.path_at, parts.query_at - parts.path_at))

    @path.setter
    def path(self, path):
        cdef TargetParts parts = split(self)
        cdef bytes text = octets(path, "path")
        cdef bytes old = target_octets(self)
        if not text.startswith(b"/") or b"?" in text:
            raise ValueError(
                f"path is {shown(text)}, expected it to start with '/' and to hold no '?'; "
                "`query` and `target` set the rest"
            )
        write_target(self, checked_target(old[:parts.path_at] + text + old[parts.query_at:]))

    @property
    def query(self):
        """What follows '?' in the target, '' if nothing does. Setting it keeps the path; '' removes the '?'."""
        cdef TargetParts parts = split(self)
        if parts.query_at >= self.target.size:
            return ""
        return part_text(&self.block, Span(self.target.at + parts.query_at + 1, self.target.size - parts.query_at - 1))

    @query.setter
    def query(self, query):
        cdef TargetParts parts = split(self)
        cdef bytes text = octets(query, "query")
        cdef bytes kept = target_octets(self)[:parts.query_at]
        write_target(self, checked_target(kept + b"?" + text if text else kept))

    @property
    def host(self):
        """An absolute target's authority without userinfo, else the value of Host, in lower case as it came; '' if
        there is neither (RFC 9112 §3.2.2).
        """
        cdef Py_ssize_t row
        cdef const char* target = self.block.base + self.target.at
        cdef Py_ssize_t start = authority_start(target, self.target.size)
        if start:
            authority = target[start:authority_end(target, self.target.size)]
            return authority.rpartition(b"@")[2].decode("latin-1").lower()
        row = block_find_known(&self.block, NAME_HOST, 0)
        if row < 0:
            return ""
        return part_text(&self.block, Span(block_field(&self.block, <uint32_t>row).value_at,
                                           block_field(&self.block, <uint32_t>row).value_size))

    @property
    def version(self):
        """'1.0', '1.1', or '2' for what came over HTTP/2."""
        return "2" if self.minor == HTTP2_MINOR else "1.1" if self.minor else "1.0"

    @property
    def headers(self):
        """The header fields, as a map over this head."""
        return self.fields()

    def __copy__(self):
        head = self.copy()
        if head is None:
            raise MemoryError("no buffer for a copy of a head")
        (<RequestHead>head).detach()
        return head

    def __repr__(self):
        return (
            f"<RequestHead {part_text(&self.block, self.method)} {part_text(&self.block, self.target)!r}, "
            f"{self.block.n - self.block.removed} fields>"
        )


cdef int checked_status(object status) except -1:
    if not isinstance(status, int):
        raise TypeError(f"status must be int, not {type(status).__name__}")
    if not 200 <= status <= 599:
        raise ValueError(f"status is {status}, expected 200 to 599 (RFC 9110 §15)")
    return status


@cython.final
@cython.freelist(16)
cdef class ResponseHead:
    """The head of a response: status, reason, version and header fields.

    `status` is 200 to 599: interim responses are the core's own. `headers` is a mapping or an iterable of (name,
    value) pairs.
    """

    def __init__(self, status=200, headers=None):
        cdef int checked = checked_status(status)
        restart(&self.block)
        self.reason = Span(0, 0)
        self.status_code = <uint16_t>checked
        self.minor = 1
        add_fields(HeaderMap.over(self, &self.block), headers)

    def __dealloc__(self):
        block_free(&self.block)

    @staticmethod
    cdef ResponseHead new(uint16_t status):
        cdef ResponseHead head = ResponseHead.__new__(ResponseHead)
        head.status_code = status
        head.minor = 1
        return head

    cdef int load(
        self, const char* bytes, uint32_t size, uint16_t status, Span reason, uint8_t minor, const Field* fields,
        uint32_t n,
    ) noexcept:
        cdef int code
        block_free(&self.block)
        code = block_load(&self.block, bytes, size, fields, n)
        self.reason = reason if code == BLOCK_OK else Span(0, 0)
        self.status_code = status
        self.minor = minor
        return code

    cdef ResponseHead copy(self):
        cdef ResponseHead head = ResponseHead.new(self.status_code)
        if block_copy(&head.block, &self.block) != BLOCK_OK:
            return None
        head.reason = self.reason
        head.minor = self.minor
        return head

    cdef int detach(self) noexcept:
        return block_detach(&self.block)

    @property
    def status(self):
        """The status code. Setting it, 200 to 599, drops the reason, so that the standard phrase is sent."""
        return self.status_code

    @status.setter
    def status(self, status):
        self.status_code = <uint16_t>checked_status(status)
        self.reason.size = 0

    @property
    def reason(self):
        """The reason phrase as received; '' stands for the standard one."""
        return part_text(&self.block, self.reason)

    @property
    def version(self):
        """'1.0', '1.1', or '2' for what came over HTTP/2."""
        return "2" if self.minor == HTTP2_MINOR else "1.1" if self.minor else "1.0"

    @property
    def headers(self):
        """The header fields, as a map over this head."""
        return HeaderMap.over(self, &self.block)

    def __copy__(self):
        head = self.copy()
        if head is None:
            raise MemoryError("no buffer for a copy of a head")
        (<ResponseHead>head).detach()
        return head

    def __repr__(self):
        return f"<ResponseHead {self.status_code}, {self.block.n - self.block.removed} fields>"


read_by_table(RequestHead)
read_by_table(ResponseHead)
