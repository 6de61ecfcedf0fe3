"""Lines of the standard library's log records: `2026-11-24T19:40:37.123Z INFO gateway: message`."""
from pingora_c.log.writer cimport LogWriter

# Write the line of a logging call that makes no LogRecord, at the present time. `name` is the logger's.
cdef int log_at_once(LogWriter writer, str name, object level, object message, object args) except -1
