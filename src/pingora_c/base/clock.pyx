"""Owns the cached Date text of the process. Never reads the clock for timers: those take now_us()."""
from libc.stdio cimport snprintf
from pingora_c.lib.time cimport CLOCK_REALTIME_COARSE, gmtime_r, time_t, tm

cdef const char** DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
cdef const char** MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
cdef char cached_text[64]
cdef time_t cached_second = 0


cdef const char* date_text() noexcept nogil:
    global cached_second
    cdef timespec now
    cdef tm parts
    clock_gettime(CLOCK_REALTIME_COARSE, &now)
    if now.tv_sec != cached_second:
        cached_second = now.tv_sec
        gmtime_r(&now.tv_sec, &parts)
        snprintf(cached_text, sizeof(cached_text), "%s, %02d %s %04d %02d:%02d:%02d GMT", DAYS[parts.tm_wday],
                 parts.tm_mday, MONTHS[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec)
    return cached_text


def http_date() -> str:
    """Return the present time as an IMF-fixdate (RFC 9110 §5.6.7)."""
    return date_text()[:DATE_SIZE].decode("ascii")
