"""%-formatting of log messages. Owns nothing, makes no object."""
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.tuple cimport PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_1BYTE_DATA, PyUnicode_1BYTE_KIND, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.math cimport fabs, signbit
from libc.stdint cimport uint32_t, uint64_t
from pingora_c.base.ascii cimport put_decimal
from pingora_c.lib.decimal cimport pg_tens
from pingora_c.lib.long cimport PyLong_AsLongLongAndOverflow
from pingora_c.lib.tuple cimport PyTuple_GET_ITEM

cdef enum:
    NUMBER_ROOM = 32       # of any number that is written here, at most 20 digits, sign and point
    DIGITS_MAX = 6         # behind the point
    SCALED_MAX = 1000000000


cdef inline char* copy_plain(char* out, char* end, const char* text, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    cdef unsigned char odd = 0
    if size > end - out:
        return NULL
    for i in range(size):
        odd |= (<unsigned char>text[i] < 32) | (<unsigned char>text[i] > 126)
        out[i] = text[i]
    return NULL if odd else out + size


cdef char* put_plain(char* out, char* end, str text) noexcept:
    if PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND:
        return NULL
    return copy_plain(out, end, <const char*>PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text))


cdef char* put_int(char* out, char* end, object number) noexcept:
    cdef int overflow = 0
    cdef long long value = PyLong_AsLongLongAndOverflow(number, &overflow)     # raises nothing for an int
    if overflow or end - out < NUMBER_ROOM:
        return NULL
    if value < 0:
        out[0] = c"-"
        return put_decimal(out + 1, ~<uint64_t>value + 1)
    return put_decimal(out, <uint64_t>value)


cdef char* put_fixed(char* out, char* end, double value, uint32_t digits) noexcept nogil:
    """`digits` behind the point; NULL for what is too large, or too near the middle of two for a product to tell."""
    cdef double scaled = fabs(value) * pg_tens[digits]
    cdef uint64_t whole
    cdef uint32_t i
    if not scaled < SCALED_MAX or end - out < NUMBER_ROOM:
        return NULL
    whole = <uint64_t>scaled
    scaled -= <double>whole
    if fabs(scaled - 0.5) < 1e-6:      # an error of half a unit in the last place is below 1e-7
        return NULL
    whole += scaled > 0.5
    if signbit(value):
        out[0] = c"-"
        out += 1
    out = put_decimal(out, whole // pg_tens[digits])
    if digits:
        out[0] = c"."
        whole %= pg_tens[digits]
        for i in range(digits, 0, -1):
            out[i] = <char>(48 + whole % 10)
            whole //= 10
        out += digits + 1
    return out


cdef char* put_message(char* out, char* end, object message, object arguments) noexcept:
    cdef const char* text
    cdef const char* last
    cdef Py_ssize_t used = 0
    cdef object argument
    cdef uint32_t digits
    if type(message) is not str or type(arguments) is not tuple:
        return NULL
    if PyTuple_GET_SIZE(arguments) == 0:
        return put_plain(out, end, <str>message)
    if PyUnicode_KIND(message) != PyUnicode_1BYTE_KIND:
        return NULL
    text = <const char*>PyUnicode_1BYTE_DATA(message)
    last = text + PyUnicode_GET_LENGTH(message)      # a str ends with a NUL, which is no directive
    while text < last and out != NULL:
        if text[0] != c"%" or text[1] == c"%":
            text += text[0] == c"%"
            out = copy_plain(out, end, text, 1)
            text += 1
            continue
        if used == PyTuple_GET_SIZE(arguments):
            return NULL
        argument = <object>PyTuple_GET_ITEM(<tuple>arguments, used)
        used += 1
        if text[1] == c"s" and type(argument) is str:
            out = put_plain(out, end, <str>argument)
            text += 2
        elif (text[1] == c"s" or text[1] == c"d") and type(argument) is int:
            out = put_int(out, end, argument)
            text += 2
        elif text[1] == c"." and c"0" <= text[2] <= c"0" + DIGITS_MAX and text[3] == c"f" and type(argument) is float:
            digits = text[2] - c"0"
            out = put_fixed(out, end, PyFloat_AS_DOUBLE(argument), digits)
            text += 4
        else:
            return NULL
    return out if used == PyTuple_GET_SIZE(arguments) else NULL
