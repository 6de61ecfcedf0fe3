"""The UTF-8 of a str, which the str itself keeps."""

cdef extern from "Python.h":
    # NULL with UnicodeEncodeError for one that holds a surrogate
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
