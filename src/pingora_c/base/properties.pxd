"""Reads of properties by a table, in place of a look-up through the type.

CPython 3.11 to 3.14 have no fast way to a property of a compiled class: each read goes through the caches of the
type, the descriptor and the instance's dict, which takes 200 instructions. What hooks read is found here in 20.
"""

# Have the properties of an extension type that nothing derives from read by the table, from now on. All else that is
# read of an instance goes the usual way.
cdef int read_by_table(object kind) except -1
