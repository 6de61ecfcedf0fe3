"""Consistent hashing on a ring of points, bit-compatible with nginx's `hash … consistent`.

An endpoint has 160 points for each unit of weight. With its name split into HOST and PORT at the last colon ("unix:"
in front is dropped), the first point is CRC-32(HOST 0 PORT 0000), each further one CRC-32(HOST 0 PORT and the point
before as four little-endian bytes). A key belongs to the first point at or after its own CRC-32. If that endpoint is
not available, the walk goes on clockwise, point by point, to the next that is; so the keys of a lost endpoint spread
over all others, and no other key moves. (nginx walks likewise, but after 20 points falls back to round robin.)

The name is the text as configured, as in nginx; so "localhost:80" and "127.0.0.1:80" lie differently on the ring.
Where one name stands for several addresses, each is placed by its address instead: nginx gives them one set of points
and takes turns, which is not consistent.

Owns the ring. Never keeps a key.
"""
from collections import Counter

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdlib cimport qsort

from pingora_c.upstream.endpoint cimport peer_available

cdef uint32_t[256] CRC_TABLE                       # of the reflected polynomial EDB88320 (IEEE 802.3)


cdef void fill_crc_table() noexcept nogil:
    cdef uint32_t byte, crc
    cdef int _bit
    for byte in range(256):
        crc = byte
        for _bit in range(8):
            crc = (crc >> 1) ^ (<uint32_t>0xEDB88320 if crc & 1 else 0)
        CRC_TABLE[byte] = crc


fill_crc_table()


cdef uint32_t crc_update(uint32_t crc, const char* data, size_t size) noexcept nogil:
    """Start with 0xFFFFFFFF; the CRC-32 is the complement of the last result."""
    cdef size_t i
    for i in range(size):
        crc = CRC_TABLE[(crc ^ <unsigned char>data[i]) & 0xFF] ^ (crc >> 8)
    return crc


cdef int compare_points(const void* a, const void* b) noexcept nogil:
    """Order by hash; of equal ones the lower slot first, so that the ring does not depend on qsort."""
    cdef const RingPoint* p = <const RingPoint*>a
    cdef const RingPoint* q = <const RingPoint*>b
    if p.hash != q.hash:
        return -1 if p.hash < q.hash else 1
    return -1 if p.slot < q.slot else p.slot > q.slot


cdef uint32_t drop_equal_points(RingPoint* ring, uint32_t n) noexcept nogil:
    """Keep the first of equal hashes in a sorted ring of `n` > 0 points; how many stay."""
    cdef uint32_t i, kept = 0
    for i in range(1, n):
        if ring[i].hash != ring[kept].hash:
            kept += 1
            ring[kept] = ring[i]
    return kept + 1


cdef uint32_t find_point(const RingPoint* ring, uint32_t n, uint32_t hash) noexcept nogil:
    """Index of the first point at or after `hash`, 0 past the last."""
    cdef uint32_t low = 0, high = n, middle
    while low < high:
        middle = low + (high - low) // 2
        if ring[middle].hash < hash:
            low = middle + 1
        else:
            high = middle
    return low if low < n else 0


cdef void place_points(RingPoint* points, uint32_t n, uint32_t slot, uint32_t base) noexcept nogil:
    """Write `n` points of `slot`; `base` is the CRC state behind HOST 0 PORT."""
    cdef unsigned char previous[4]
    cdef uint32_t i, hash = 0
    for i in range(n):
        previous[0] = hash & 0xFF
        previous[1] = (hash >> 8) & 0xFF
        previous[2] = (hash >> 16) & 0xFF
        previous[3] = hash >> 24
        hash = ~crc_update(base, <const char*>previous, 4)
        points[i].hash = hash
        points[i].slot = slot


cdef bytes ring_text(str name):
    """HOST 0 PORT of an endpoint's name."""
    cdef bytes raw = name.encode("utf-8", "surrogateescape")
    cdef bytes host, colon, port
    if raw.lower().startswith(b"unix:"):
        return raw[5:] + b"\0"
    host, colon, port = raw.rpartition(b":")
    if colon and (not port or port.isdigit()):
        return host + b"\0" + port
    return raw + b"\0"


cdef class Ketama(Selection):
    """Choose by a consistent hash of the key: the same key gives the same endpoint while it is available.

    An endpoint that comes or goes moves only the keys of its own share. Raises ValueError for weights whose sum is
    past 26,214.
    """

    def __dealloc__(self):
        PyMem_Free(self.ring)

    cdef int build(self, tuple endpoints) except -1:
        cdef Endpoint endpoint
        cdef uint64_t total = 0
        cdef uint32_t n = 0
        cdef RingPoint* ring
        cdef list texts
        uses = Counter([(<Endpoint>e).name for e in endpoints])
        texts = [ring_text((<Endpoint>e).name if uses[(<Endpoint>e).name] == 1 else (<Endpoint>e).address.text)
                 for e in endpoints]
        for endpoint in endpoints:
            total += <uint64_t>endpoint.weight * POINTS_PER_WEIGHT
        if total > POINTS_MAX:
            raise ValueError(f"the sum of weights is {total // POINTS_PER_WEIGHT}, "
                             f"a ring holds at most {POINTS_MAX // POINTS_PER_WEIGHT}")
        ring = <RingPoint*>PyMem_Malloc(total * sizeof(RingPoint))
        if ring == NULL:
            raise MemoryError
        for endpoint, text in zip(endpoints, texts):
            place_points(ring + n, endpoint.weight * POINTS_PER_WEIGHT, endpoint.slot,
                         crc_update(0xFFFFFFFF, <bytes>text, <size_t>len(<bytes>text)))
            n += endpoint.weight * POINTS_PER_WEIGHT
        qsort(ring, n, sizeof(RingPoint), compare_points)
        PyMem_Free(self.ring)
        self.ring = ring
        self.n_points = drop_equal_points(ring, n)
        self.endpoints = endpoints
        return 0

    cdef Endpoint select(self, const char* key, size_t key_size, uint64_t tried):
        cdef uint32_t at
        cdef Endpoint endpoint
        if self.ring == NULL:
            return None
        at = find_point(self.ring, self.n_points, ~crc_update(0xFFFFFFFF, key, key_size))
        endpoint = <Endpoint>self.endpoints[self.ring[at].slot]
        return endpoint if peer_available(endpoint, tried) else self._walk(at, tried)

    cdef Endpoint _walk(self, uint32_t at, uint64_t tried):
        """Clockwise from `at` to the next available endpoint, or None."""
        cdef Endpoint endpoint
        for endpoint in self.endpoints:
            if peer_available(endpoint, tried):
                break
        else:
            return None   # without this a set that is all down would cost a walk around the whole ring
        while True:
            at = at + 1 if at + 1 < self.n_points else 0
            endpoint = <Endpoint>self.endpoints[self.ring[at].slot]
            if peer_available(endpoint, tried):
                return endpoint

    def pick(self, bytes key not None, uint64_t tried):
        """The endpoint of `key`, or None if none is available."""
        return self.select(key, <size_t>len(key), tried)

    def points(self):
        """The ring as (hash, slot) pairs in ascending order, to compare it with another implementation."""
        return [(self.ring[i].hash, self.ring[i].slot) for i in range(self.n_points)]
