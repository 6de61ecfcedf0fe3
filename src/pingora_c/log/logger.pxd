"""The short way of a logging call into a LogWriter: a call of `log.info(…)` that only our handler would see makes no
LogRecord.

The standard library's way is taken whenever anybody else could see the record: another handler, a filter, a formatter,
a subclass of Logger, a record factory, or a method of Logger that was replaced.
"""
cimport cython
from pingora_c.log.writer cimport LogWriter


cdef enum Decision:
    DECISION_FAILED = -1
    DISABLED
    WRITTEN
    USUAL        # nothing was done: the standard library's way is to be taken


# The loggers that a record meets on its way to the root.
@cython.final
cdef class Route:
    cdef list loggers
    cdef list attributes       # of each, its dict: reading that costs a third of reading the logger
    cdef str name
    cdef bint is_stale         # a logger has another parent now


@cython.final
cdef class ShortWay:
    cdef LogWriter writer
    cdef object handler        # ours, at the root
    cdef dict of_handler       # its attributes
    cdef dict routes           # by logger
    cdef dict methods          # of ours, by name, for class Logger
    cdef dict usual            # what Logger had when we came: those of our names, and those that we leave out
    cdef object factory        # of records
    cdef unsigned int version  # of class Logger, when its methods were looked at last; 0: not as they were

    # Whether the methods of Logger are ours, and those that are left out as they were.
    cdef bint is_untouched(self) except -1
    # Write what a call of this logger with this level says, if nobody else would see it.
    cdef Decision write(self, object logger, object level, object message, object args) except DECISION_FAILED
    cdef Route route_of(self, object logger)
