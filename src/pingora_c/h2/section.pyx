"""Field sections. Own their memory; know neither session nor message."""
from libc.string cimport memcmp, memcpy, memset
from pingora_c.base.ascii cimport is_digit
from pingora_c.http.field cimport recognise
from pingora_c.mem.buffer_pool cimport BUFFER_SMALL, pool_give, try_pool_take

cdef enum:
    COLON = 58
    FIELD_OVERHEAD = 32


cdef int section_begin(FieldSection* section) noexcept nogil:
    section_free(section)
    section.bytes = try_pool_take(BUFFER_SMALL, &section.cap)
    section.fields = <Field*>try_pool_take(SECTION_FIELDS_MAX * sizeof(Field), &section.fields_cap)
    if section.bytes == NULL or section.fields == NULL:
        section_free(section)
        return -1
    return 0


cdef void section_free(FieldSection* section) noexcept nogil:
    if section.bytes != NULL:
        pool_give(section.bytes, section.cap)
    if section.fields != NULL:
        pool_give(<char*>section.fields, section.fields_cap)
    memset(section, 0, sizeof(FieldSection))


cdef bint make_room(FieldSection* section, size_t size) noexcept nogil:
    cdef uint32_t cap
    cdef char* grown
    if section.used + size <= section.cap:
        return True
    grown = try_pool_take(section.used + size, &cap)
    if grown == NULL:
        return False
    memcpy(grown, section.bytes, section.used)
    pool_give(section.bytes, section.cap)
    section.bytes = grown
    section.cap = cap
    return True


cdef uint16_t read_status(const char* text, size_t size) noexcept nogil:
    if size != 3 or not (is_digit(text[0]) and is_digit(text[1]) and is_digit(text[2])):
        return 0
    return <uint16_t>((text[0] - 48) * 100 + (text[1] - 48) * 10 + text[2] - 48)


cdef Span* pseudo_place(FieldSection* section, const char* name, size_t size) noexcept nogil:
    if size == 5 and memcmp(name, b":path", 5) == 0:
        return &section.path
    if size == 7 and memcmp(name, b":method", 7) == 0:
        return &section.method
    if size == 7 and memcmp(name, b":scheme", 7) == 0:
        return &section.scheme
    if size == 10 and memcmp(name, b":authority", 10) == 0:
        return &section.authority
    if size == 9 and memcmp(name, b":protocol", 9) == 0:
        return &section.protocol
    return NULL


cdef void section_add(
    FieldSection* section, const char* name, size_t name_size, const char* value, size_t value_size,
    uint32_t head_bytes, uint32_t fields,
) noexcept nogil:
    cdef Field* field
    cdef Span* span
    cdef size_t charge = name_size + value_size + FIELD_OVERHEAD
    section.charged = <uint32_t>min(<size_t>0xFFFFFFFF, section.charged + charge)
    if section.is_over or section.bytes == NULL:
        return
    if (section.charged > head_bytes or section.used + name_size + value_size > SECTION_BYTES_MAX
            or name_size > 0xFFFF):
        section.is_over = True
        return
    if name_size == 7 and memcmp(name, b":status", 7) == 0:
        section.status = read_status(value, value_size)
        return
    if not make_room(section, name_size + value_size):
        section.lacks_memory = section.is_over = True
        return
    if name_size and name[0] == COLON:
        span = pseudo_place(section, name, name_size)
        if span != NULL:
            memcpy(section.bytes + section.used, value, value_size)
            span.at = section.used
            span.size = <uint32_t>value_size
            section.used += <uint32_t>value_size
        return
    if section.n >= fields or section.n >= SECTION_FIELDS_MAX:
        section.is_over = True
        return
    field = section.fields + section.n
    memcpy(section.bytes + section.used, name, name_size)
    memcpy(section.bytes + section.used + name_size, value, value_size)
    field.name_at = section.used
    field.name_size = <uint16_t>name_size
    field.value_at = section.used + <uint32_t>name_size
    field.value_size = <uint32_t>value_size
    field.known = recognise(name, name_size)
    field.flags = 0
    section.used += <uint32_t>(name_size + value_size)
    section.n += 1
