"""The block that holds the fields of one message.

A block owns its memory and stays in the kind of memory it is in: what begins in the pool moves up the pool's classes
and
then to malloc, what begins in malloc stays there. Nothing here knows of framing, connections or start lines beyond the
bytes appended for them.
"""
from libc.stddef cimport size_t
from libc.stdint cimport UINT16_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset
from pingora_c.base.ascii cimport equals_nocase, is_token
from pingora_c.base.span cimport Span
from pingora_c.http.field cimport (
    FIELD_REMOVED, NAME_CONNECTION, NAME_CONTENT_LENGTH, NAME_KEEP_ALIVE, NAME_OTHER, NAME_PROXY_CONNECTION, NAME_TE,
    NAME_TRANSFER_ENCODING, NAME_UPGRADE, Field, KnownName, is_framing_alias, recognise,
)
from pingora_c.lib.sanitize cimport PG_DEBUG
from pingora_c.mem.buffer_pool cimport BUFFER_LARGE, pool_give, try_pool_take

cdef int64_t n_holding = 0    # blocks that hold memory; counted in debug builds only


cdef bint is_valid_name(const char* name, size_t size) noexcept nogil:
    return size <= UINT16_MAX and is_token(name, size)


cdef bint is_valid_value(const char* value, size_t size) noexcept nogil:
    cdef size_t i
    if size == 0:
        return True
    if is_blank(value[0]) or is_blank(value[size - 1]):
        return False
    for i in range(size):
        if is_control(<unsigned char>value[i]):
            return False
    return True


cdef bint is_framing_name(KnownName known) noexcept nogil:
    return (
        known == NAME_CONNECTION or known == NAME_KEEP_ALIVE or known == NAME_PROXY_CONNECTION
        or known == NAME_TRANSFER_ENCODING or known == NAME_CONTENT_LENGTH or known == NAME_TE or known == NAME_UPGRADE
    )


cdef bint is_framing_text(const char* name, size_t size) noexcept nogil:
    return is_framing_name(recognise(name, size)) or is_framing_alias(name, size)


# --- memory of a block ---

cdef inline void count_holding(int change) noexcept nogil:
    global n_holding
    if PG_DEBUG:
        n_holding += change


