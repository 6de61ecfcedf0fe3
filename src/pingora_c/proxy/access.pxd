"""The access-log line of a session: what a head and a peer add to its record, and the format."""
from pingora_c.http.message cimport RequestHead
from pingora_c.log.access cimport AccessRecord
from pingora_c.proxy.plan cimport Plan
from pingora_c.upstream.peer cimport HttpPeer

cdef enum AccessFormat:
    ACCESS_OFF = 0
    ACCESS_COMBINED = 1
    ACCESS_JSON = 2

# Complete `record` from the request and the last peer (each may be None), format it and queue the line.
cdef int write_record(Plan plan, AccessRecord* record, RequestHead head, HttpPeer peer) except -1
