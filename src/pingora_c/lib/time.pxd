"""Clocks of the C library."""
cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    cdef struct tm:
        int tm_sec, tm_min, tm_hour, tm_mday, tm_mon, tm_year, tm_wday
    int CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_REALTIME_COARSE
    int clock_gettime(int clock, timespec* now)
    tm* gmtime_r(const time_t* seconds, tm* parts)
    size_t strftime(char* out, size_t room, const char* pattern, const tm* parts)
