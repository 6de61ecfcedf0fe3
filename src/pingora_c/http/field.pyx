"""The names that the core itself reads, recognised once per field.

Owns the table of names. Never sees a value, and knows nothing of the meaning of a name.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport strlen

from pingora_c.lib.ascii cimport PG_LOWER
from pingora_c.lib.scan cimport pg_equals_lower, pg_name_word

cdef enum:
    LONGEST_NAME = 19    # proxy-authorization

# In the order of KnownName.
cdef const char** TEXTS = [
    "",
    "connection", "keep-alive", "proxy-connection", "transfer-encoding", "content-length", "te", "trailer", "upgrade",
    "host", "expect", "date", "server", "via", "forwarded",
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-real-ip",
    "proxy-authenticate", "proxy-authorization", "authorization", "cookie", "set-cookie", "referer", "user-agent",
    "content-type", "content-encoding", "accept-encoding", "cache-control", "max-forwards", "http2-settings",
    "location",
    "x-request-id",
]

# Names of one length are a chain: first_of[size], then next_of[known] … until NAME_OTHER. At most four share a length.
cdef uint8_t[LONGEST_NAME + 1] first_of
cdef uint8_t[<int>NAME_END] next_of
cdef uint64_t[<int>NAME_END] words      # of each, what pg_name_word gives

# What proxies and CDNs in front tell an origin, beside X-Forwarded-*: who the client is, and what it really asked for.
# "Proxy" is not one of them, but programs find it in HTTP_PROXY and send their own requests there (httpoxy).
cdef enum:
    N_TOLD = 11

cdef const char** TOLD = [
    "proxy", "x-real-ip", "client-ip", "x-client-ip", "x-rewrite-url", "true-client-ip", "x-original-url",
    "cf-connecting-ip", "fastly-client-ip", "x-azure-clientip", "x-cluster-client-ip",
]                                       # by size
cdef uint8_t[LONGEST_NAME + 2] told_from       # by size: the first that is as long, or longer
cdef uint32_t told_letters                     # bit n: one begins with the letter n of the alphabet, in either case


cdef void chain_names() noexcept:
    cdef int known
    cdef size_t size
    for known in range(<int>NAME_END - 1, <int>NAME_OTHER, -1):
        size = strlen(TEXTS[known])
        next_of[known] = first_of[size]
        first_of[size] = <uint8_t>known
        words[known] = pg_name_word(TEXTS[known], size)


cdef void measure_told() noexcept:
    global told_letters
    cdef size_t size
    cdef int i = 0
    for i in range(N_TOLD):
        told_letters |= <uint32_t>1 << (TOLD[i][0] & 31)
    i = 0
    for size in range(LONGEST_NAME + 2):
        while i < N_TOLD and strlen(TOLD[i]) < size:
            i += 1
        told_from[size] = <uint8_t>i


chain_names()
measure_told()


cdef KnownName recognise(const char* name, size_t size) noexcept nogil:
    cdef uint64_t word
    cdef uint8_t known
    if size == 0 or size > LONGEST_NAME:
        return NAME_OTHER
    known = first_of[size]
    if known == <int>NAME_OTHER:
        return NAME_OTHER
    word = pg_name_word(name, size)
    while known != <int>NAME_OTHER:
        if word == words[known] and (size <= 8 or pg_equals_lower(name + 8, TEXTS[known] + 8, size - 8)):
            break
        known = next_of[known]
    return <KnownName>known


cdef const char* known_text(uint8_t known) noexcept nogil:
    return TEXTS[known]


cdef bint begins_folded(const char* name, size_t size, const char* text) noexcept nogil:
    """`name` begins with the lower-case `text`, `_` taken for `-`."""
    cdef size_t i = 0
    while text[i]:
        if i == size or (45 if name[i] == 95 else PG_LOWER[<uint8_t>name[i]]) != <uint8_t>text[i]:
            return False
        i += 1
    return True


cdef bint is_forwarding_name(const char* name, size_t size) noexcept nogil:
    cdef int i
    if not (told_letters >> (name[0] & 31)) & 1:
        return False
    if size <= LONGEST_NAME:
        for i in range(told_from[size], told_from[size + 1]):
            if begins_folded(name, size, TOLD[i]):
                return True
    return size >= 11 and begins_folded(name, size, "x-forwarded") and (size == 11 or name[11] == 45 or name[11] == 95)


cdef bint is_certificate_name(const char* name, size_t size) noexcept nogil:
    return ((size == 11 or size == 17) and begins_folded(name, size, "client-cert")
            and (size == 11 or begins_folded(name + 11, 6, "-chain")))


def known_names() -> tuple[bytes, ...]:
    """Return the names in the order of their numbers; number 0, all other names, is empty."""
    return tuple([<bytes>TEXTS[known] for known in range(<int>NAME_END)])


def recognise_name(bytes name not None) -> int:
    """Return the number of a name in any case, 0 for a name that the core does not read itself."""
    return <int>recognise(name, <size_t>len(name))
