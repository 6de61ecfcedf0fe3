"""What a session of HTTP/2 asks of nghttp2, and what it tells its peer before anything else."""
from pingora_c.h2.session cimport H2Limits
from pingora_c.lib.nghttp2 cimport nghttp2_option, nghttp2_session

# The caller deletes it; MemoryError.
cdef nghttp2_option* make_option(const H2Limits* limits, bint is_server) except NULL
# Submit SETTINGS, and the window of the connection; MemoryError.
cdef int submit_settings(nghttp2_session* session, const H2Limits* limits, bint is_server) except -1
