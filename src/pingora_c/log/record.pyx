"""Lines of log records. Owns the text of the present second."""
import logging
from collections.abc import Mapping

from libc.stdint cimport int64_t
from libc.string cimport memcpy
from pingora_c.lib.time cimport CLOCK_REALTIME_COARSE, clock_gettime, gmtime_r, strftime, time_t, timespec, tm
from pingora_c.log.percent cimport put_message, put_plain
from pingora_c.log.writer cimport LogWriter

cdef enum:
    STAMP_SIZE = 25        # "2026-11-24T19:40:37.123Z "
    LINE_MAX = 2048        # longer lines are made as a str
    SECOND_MAX = 253402300799     # the end of the year 9999

cdef char[32] stamp
cdef int64_t stamp_second = -1

cdef dict level_names = logging._levelToName
cdef dict CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (9, 10)}
CONTROLS.update({0x2028: "\\u2028", 0x2029: "\\u2029"})


cdef str escaped(str text):
    """Give `text` with its controls as escapes, but for line ends and tabs."""
    return text.translate(CONTROLS)


def message_of(message, arguments):
    """Give what a record says; one whose arguments do not fit says so."""
    try:
        text = message if type(message) is str else str(message)
        return text % arguments if arguments else text
    except Exception as error:
        return f"{message!r} (arguments {arguments!r} do not fit: {error})"


cdef void write_stamp(double created) noexcept:
    """Put the time into `stamp`, STAMP_SIZE bytes."""
    global stamp_second
    cdef int64_t second = <int64_t>created if 0 <= created <= SECOND_MAX else 0
    cdef int milliseconds = <int>((created - <double>second) * 1000) if second else 0
    cdef time_t at = second
    cdef tm parts
    if second != stamp_second:
        gmtime_r(&at, &parts)
        strftime(stamp, sizeof(stamp), b"%Y-%m-%dT%H:%M:%S.000Z ", &parts)
        stamp_second = second
    stamp[20] = <char>(48 + milliseconds // 100)
    stamp[21] = <char>(48 + milliseconds // 10 % 10)
    stamp[22] = <char>(48 + milliseconds % 10)


cdef char* begin_line(char* out, char* end, double created, str level, str name) noexcept:
    """Write what goes before a message; where it ended, NULL for odd names."""
    write_stamp(created)
    memcpy(out, stamp, STAMP_SIZE)
    out = put_plain(out + STAMP_SIZE, end, level)
    if out == NULL or end - out < 3:
        return NULL
    out[0] = c" "
    out = put_plain(out + 1, end, name)
    if out == NULL or end - out < 2:
        return NULL
    out[0] = c":"
    out[1] = c" "
    return out + 2


cdef int put_record(LogWriter writer, double created, str level, str name, str message, str trace) except -1:
    """Write the line of a message, whose arguments are in it already."""
    cdef char[LINE_MAX] line
    cdef char* end = line + LINE_MAX - 1
    cdef char* out = begin_line(line, end, created, level, name)
    if out != NULL:
        out = put_plain(out, end, message)
    if trace or out == NULL:
        return put_text(writer, level, name, message, trace)
    out[0] = c"\n"
    writer.put(line, out + 1 - line)
    return 0


cdef int put_text(LogWriter writer, str level, str name, str message, str trace) except -1:
    """The same for what has to be escaped, is long or has a traceback. `stamp` is made."""
    text = message if message.isprintable() else escaped(message).replace("\n", "\n  ")
    line = f"{stamp[:STAMP_SIZE].decode('ascii')}{level} {name}: {text}\n"
    if trace:
        line += "".join([f"  {part}\n" for part in escaped(trace).strip("\n").split("\n")])
    writer.write(line)
    return 0


def write_record(LogWriter writer not None, double created, str level not None, str name not None,
                 str message not None, str trace=""):
    """Write one record. Controls in it are escaped, lines after the first and `trace` indented."""
    put_record(writer, created, level, name, message, trace)


cdef int log_at_once(LogWriter writer, str name, object level, object message, object args) except -1:
    cdef char[LINE_MAX] line
    cdef char* end = line + LINE_MAX - 1
    cdef char* out
    cdef timespec now
    cdef double created
    cdef str level_name = level_names.get(level) or logging.getLevelName(level)
    if args and len(args) == 1 and args[0] and type(args[0]) is not str and isinstance(args[0], Mapping):
        args = args[0]       # log.info("%(a)s", {"a": 1}), as LogRecord has it
    clock_gettime(CLOCK_REALTIME_COARSE, &now)     # of the last tick of the kernel's clock, for a quarter of the price
    created = <double>now.tv_sec + <double>now.tv_nsec / 1e9
    out = begin_line(line, end, created, level_name, name)
    if out != NULL:
        out = put_message(out, end, message, args)
    if out == NULL:
        return put_record(writer, created, level_name, name, message_of(message, args), "")
    out[0] = c"\n"
    writer.put(line, out + 1 - line)
    return 0
