"""Reading of HTTP/2 requests. Owns nothing; never repairs, never chooses between two hosts."""
from libc.string cimport memcmp
from pingora_c.base.ascii cimport equals_nocase, is_token
from pingora_c.base.span cimport Span
from pingora_c.h1.framing cimport ASKS_TUNNEL, ASKS_UPGRADE, BODY_CHUNKED, BODY_NONE, request_framing
from pingora_c.h1.head cimport H1_BAD_METHOD, H1_BAD_TARGET, H1_METHOD_TOO_LONG, H1_TARGET_TOO_LONG
from pingora_c.h1.target cimport check_host, check_target, settle_host
from pingora_c.h1.verdict cimport BAD_HOST, BAD_LENGTH, BAD_TARGET_FORM, HEAD_OK, MANY_HOSTS, WRONG_SCHEME
from pingora_c.h2.handshake cimport become_upgrade
from pingora_c.http.authority cimport is_valid_authority
from pingora_c.http.field cimport NAME_COOKIE, NAME_EXPECT, NAME_HOST, NAME_TE, Field
from pingora_c.http.header_block cimport (
    BLOCK_OK, HeaderBlock, block_append_bytes, block_field, block_find_known, block_may_hold, block_set,
    remove_row,
)
from pingora_c.http.message cimport HTTP2_MINOR
from pingora_c.proxy.refusal cimport REFUSED_CONNECT, REFUSED_FRAMING, REFUSED_HEAD, REFUSED_NO_MEMORY

cdef enum:
    METHOD_MAX = 64


cdef int check_method(const char* text, size_t size) noexcept nogil:
    if size > METHOD_MAX:
        return REFUSED_HEAD - <int>H1_METHOD_TOO_LONG
    return 0 if is_token(text, size) else REFUSED_HEAD - <int>H1_BAD_METHOD


cdef int check_path(const char* text, size_t size, uint32_t target_bytes) noexcept nogil:
    """The octets of a target, and that it is in origin or asterisk form: :path has no other."""
    cdef size_t i
    if size > target_bytes:
        return REFUSED_HEAD - <int>H1_TARGET_TOO_LONG
    for i in range(size):
        if not 33 <= <unsigned char>text[i] <= 126 or text[i] == 35:
            return REFUSED_HEAD - <int>H1_BAD_TARGET
    if size == 0 or text[0] != 47 and not (size == 1 and text[0] == 42):
        return REFUSED_FRAMING - <int>BAD_TARGET_FORM
    return 0


cdef int check_scheme(const char* text, size_t size, bint is_https) noexcept nogil:
    if size == 5 and equals_nocase(text, b"https", 5):
        return 0 if is_https else REFUSED_FRAMING - <int>WRONG_SCHEME
    return 0 if size == 4 and equals_nocase(text, b"http", 4) else REFUSED_FRAMING - <int>BAD_TARGET_FORM


cdef int check_authority(const FieldSection* section) noexcept nogil:
    """A valid :authority, or Host in its place; where both are, they agree (RFC 9113 §8.3.1)."""
    cdef const char* base = section.bytes
    cdef const Field* field
    cdef int verdict
    cdef uint32_t i
    if section.authority.size == 0:
        verdict = check_host(base, section.fields, section.n, 1)
        return 0 if verdict == HEAD_OK else REFUSED_FRAMING - verdict
    if not is_valid_authority(base + section.authority.at, section.authority.size):
        return REFUSED_FRAMING - <int>BAD_HOST
    for i in range(section.n):
        field = section.fields + i
        if field.known == NAME_HOST and (field.value_size != section.authority.size or not equals_nocase(
                base + field.value_at, base + section.authority.at, field.value_size)):
            return REFUSED_FRAMING - <int>MANY_HOSTS
    return 0


cdef int join_cookies(HeaderBlock* block) noexcept nogil:
    """Several Cookie fields are crumbs of one (RFC 9113 §8.2.3)."""
    cdef Py_ssize_t first = block_find_known(block, NAME_COOKIE, 0)
    cdef Py_ssize_t row
    cdef Span whole, part
    cdef Field* field
    if first < 0:
        return 0
    row = block_find_known(block, NAME_COOKIE, <uint32_t>first + 1)
    if row < 0:
        return 0
    field = block_field(block, <uint32_t>first)
    if block_append_bytes(block, block.base + field.value_at, field.value_size, &whole) != BLOCK_OK:
        return -1
    while row >= 0:
        field = block_field(block, <uint32_t>row)
        if block_append_bytes(block, b"; ", 2, &part) != BLOCK_OK:
            return -1
        field = block_field(block, <uint32_t>row)
        if block_append_bytes(block, block.base + field.value_at, field.value_size, &part) != BLOCK_OK:
            return -1
        whole.size = part.at + part.size - whole.at
        remove_row(block, <uint32_t>row)
        row = block_find_known(block, NAME_COOKIE, <uint32_t>row + 1)
    field = block_field(block, <uint32_t>first)
    field.value_at = whole.at
    field.value_size = whole.size
    return 0


