"""The library that holds the core: which modules are in it, and how Python gets them.

setup.py compiles each module by itself, as for a library of its own, and links them all into this one.
"""
from importlib.machinery import ExtensionFileLoader
from importlib.util import spec_from_file_location

from pingora_c.lib.core_modules cimport CoreModule, core_modules
from pingora_c.lib.module cimport PyModuleDef, PyModule_FromDefAndSpec


cdef const CoreModule *_row(str name) except? NULL:
    cdef bytes wanted = name.encode()
    cdef const CoreModule *row = core_modules
    while row.name != NULL and row.name != wanted:
        row += 1
    return row if row.name != NULL else NULL


class _Loader(ExtensionFileLoader):
    # Python's own looks for PyInit_ and the last part of the name, which two modules may share.
    def create_module(self, spec):
        return PyModule_FromDefAndSpec(<PyModuleDef *>_row(spec.name).begin(), spec)


def find(name):
    """Give the spec of a module of the core by its full name; None if the core does not hold it."""
    return spec_from_file_location(name, __file__, loader=_Loader(name, __file__)) if _row(name) != NULL else None


def names():
    """Give the full names of the modules that the core holds."""
    cdef const CoreModule *row = core_modules
    names = []
    while row.name != NULL:
        names.append(row.name.decode())
        row += 1
    return names
