"""Where services and upstreams are counted. Owns nothing."""
from pingora_c.stats.counters cimport RECORDS_END, SERVICE, SERVICE_CELLS, UPSTREAM, UPSTREAM_CELLS, Counters


cdef uint64_t* upstream_cells(Plan plan, Endpoint endpoint) noexcept:
    cdef Counters counters = plan.reactor.counters
    cdef bytes key
    cdef uint64_t* cells = counters.words + <int>RECORDS_END     # ignored there: without memory for a name
    try:
        if endpoint is None:
            return counters.record(<int>UPSTREAM, b"_other", <int>UPSTREAM_CELLS)
        key = endpoint.address.text.encode()
        cells = counters.record(<int>UPSTREAM, key, <int>UPSTREAM_CELLS)
        endpoint.cells = cells
        endpoint.counters_serial = counters.serial
    except:
        pass   # ignored: what is counted is nobody's
    return cells


cdef uint64_t* service_cells(Plan plan, str name) except NULL:
    cdef bytes key = b"_other" if name is None else name.encode()
    return plan.reactor.counters.record(<int>SERVICE, key, <int>SERVICE_CELLS)
