"""Trailers of what is sent."""
from libc.stdint cimport int32_t
from pingora_c.http.header_block cimport HeaderBlock
from pingora_c.lib.nghttp2 cimport nghttp2_session

# Submit the fields of a block behind the body of a stream. 0; not 0: there are none, or they cannot be.
cdef int submit_trailers(nghttp2_session* of, int32_t stream_id, const HeaderBlock* block) noexcept