cdef int allocate(HeaderBlock* block, uint64_t need, bint pooled) noexcept nogil:
    """Give an empty block memory for `need` bytes; `pooled` as far as the pool's classes reach."""
    if need > BLOCK_MAX:
        return BLOCK_NO_MEMORY
    if pooled and need <= BUFFER_LARGE:
        block.base = try_pool_take(need, &block.cap)
        block.is_pooled = True
    else:
        # The table hangs from the end, so the end is aligned as rows are.
        block.cap = <uint32_t>((need + sizeof(Field) - 1) // sizeof(Field) * sizeof(Field))
        block.base = <char*>malloc(block.cap)
        block.is_pooled = False
    if block.base == NULL:
        block_init(block)
        return BLOCK_NO_MEMORY
    count_holding(1)
    return BLOCK_OK


cdef void copy_content(HeaderBlock* target, const HeaderBlock* source) noexcept nogil:
    """Copy bytes and rows into an allocated block that is large enough."""
    if source.base == NULL:
        return
    memcpy(target.base, source.base, source.used)
    memcpy(target.base + target.cap - source.n * sizeof(Field), source.base + source.cap - source.n * sizeof(Field),
           source.n * sizeof(Field))
    target.used = source.used
    target.n = source.n
    target.removed = source.removed
    target.known_mask = source.known_mask


cdef int move_content(HeaderBlock* block, uint64_t need, bint pooled) noexcept nogil:
    """Move the block into new memory of at least `need` bytes. Unchanged on failure."""
    cdef HeaderBlock moved
    block_init(&moved)
    if allocate(&moved, need, pooled) != BLOCK_OK:
        return BLOCK_NO_MEMORY
    copy_content(&moved, block)
    block_free(block)
    block[0] = moved
    return BLOCK_OK


cdef void drop_removed_rows(HeaderBlock* block) noexcept nogil:
    """Close the gaps in the table."""
    cdef uint32_t i, kept = 0
    for i in range(block.n):
        if is_live(block_field(block, i)):
            block_field(block, kept)[0] = block_field(block, i)[0]
            kept += 1
    block.n = kept
    block.removed = 0


cdef int reserve(HeaderBlock* block, uint64_t size, uint32_t rows) noexcept nogil:
    """Make room for `size` bytes and `rows` rows more."""
    cdef uint64_t need
    cdef bint pooled = block.base == NULL or block.is_pooled
    if block.n + rows > BLOCK_FIELDS_MAX:
        drop_removed_rows(block)
        if block.n + rows > BLOCK_FIELDS_MAX:
            return BLOCK_NO_MEMORY
    need = bytes_needed(block) + size + rows * sizeof(Field)
    if need <= block.cap:
        return BLOCK_OK
    if need > BLOCK_MAX:
        return BLOCK_NO_MEMORY
    if not pooled or need > BUFFER_LARGE:
        need = min(need + need // 2, <uint64_t>BLOCK_MAX)
    return move_content(block, need, pooled)


cdef inline Py_ssize_t offset_inside(const HeaderBlock* block, const char* data) noexcept nogil:
    """Offset of `data` if it points into the block's bytes, -1 if not. The source of an edit may: the block moves
    when it grows.
    """
    if block.base != NULL and block.base <= data < block.base + block.used:
        return data - block.base
    return -1


cdef void block_init(HeaderBlock* block) noexcept nogil:
    memset(block, 0, sizeof(HeaderBlock))


cdef void block_free(HeaderBlock* block) noexcept nogil:
    if block.base != NULL:
        count_holding(-1)
        if block.is_pooled:
            pool_give(block.base, block.cap)
        else:
            free(block.base)
    block_init(block)


cdef int block_start_unpooled(HeaderBlock* block, uint32_t size) noexcept nogil:
    return allocate(block, size, False)


cdef int block_load(
    HeaderBlock* block, const char* bytes, uint32_t size, const Field* fields, uint32_t n,
) noexcept nogil:
    cdef uint32_t i
    cdef uint64_t need = <uint64_t>size + <uint64_t>n * sizeof(Field)
    if n > BLOCK_FIELDS_MAX or need > BLOCK_MAX:
        return BLOCK_NO_MEMORY
    need = min(need + SLACK_BYTES + SLACK_ROWS * sizeof(Field), <uint64_t>BLOCK_MAX)
    if allocate(block, need, True) != BLOCK_OK:
        return BLOCK_NO_MEMORY
    memcpy(block.base, bytes, size)
    block.used = size
    block.n = n
    for i in range(n):
        block_field(block, i)[0] = fields[i]
        block.known_mask |= <uint64_t>1 << fields[i].known
        block.removed += not is_live(&fields[i])
    return BLOCK_OK


cdef int block_copy(HeaderBlock* target, const HeaderBlock* source) noexcept nogil:
    cdef uint64_t need = min(bytes_needed(source) + SLACK_BYTES + SLACK_ROWS * sizeof(Field), <uint64_t>BLOCK_MAX)
    if allocate(target, need, True) != BLOCK_OK:
        return BLOCK_NO_MEMORY
    copy_content(target, source)
    return BLOCK_OK


cdef int block_detach(HeaderBlock* block) noexcept nogil:
    if block.base != NULL and not block.is_pooled:
        return BLOCK_OK
    # An empty block gets a row's worth too, so that it does not begin in the pool later.
    return move_content(block, max(bytes_needed(block), <uint64_t>sizeof(Field)), False)


cdef int block_append_bytes(HeaderBlock* block, const char* bytes, uint32_t size, Span* span) noexcept nogil:
    cdef Py_ssize_t inside = offset_inside(block, bytes)
    if reserve(block, size, 0) != BLOCK_OK:
        return BLOCK_NO_MEMORY
    if inside >= 0:
        bytes = block.base + inside
    span.at = block.used
    span.size = size
    if size:
        memcpy(block.base + block.used, bytes, size)
    block.used += size
    return BLOCK_OK


# --- look-up and edits ---

cdef Py_ssize_t block_find_known(const HeaderBlock* block, KnownName known, uint32_t start) noexcept nogil:
    cdef uint32_t i
    cdef const Field* field
    if not block_may_hold(block, known):
        return -1
    for i in range(start, block.n):
        field = block_field(block, i)
        if field.known == known and is_live(field):
            return i
    return -1


cdef Py_ssize_t find_other(const HeaderBlock* block, const char* name, uint32_t size, uint32_t start) noexcept nogil:
    """Find a name that is none of the known ones."""
    cdef uint32_t i
    cdef const Field* field
    for i in range(start, block.n):
        field = block_field(block, i)
        if field.name_size == size and field.known == NAME_OTHER and is_live(field):
            if equals_nocase(block.base + field.name_at, name, size):
                return i
    return -1


cdef inline Py_ssize_t find_name(
    const HeaderBlock* block, KnownName known, const char* name, uint32_t size, uint32_t start,
) noexcept nogil:
    if known != NAME_OTHER:
        return block_find_known(block, known, start)
    return find_other(block, name, size, start)


cdef Py_ssize_t block_find(const HeaderBlock* block, const char* name, uint32_t size, uint32_t start) noexcept nogil:
    return find_name(block, recognise(name, size), name, size, start)


cdef int append_field(
    HeaderBlock* block, const char* name, uint32_t name_size, const char* value, uint32_t value_size,
) noexcept nogil:
    """Append a field that is known to be valid."""
    cdef Py_ssize_t name_inside = offset_inside(block, name)
    cdef Py_ssize_t value_inside = offset_inside(block, value)
    cdef Field* field
    if reserve(block, <uint64_t>name_size + value_size, 1) != BLOCK_OK:
        return BLOCK_NO_MEMORY
    if name_inside >= 0:
        name = block.base + name_inside
    if value_inside >= 0:
        value = block.base + value_inside
    field = block_field(block, block.n)
    field.name_at = block.used
    field.name_size = <uint16_t>name_size
    field.value_at = block.used + name_size
    field.value_size = value_size
    field.known = recognise(name, name_size)
    field.flags = 0
    memcpy(block.base + field.name_at, name, name_size)
    if value_size:
        memcpy(block.base + field.value_at, value, value_size)
    block.used += name_size + value_size
    block.known_mask |= <uint64_t>1 << field.known
    block.n += 1
    return BLOCK_OK


cdef int replace_value(HeaderBlock* block, uint32_t row, const char* value, uint32_t size) noexcept nogil:
    """Give a row a new value: over the old one if it fits, else appended."""
    cdef Field* field = block_field(block, row)
    cdef Span span
    if size <= field.value_size:
        memmove(block.base + field.value_at, value, size)
        field.value_size = size
        return BLOCK_OK
    if block_append_bytes(block, value, size, &span) != BLOCK_OK:
        return BLOCK_NO_MEMORY
    field = block_field(block, row)
    field.value_at = span.at
    field.value_size = size
    return BLOCK_OK


cdef void remove_row(HeaderBlock* block, uint32_t row) noexcept nogil:
    block_field(block, row).flags |= FIELD_REMOVED
    block.removed += 1


cdef int block_add(
    HeaderBlock* block, const char* name, uint32_t name_size, const char* value, uint32_t value_size,
) noexcept nogil:
    if not is_valid_name(name, name_size):
        return BLOCK_BAD_NAME
    if not is_valid_value(value, value_size):
        return BLOCK_BAD_VALUE
    return append_field(block, name, name_size, value, value_size)


cdef int block_set(
    HeaderBlock* block, const char* name, uint32_t name_size, const char* value, uint32_t value_size,
) noexcept nogil:
    cdef Py_ssize_t first, row
    if not is_valid_name(name, name_size):
        return BLOCK_BAD_NAME
    if not is_valid_value(value, value_size):
        return BLOCK_BAD_VALUE
    first = block_find(block, name, name_size, 0)
    if first < 0:
        return append_field(block, name, name_size, value, value_size)
    if replace_value(block, <uint32_t>first, value, value_size) != BLOCK_OK:
        return BLOCK_NO_MEMORY
    # the argument may have pointed into memory that moved
    name = block.base + block_field(block, <uint32_t>first).name_at
    row = block_find(block, name, name_size, <uint32_t>first + 1)
    while row >= 0:
        remove_row(block, <uint32_t>row)
        row = block_find(block, name, name_size, <uint32_t>row + 1)
    return BLOCK_OK


cdef uint32_t block_remove(HeaderBlock* block, const char* name, uint32_t size) noexcept nogil:
    cdef KnownName known = recognise(name, size)
    cdef uint32_t count = 0
    cdef Py_ssize_t row = find_name(block, known, name, size, 0)
    while row >= 0:
        remove_row(block, <uint32_t>row)
        count += 1
        row = find_name(block, known, name, size, <uint32_t>row + 1)
    return count


def n_with_memory() -> int:
    """Return how many blocks hold memory; counted in debug builds only, else 0."""
    return n_holding
