"""The commonest of Python's %-formatting, straight into a buffer: %s of str and int, %d, %.Nf and %%."""

# Write `message % arguments`, or `message` if there are no arguments, from `out` on and before `end`; where it ended.
# NULL: there is no room, something is not printable ASCII, or it takes Python to say. Only objects of exactly these
# types are looked at, so nobody's code runs and the caller may begin again another way.
cdef char* put_message(char* out, char* end, object message, object arguments) noexcept
# Copy `text`; where it ended. NULL: no room, or not printable ASCII.
cdef char* put_plain(char* out, char* end, str text) noexcept
