"""Header fields of one message: an ordered multi-map over the bytes it was received in, with edits laid over them.

`HeaderBlock` (C) is what the core works on. It owns one pooled buffer (or, past BUFFER_LARGE and for messages made in
Python, malloc'ed
memory): bytes grow from the front, the field table grows down from the end, so one allocation carries a head:

    base                      used        table_at            cap
    | received bytes | edits  |   free    | field n-1 … 0     |

Removed fields keep their row with FIELD_REMOVED. An edit appends new bytes; spans are offsets, so the buffer may move.
Every written name and value is validated: name a token; value without CR, LF, NUL and other controls but HTAB, no
white space at its ends.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from pingora_c.base.span cimport Span
from pingora_c.http.field cimport FIELD_REMOVED, Field, KnownName

cdef struct HeaderBlock:
    char* base            # owned; NULL while empty
    uint32_t cap          # bytes at base
    uint32_t used         # bytes in use from the front; used + n * sizeof(Field) <= cap
    uint32_t n            # rows in the table, removed ones included
    uint32_t removed      # rows with FIELD_REMOVED
    uint64_t known_mask   # bit k set if a live or removed row of KnownName k was ever added: 0 means surely absent
    uint8_t is_pooled     # base came from the pool

cdef enum BlockError:
    BLOCK_OK = 0
    BLOCK_NO_MEMORY = -1      # the pool's limit, or past BLOCK_MAX
    BLOCK_BAD_NAME = -2
    BLOCK_BAD_VALUE = -3

cdef enum:
    BLOCK_MAX = 1048576       # a block never grows past this
    BLOCK_FIELDS_MAX = 1000   # nor past this many rows

cdef inline Field* block_field(const HeaderBlock* block, uint32_t i) noexcept nogil:
    """Row `i`, 0 <= i < block.n. The pointer is good until the next change of the block."""
    return <Field*>(block.base + block.cap) - 1 - i

cdef inline bint block_may_hold(const HeaderBlock* block, KnownName known) noexcept nogil:
    """False: surely no such field. True: look."""
    return (block.known_mask >> <int>known) & 1

cdef void block_init(HeaderBlock* block) noexcept nogil

# Give the memory back. May be called twice.
cdef void block_free(HeaderBlock* block) noexcept nogil

# Fill an empty block with a parsed head: copy `size` bytes and `n` rows whose offsets count from `bytes`. Leaves room
# for a few edits. BLOCK_OK or BLOCK_NO_MEMORY.
cdef int block_load(
    HeaderBlock* block, const char* bytes, uint32_t size, const Field* fields, uint32_t n,
) noexcept nogil

# Make `target` (empty) an independent copy of `source`.
cdef int block_copy(HeaderBlock* target, const HeaderBlock* source) noexcept nogil

# Give an empty block `size` bytes of malloc'ed memory, in which it then stays (a message made in Python). BLOCK_OK or
# BLOCK_NO_MEMORY.
cdef int block_start_unpooled(HeaderBlock* block, uint32_t size) noexcept nogil

# Move the content out of the pool into exactly as much malloc'ed memory (a message that outlives its session).
# BLOCK_OK or BLOCK_NO_MEMORY.
cdef int block_detach(HeaderBlock* block) noexcept nogil

# Append raw bytes (a start line's method, target, reason) and set `span` to where they are. Nothing is validated.
cdef int block_append_bytes(HeaderBlock* block, const char* bytes, uint32_t size, Span* span) noexcept nogil

# Index of the first live row of `known` at or after `start`, -1 if none.
cdef Py_ssize_t block_find_known(const HeaderBlock* block, KnownName known, uint32_t start) noexcept nogil

# The same by name, case-insensitive. Uses `known` of the name to compare fast.
cdef Py_ssize_t block_find(const HeaderBlock* block, const char* name, uint32_t size, uint32_t start) noexcept nogil

# Append a field. Validates both. BLOCK_OK or a BlockError.
cdef int block_add(
    HeaderBlock* block, const char* name, uint32_t name_size, const char* value, uint32_t value_size,
) noexcept nogil

# Replace all fields of this name by one, in the place of the first (else at the end), keeping the first's spelling of
# the name if there is one.
cdef int block_set(
    HeaderBlock* block, const char* name, uint32_t name_size, const char* value, uint32_t value_size,
) noexcept nogil

# Remove all fields of this name; return how many there were.
cdef uint32_t block_remove(HeaderBlock* block, const char* name, uint32_t size) noexcept nogil

cdef bint is_valid_name(const char* name, size_t size) noexcept nogil
cdef bint is_valid_value(const char* value, size_t size) noexcept nogil

# A name that decides framing or belongs to the connection and so is the core's own: connection, keep-alive, proxy-
# connection, transfer-encoding, te,
# trailer is not one of them, content-length, upgrade. Writing one through HeaderMap raises ValueError; `del` and
# `remove` of content-length are allowed
# (the body then goes out chunked).
cdef bint is_framing_name(KnownName known) noexcept nogil
# The same by text; a framing alias is one as well: see is_framing_alias.
cdef bint is_framing_text(const char* name, size_t size) noexcept nogil

# -- for header_map

cdef enum:
    SLACK_BYTES = 512      # room for edits left in a loaded block
    SLACK_ROWS = 8
    TAB = 9
    SPACE = 32
    DELETE = 127

cdef inline bint is_control(unsigned char c) noexcept nogil:
    return (c < SPACE and c != TAB) or c == DELETE

cdef inline bint is_blank(char c) noexcept nogil:
    return c == SPACE or c == TAB

cdef inline bint is_live(const Field* field) noexcept nogil:
    return not field.flags & FIELD_REMOVED

cdef inline uint64_t bytes_needed(const HeaderBlock* block) noexcept nogil:
    return block.used + <uint64_t>block.n * sizeof(Field)

# Get memory for `need` bytes into an empty block; BLOCK_OK or BLOCK_NO_MEMORY.
cdef int allocate(HeaderBlock* block, uint64_t need, bint pooled) noexcept nogil

# Copy live rows and bytes into an empty block that has room for them.
cdef void copy_content(HeaderBlock* target, const HeaderBlock* source) noexcept nogil

cdef void remove_row(HeaderBlock* block, uint32_t row) noexcept nogil
