"""The grammar of hosts. Owns nothing, resolves nothing."""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcpy, memmove

from pingora_c.base.ascii cimport is_digit
from pingora_c.lib.ascii cimport PG_LOWER, PG_TOKEN
from pingora_c.lib.socket cimport AF_INET6, inet_pton

cdef enum:
    IPV6_TEXT_MAX = 45                       # "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
    PORT_MAX = 65535


cdef bint is_port(const char* text, size_t size) noexcept nogil:
    """*DIGIT, at most 65535."""
    cdef uint32_t port = 0
    cdef size_t i
    for i in range(size):
        if not is_digit(text[i]):
            return False
        port = port * 10 + <uint32_t>(text[i] - 0x30)
        if port > PORT_MAX:
            return False
    return True


cdef bint is_ipv6(const char* text, size_t size) noexcept nogil:
    cdef char terminated[IPV6_TEXT_MAX + 1]
    cdef unsigned char address[16]
    if size == 0 or size > IPV6_TEXT_MAX or memchr(text, 0, size) != NULL:
        return False
    memcpy(terminated, text, size)
    terminated[size] = 0
    return inet_pton(AF_INET6, terminated, address) == 1


cdef size_t reg_name_size(const char* text, size_t size) noexcept nogil:
    """Bytes of the name at the front: labels of unreserved and sub-delims. Not ",", which only a joined list of hosts
    has; not "%", since whoever decodes it reads another name than whoever does not; no empty label but behind a last
    dot.
    """
    cdef size_t at = 0
    cdef char c, before = 0x2e
    while at < size:
        c = text[at]
        if c == 0x2e and before == 0x2e:
            break
        # tchar beyond unreserved and sub-delims: "#", "%", "^", "`", "|"; sub-delims beyond tchar: "(", ")", ";", "=".
        if PG_TOKEN[<uint8_t>c]:
            if c == 0x23 or c == 0x25 or c == 0x5e or c == 0x60 or c == 0x7c:
                break
        elif c != 0x28 and c != 0x29 and c != 0x3b and c != 0x3d:
            break
        before = c
        at += 1
    return at


cdef bint is_valid_authority(const char* text, size_t size) noexcept nogil:
    cdef const char* bracket
    cdef size_t at
    if size and text[0] == 0x5b:
        bracket = <const char*>memchr(text, 0x5d, size)
        if bracket == NULL or not is_ipv6(text + 1, <size_t>(bracket - text) - 1):
            return False
        at = <size_t>(bracket - text) + 1
    else:
        at = reg_name_size(text, size)
    if at == 0:
        return False
    return at == size or (text[at] == 0x3a and is_port(text + at + 1, size - at - 1))


cdef size_t settle_authority(char* text, size_t size) noexcept nogil:
    cdef size_t i, end
    for i in range(size):
        text[i] = <char>PG_LOWER[<uint8_t>text[i]]
    if text[size - 1] == 0x3a:
        size -= 1
    end = size
    while end and is_digit(text[end - 1]):
        end -= 1
    if end == 0 or text[end - 1] != 0x3a or memchr(text, 0x5d, size) != NULL:
        end = size            # no port, or an IPv6 address, which has no dot at its end
    else:
        end -= 1
    if end > 1 and text[end - 1] == 0x2e:
        memmove(text + end - 1, text + end, size - end)
        size -= 1
    return size


def settled(bytes text not None) -> bytes:
    """Return a valid authority as rules, hooks and the upstream read it."""
    cdef bytearray copy = bytearray(text)
    if not is_valid_authority(text, <size_t>len(text)):
        raise ValueError(f"{text!r} is no authority")
    return bytes(copy[:settle_authority(copy, <size_t>len(copy))])


def is_authority(bytes text not None) -> bool:
    """Return whether `text` is uri-host [":" port] that all read alike."""
    return is_valid_authority(text, <size_t>len(text))