cdef int read_connect(const FieldSection* section, RequestHead head, Framing* framing) noexcept:
    """A CONNECT that opens a tunnel of bytes (RFC 9113 §8.5): its target is :authority."""
    cdef const char* base = section.bytes
    cdef Span authority
    cdef int verdict = check_target(b"CONNECT", 7, base + section.authority.at, section.authority.size, &authority)
    if verdict == HEAD_OK:
        verdict = request_framing(base, section.fields, section.n, 1, framing)
    if verdict == HEAD_OK and framing.kind != BODY_NONE:
        verdict = BAD_LENGTH
    if verdict != HEAD_OK:
        return REFUSED_FRAMING - verdict
    if head.load(base, section.used, section.method, section.authority, HTTP2_MINOR, section.fields,
                 section.n) != BLOCK_OK or settle_host(head, authority) < 0:
        return REFUSED_NO_MEMORY
    framing.keep_alive = True
    framing.takes_trailers = framing.expects = False
    framing.upgrade = ASKS_TUNNEL
    return 0


cdef int fill(const FieldSection* section, RequestHead head, bint is_upgrade) noexcept:
    """Load the head; 0, -1 without memory."""
    cdef Span nothing = Span(0, 0)
    cdef int code = -1
    if head.load(section.bytes, section.used, section.method, section.path, HTTP2_MINOR, section.fields,
                 section.n) != BLOCK_OK:
        return -1
    if section.authority.size and block_set(&head.block, b"Host", 4, section.bytes + section.authority.at,
                                            section.authority.size) != BLOCK_OK:
        return -1
    if settle_host(head, nothing) < 0 or join_cookies(&head.block) < 0:
        return -1
    if not is_upgrade:
        return 0
    try:
        code = become_upgrade(head)
    except:
        pass   # ignored: reported as -1
    return code


cdef int read_request(
    const FieldSection* section, bint is_end, bint is_https, bint takes_connect, uint32_t target_bytes,
    RequestHead head, Framing* framing,
) noexcept:
    cdef const char* base = section.bytes
    cdef bint is_upgrade = False
    cdef int refusal = check_method(base + section.method.at, section.method.size)
    cdef Span authority
    cdef int verdict
    if refusal == 0 and section.method.size == 7 and memcmp(base + section.method.at, b"CONNECT", 7) == 0:
        is_upgrade = section.protocol.size == 9 and equals_nocase(base + section.protocol.at, b"websocket", 9)
        if not is_upgrade:
            if not takes_connect or section.protocol.size:
                return REFUSED_CONNECT
            return read_connect(section, head, framing)
    if refusal == 0:
        refusal = check_scheme(base + section.scheme.at, section.scheme.size, is_https)
    if refusal == 0:
        refusal = check_path(base + section.path.at, section.path.size, target_bytes)
    if refusal == 0:
        refusal = check_authority(section)
    if refusal:
        return refusal
    verdict = request_framing(base, section.fields, section.n, 1, framing)
    if verdict == HEAD_OK and not is_upgrade:
        verdict = check_target(base + section.method.at, section.method.size, base + section.path.at,
                               section.path.size, &authority)
    if verdict != HEAD_OK:
        return REFUSED_FRAMING - verdict
    if fill(section, head, is_upgrade) < 0:
        return REFUSED_NO_MEMORY
    framing.keep_alive = True
    framing.takes_trailers = block_may_hold(&head.block, NAME_TE)      # it can only say so (RFC 9113 §8.2.2)
    framing.upgrade = ASKS_UPGRADE if is_upgrade else 0
    if is_end or is_upgrade:
        framing.kind = BODY_NONE
    elif not framing.has_length:
        framing.kind = BODY_CHUNKED
    framing.expects = framing.kind != BODY_NONE and block_may_hold(&head.block, NAME_EXPECT)
    return 0
