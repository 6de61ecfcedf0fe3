"""HeaderMap. Every str is made on demand; no Python object is kept per field."""
from collections.abc import ItemsView, KeysView, Mapping, MutableMapping, ValuesView

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport (
    PyUnicode_1BYTE_DATA, PyUnicode_1BYTE_KIND, PyUnicode_DecodeLatin1, PyUnicode_GET_LENGTH, PyUnicode_KIND,
)
from libc.stddef cimport size_t
from libc.stdint cimport UINT16_MAX, uint32_t, uint64_t, uint8_t
from pingora_c.http.authority cimport is_valid_authority
from pingora_c.http.field cimport (
    FIELD_WRITTEN, NAME_AUTHORIZATION, NAME_CONTENT_LENGTH, NAME_COOKIE, NAME_HOST, NAME_PROXY_AUTHORIZATION,
    NAME_SET_COOKIE, Field, KnownName, recognise,
)
from pingora_c.http.header_block cimport (
    SLACK_ROWS,
    BLOCK_BAD_NAME, BLOCK_BAD_VALUE, BLOCK_FIELDS_MAX, BLOCK_MAX, BLOCK_OK, HeaderBlock, allocate, block_add,
    block_field, block_find, block_find_known, block_free, block_remove, block_set, block_start_unpooled, bytes_needed,
    copy_content, is_blank, is_control, is_framing_name, is_framing_text, is_live, is_valid_name, remove_row,
)


cdef struct Text:          # borrowed from a str or bytes object while that is held
    const char* data
    size_t size


cdef bint try_text(object text, str what, Text* found) except -1:
    """Look into a str or bytes without copying. False for a str that is not latin-1."""
    if isinstance(text, str):
        # A str of one byte per character holds exactly its latin-1 form.
        found.data = <const char*>PyUnicode_1BYTE_DATA(text)
        found.size = PyUnicode_GET_LENGTH(text)
        return PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND
    if isinstance(text, bytes):
        found.data = PyBytes_AS_STRING(text)
        found.size = PyBytes_GET_SIZE(text)
        return True
    raise TypeError(f"{what} must be str or bytes, not {type(text).__name__}")


cdef str excerpt(object name):
    """The name for a message, shortened."""
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return repr(text if len(text) <= 64 else text[:64] + "…")


cdef object not_latin1(str what, str text):
    at = next(i for i, c in enumerate(text) if ord(c) > 255)
    return ValueError(
        f"{what} has the character U+{ord(text[at]):04X} at position {at}, expected latin-1; "
        "pass bytes to send another encoding"
    )


cdef object bad_name(object name):
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    if not text:
        return ValueError("header name is empty, expected a token (RFC 9110 §5.6.2)")
    if len(text) > UINT16_MAX:
        return ValueError(f"header name has {len(text)} bytes, expected at most {UINT16_MAX}")
    at = next(i for i, c in enumerate(text) if not is_valid_name((<bytes>c.encode("latin-1")), 1))
    return ValueError(
        f"header name {excerpt(name)} has {text[at]!r} at position {at}, expected a token (RFC 9110 §5.6.2)"
    )


cdef object bad_value(object name, const char* value, size_t size):
    """Name the octet and its place; the value itself may be a secret."""
    cdef size_t i
    for i in range(size):
        if is_control(<unsigned char>value[i]):
            return ValueError(
                f"value of header {excerpt(name)} has the control byte 0x{<unsigned char>value[i]:02X} "
                f"at position {i}, "
                "expected visible characters, spaces and tabs (RFC 9110 §5.5)"
            )
    return ValueError(f"value of header {excerpt(name)} has white space at an end")


cdef object framing_refused(object name, str verb):
    return ValueError(
        f"header {excerpt(name)} cannot be {verb}: it frames the message or belongs to the connection, "
        "and the proxy sets it itself"
    )


cdef int check_host(const HeaderBlock* block, object value, const Text* text, bint is_set) except -1:
    """A request has one Host, and that names somebody."""
    if not is_set and block_find_known(block, NAME_HOST, 0) >= 0:
        raise ValueError("a request has one Host (RFC 9112 §3.2): set it, instead of adding another")
    if not is_valid_authority(text.data, text.size):
        raise ValueError(f"Host is {excerpt(value)}, expected a name or an address, and perhaps a port (RFC 9110 §7.2)")
    return 0


