"""Trailer fields of one message (RFC 9110 §6.5): a HeaderBlock without a start line.

Fields that decide framing, routing, authentication or how the content is read, or that tell who the client is, are
dropped when they are loaded, since a receiver may merge trailers into the head (RFC 9110 §6.5.1).
"""
from libc.stdint cimport uint32_t
from pingora_c.http.field cimport Field
from pingora_c.http.header_block cimport HeaderBlock


cdef class Trailers:
    cdef HeaderBlock block

    # From a parsed trailer section, offsets counted from `data`; forbidden fields are left out. Raises MemoryError.
    @staticmethod
    cdef Trailers of(const char* data, uint32_t size, const Field* fields, uint32_t n)
