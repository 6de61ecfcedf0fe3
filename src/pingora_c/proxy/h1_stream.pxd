"""What both sides of an HTTP/1 exchange share: decoding the body that comes and framing the body that goes."""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.h1.chunked cimport ChunkedDecoder
from pingora_c.http.header_block cimport HeaderBlock
from pingora_c.http.trailers cimport Trailers
from pingora_c.net.connection cimport Connection
from pingora_c.proxy.stream cimport Stream


cdef class H1Stream(Stream):
    cdef Connection connection
    cdef uint64_t body_left       # BODY_LENGTH: bytes still to come
    cdef ChunkedDecoder chunks
    cdef bint in_trailers
    cdef uint8_t out_framing      # BodyFraming of the body that goes
    cdef uint64_t out_left        # FRAME_LENGTH: bytes still to go
    cdef bint out_started         # a chunk was written
    cdef bint out_done
    cdef char* large_head         # owned between head_place and head_written, for what reserve has no room for
    cdef object naming_head       # of the body that comes, if its Connection field names some; trailers, too; else None
    cdef const HeaderBlock* naming    # its block; NULL: none
    # `framing` is set; `head` owns `block`; all chunks together may have `extension_bytes` of extensions
    cdef void begin_body(self, object head, const HeaderBlock* block, uint32_t extension_bytes) noexcept
    cdef size_t decode(self, const char* data, size_t size) noexcept      # bytes used
    cdef size_t decode_chunked(self, const char* data, size_t size) noexcept
    cdef size_t decode_trailers(self, const char* data, size_t size) noexcept
    cdef void end_body(self, Trailers trailers) noexcept
    # Begin a part of a body: how much of it goes out, -1 without memory.
    cdef Py_ssize_t frame(self, size_t size) noexcept
    # Room for a head of up to `room` bytes, NULL without memory; head_written follows with what was used of it.
    cdef char* head_place(self, size_t room) noexcept
    cdef int head_written(self, size_t size) noexcept      # 0, -1 without memory
    cdef int send_trailers(self, Trailers trailers) noexcept
    cdef void refuse_body(self, int event) noexcept