cdef object no_room(const HeaderBlock* block, uint64_t size):
    if block.n - block.removed >= BLOCK_FIELDS_MAX:
        return ValueError(f"the head has {block.n - block.removed} fields, expected at most {BLOCK_FIELDS_MAX}")
    if bytes_needed(block) + size + sizeof(Field) > BLOCK_MAX:
        return ValueError(f"the head would pass {BLOCK_MAX} bytes, edits included")
    return MemoryError("no buffer for header fields: the pool is at its limit or the system has no memory")


cdef inline bint is_secret(uint8_t known) noexcept nogil:
    return (known == NAME_AUTHORIZATION or known == NAME_COOKIE or known == NAME_SET_COOKIE
            or known == NAME_PROXY_AUTHORIZATION)


cdef inline bint is_kept(uint8_t known) noexcept nogil:
    """True for a field that Python may not remove either; without its length a body goes out chunked."""
    return is_framing_name(<KnownName>known) and known != NAME_CONTENT_LENGTH


cdef inline str decode(const HeaderBlock* block, uint32_t at, uint32_t size):
    return PyUnicode_DecodeLatin1(block.base + at, size, NULL)


cdef inline str name_at(const HeaderBlock* block, const Field* field):
    return decode(block, field.name_at, field.name_size)


cdef inline str value_at(const HeaderBlock* block, const Field* field):
    return decode(block, field.value_at, field.value_size)


cdef dict grouped(object pairs):
    """Values by lower-case name; None if there is anything but text."""
    cdef dict groups = {}
    for name, value in pairs:
        if isinstance(name, bytes):
            name = name.decode("latin-1")
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if not isinstance(name, str) or not isinstance(value, str):
            return None
        groups.setdefault(name.lower(), []).append(value)
    return groups


cdef object pairs_of(object fields):
    """The (name, value) pairs of what a constructor or `update` takes."""
    if isinstance(fields, HeaderMap):
        return without_framing(<HeaderMap>fields)
    if isinstance(fields, Mapping) or hasattr(fields, "keys"):
        return fields.items()
    pairs = list(fields)
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"headers: expected pairs of a name and a value, got {pair!r}")
    return pairs


cdef list without_framing(HeaderMap fields):
    """Framing fields describe the message they came with, so they do not come along into another one."""
    cdef list pairs = []
    cdef uint32_t i
    cdef const Field* field
    for i in range(fields.block.n):
        field = block_field(fields.block, i)
        if is_live(field) and not is_framing_name(<KnownName>field.known):
            pairs.append((name_at(fields.block, field), value_at(fields.block, field)))
    return pairs


cdef enum Part:
    PART_NAME
    PART_VALUE
    PART_BOTH


@cython.final
@cython.no_gc
@cython.freelist(8)
@cython.internal
cdef class HeaderIterator:
    """Walks the rows of a map. The block may change meanwhile: each step looks at it afresh, so rows may be
    missed, never misread.
    """
    cdef HeaderMap map
    cdef uint32_t row
    cdef Part part

    def __iter__(self):
        return self

    def __next__(self):
        cdef HeaderBlock* block = self.map.block
        cdef const Field* field
        while self.row < block.n:
            field = block_field(block, self.row)
            self.row += 1
            if is_live(field):
                if self.part == PART_NAME:
                    return name_at(block, field)
                if self.part == PART_VALUE:
                    return value_at(block, field)
                return name_at(block, field), value_at(block, field)
        raise StopIteration


cdef HeaderIterator walk(HeaderMap map, Part part):
    cdef HeaderIterator iterator = HeaderIterator.__new__(HeaderIterator)
    iterator.map = map
    iterator.part = part
    return iterator


class HeaderItems(ItemsView):
    """The fields as (name, value) in wire order, duplicates included."""

    __slots__ = ()

    def __iter__(self):
        return walk(self._mapping, PART_BOTH)

    def __contains__(self, item):
        name, value = item
        return value in self._mapping.get_all(name)


