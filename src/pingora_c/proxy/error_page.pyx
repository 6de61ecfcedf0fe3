"""Error pages. Own the configured answers; know no session and no connection."""
cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memset, strlen
from pingora_c.h1.encode cimport FRAME_LENGTH, Outgoing, encode_response, response_room
from pingora_c.http.header_block cimport block_set, is_framing_text, is_valid_name

# Of those that have a name in RFC 9110 and 5789; every other token is forwarded as well.
cdef str FORWARDED_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


@cython.final
cdef class ErrorPages:
    """Error pages by status, each a Response with a whole body and that status.

    `reason_header` is the name of a field that tells the reason. Raises ValueError for a page or name that will not do.
    """

    def __init__(self, pages, reason_header):
        cdef Response page
        for status, page in pages.items():
            if page.stream is not None or page.head.status_code != status:
                raise ValueError(f"error page {status}: expected a Response({status}) with a whole body, got {page!r}")
            if response_room(page.head) > PAGE_HEAD_ROOM:
                raise ValueError(f"error page {status}: its headers are too large")
        if reason_header is not None:
            name = reason_header.encode()
            if not is_valid_name(name, len(name)) or is_framing_text(name, len(name)):
                raise ValueError(f"reason_header: expected the name of a header field, got {reason_header!r}")
            self.reason_header = name
        self.pages = dict(pages)

    cdef Response page(self, int status, const char* reason):
        cdef Response configured = self.pages.get(status)
        return self.plain_page(status, reason) if configured is None else configured.copy()

    cdef Response plain_page(self, int status, const char* reason):
        headers = {"content-type": "text/plain"}
        if status == 405:
            headers["allow"] = FORWARDED_METHODS      # RFC 9110 §15.5.6
        return Response(status, headers, f"{status} {reason.decode('ascii')}\n")

    cdef Response with_reason(self, Response response, const char* reason):
        cdef Response copy
        if self.reason_header is None or reason == NULL:
            return response
        copy = response.copy()
        if block_set(&copy.head.block, PyBytes_AS_STRING(self.reason_header),
                     <uint32_t>PyBytes_GET_SIZE(self.reason_header), reason, <uint32_t>strlen(reason)) != 0:
            raise MemoryError
        return copy

    cdef bytes last_answer(self, int status, const char* reason):
        cdef Response page = self.with_reason(self.page(status, reason), reason)
        cdef bytes room
        cdef Outgoing how
        if response_room(page.head) + len(<bytes>page.body) > LAST_ANSWER_MOST:
            page = self.with_reason(self.plain_page(status, reason), reason)
        room = PyBytes_FromStringAndSize(NULL, response_room(page.head))
        memset(&how, 0, sizeof(how))
        how.framing = FRAME_LENGTH
        how.length = PyBytes_GET_SIZE(page.body)
        how.close = True
        return room[:encode_response(page.head, &how, PyBytes_AS_STRING(room))] + page.body