class HeaderValues(ValuesView):
    """The values in wire order."""

    __slots__ = ()

    def __iter__(self):
        return walk(self._mapping, PART_VALUE)

    def __contains__(self, value):
        return any(value == found for found in self)


cdef object MISSING = object()


@cython.final
@cython.no_gc
@cython.freelist(16)
@cython.collection_type("mapping")
cdef class HeaderMap:
    """Header fields as an ordered multi-map of str (latin-1), looked up without regard to case.

    Made from a mapping or from (name, value) pairs; bytes are accepted wherever str is. Spelling and order are kept
    as they are sent.
    """
    __hash__ = None

    def __cinit__(self):
        self.block = &self.own

    def __init__(self, fields=None, /):
        if fields is not None:
            for name, value in pairs_of(fields):
                self.write(name, value, False)

    def __dealloc__(self):
        block_free(&self.own)

    @staticmethod
    cdef HeaderMap over(object owner, HeaderBlock* block):
        cdef HeaderMap map = HeaderMap.__new__(HeaderMap)
        map.owner = owner
        map.block = block
        return map

    cdef int write(self, object name, object value, bint is_set) except -1:
        """Validate and add a field, or with `is_set` replace all of its name."""
        cdef Text name_text, value_text
        cdef Py_ssize_t row
        cdef uint32_t n_rows = self.block.n
        cdef int code
        if not try_text(name, "header name", &name_text):
            raise not_latin1("header name", name)
        if not try_text(value, "value of a header", &value_text):
            raise not_latin1(f"value of header {excerpt(name)}", value)
        while value_text.size and is_blank(value_text.data[value_text.size - 1]):
            value_text.size -= 1
        while value_text.size and is_blank(value_text.data[0]):
            value_text.data += 1
            value_text.size -= 1
        if is_framing_text(name_text.data, name_text.size):
            raise framing_refused(name, "written")
        if name_text.size > BLOCK_MAX or value_text.size > BLOCK_MAX:
            raise no_room(self.block, BLOCK_MAX)
        if self.is_request and recognise(name_text.data, name_text.size) == NAME_HOST:
            check_host(self.block, value, &value_text, is_set)
        if self.block.base == NULL and self.start() != BLOCK_OK:
            raise no_room(self.block, 0)
        if is_set:
            code = block_set(self.block, name_text.data, name_text.size, value_text.data, value_text.size)
        else:
            code = block_add(self.block, name_text.data, name_text.size, value_text.data, value_text.size)
        if code == BLOCK_BAD_NAME:
            raise bad_name(name)
        if code == BLOCK_BAD_VALUE:
            raise bad_value(name, value_text.data, value_text.size)
        if code != BLOCK_OK:
            raise no_room(self.block, name_text.size + value_text.size)
        row = self.block.n - 1
        if is_set and self.block.n <= n_rows:      # it was there already, or rows were closed up
            row = block_find(self.block, name_text.data, name_text.size, 0)
        block_field(self.block, <uint32_t>row).flags |= FIELD_WRITTEN
        return 0

    cdef int start(self) noexcept:
        """A map made in Python may live for ever, so it holds no pooled buffer."""
        if self.block == &self.own:
            return block_start_unpooled(self.block, 256)
        return BLOCK_OK

    cdef Py_ssize_t find(self, object name) except -2:
        """Row of the first field of this name, -1 if none."""
        cdef Text text
        if not try_text(name, "header name", &text) or text.size > UINT16_MAX:
            return -1
        return block_find(self.block, text.data, <uint32_t>text.size, 0)

    cdef Py_ssize_t delete(self, object name) except -1:
        """Remove all fields of this name; how many there were."""
        cdef Text text
        if not try_text(name, "header name", &text) or text.size > UINT16_MAX:
            return 0
        if is_kept(recognise(text.data, text.size)):
            raise framing_refused(name, "removed")
        return block_remove(self.block, text.data, <uint32_t>text.size)

    def __len__(self):
        return self.block.n - self.block.removed

    def __contains__(self, name):
        return self.find(name) >= 0

    def __getitem__(self, name):
        cdef Py_ssize_t row = self.find(name)
        if row < 0:
            raise KeyError(name)
        return value_at(self.block, block_field(self.block, <uint32_t>row))

    def __setitem__(self, name, value):
        self.write(name, value, True)

    def __delitem__(self, name):
        if self.delete(name) == 0:
            raise KeyError(name)

    def __iter__(self):
        return walk(self, PART_NAME)

    def get(self, name, default=None):
        """Return the first value of this name, else `default`."""
        cdef Py_ssize_t row = self.find(name)
        if row < 0:
            return default
        return value_at(self.block, block_field(self.block, <uint32_t>row))

    def get_all(self, name):
        """Return the values of all fields of this name, in order."""
        cdef list values = []
        cdef Text text
        cdef Py_ssize_t row
        if try_text(name, "header name", &text) and text.size <= UINT16_MAX:
            row = block_find(self.block, text.data, <uint32_t>text.size, 0)
            while row >= 0:
                values.append(value_at(self.block, block_field(self.block, <uint32_t>row)))
                row = block_find(self.block, text.data, <uint32_t>text.size, <uint32_t>row + 1)
        return values

    def add(self, name, value):
        """Append a field, whether or not there are others of this name."""
        self.write(name, value, False)

    def remove(self, name):
        """Remove all fields of this name; return how many there were."""
        return self.delete(name)

    def items(self):
        """Return a view of the fields as (name, value) in wire order, duplicates included."""
        return HeaderItems(self)

    def keys(self):
        """Return a view of the names in wire order, as often as they occur."""
        return KeysView(self)

    def values(self):
        """Return a view of the values in wire order."""
        return HeaderValues(self)

    def pop(self, name, default=MISSING, /):
        """Remove all fields of this name and return the first value, else `default` if it is given."""
        value = self.get(name, MISSING)
        if value is MISSING:
            if default is MISSING:
                raise KeyError(name)
            return default
        self.delete(name)
        return value

    def popitem(self):
        """Remove the last field that may be removed and return it as (name, value)."""
        cdef Field* field
        cdef uint32_t i
        for i in range(self.block.n, 0, -1):
            field = block_field(self.block, i - 1)
            if is_live(field) and not is_kept(field.known):
                item = name_at(self.block, field), value_at(self.block, field)
                remove_row(self.block, i - 1)
                return item
        raise KeyError("no field that may be removed")

    def setdefault(self, name, default="", /):
        """Return the first value of this name; write `default` first if there is none."""
        if self.find(name) < 0:
            self.write(name, default, True)
        return self[name]

    def update(self, fields=(), /, **named):
        """Replace the fields of every name in `fields`; a name that occurs there more than once stays so."""
        seen = set()
        for name, value in [*pairs_of(fields), *named.items()]:
            key = name.lower() if isinstance(name, (str, bytes)) else name
            self.write(name, value, key not in seen)
            seen.add(key)

    def clear(self):
        """Remove every field but those that frame the message or belong to the connection."""
        cdef uint32_t i
        for i in range(self.block.n):
            if is_live(block_field(self.block, i)) and not is_kept(block_field(self.block, i).known):
                remove_row(self.block, i)

    def copy(self):
        """Return an independent map with the same fields, framing fields included."""
        cdef HeaderMap map = HeaderMap.__new__(HeaderMap)
        if allocate(&map.own, bytes_needed(self.block) + SLACK_ROWS * sizeof(Field), False) != BLOCK_OK:
            raise MemoryError("no memory for a copy of header fields")
        copy_content(&map.own, self.block)
        return map

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __eq__(self, other):
        if not isinstance(other, (HeaderMap, Mapping)):
            return NotImplemented
        return grouped(self.items()) == grouped(other.items())

    def __repr__(self):
        cdef uint32_t i
        cdef const Field* field
        fields = []
        for i in range(self.block.n):
            field = block_field(self.block, i)
            if is_live(field):
                value = "***" if is_secret(field.known) else value_at(self.block, field)
                fields.append((name_at(self.block, field), value))
        return f"HeaderMap({fields!r})"


MutableMapping.register(HeaderMap)
