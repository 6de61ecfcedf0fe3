"""Abstract bases: every method that is called is overridden."""
cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef enum:
    PROMISED_MOST = 1048576    # bytes, unless one stream's window is larger
    PROMISED_LEAST = 4096      # less is of no use


@cython.final
cdef class Allowance:
    cdef size_t left(self, size_t window) noexcept:
        cdef size_t most = max(<size_t>PROMISED_MOST, window)
        return most - self.promised if self.promised < most else 0

    cdef size_t promise(self, size_t size, size_t window) noexcept:
        cdef size_t left = self.left(window)
        if left < size:
            size = left if left >= PROMISED_LEAST else 0
        self.promised += size
        return size


cdef class StreamOwner:
    cdef void on_body(self, bint is_client, const char* data, size_t size) noexcept:
        pass

    cdef void on_body_end(self, bint is_client, Trailers trailers) noexcept:
        pass

    cdef void on_writable(self, bint is_client) noexcept:
        pass

    cdef size_t room(self) noexcept:
        return <size_t>-1

    cdef Allowance allowance(self):
        return None

    cdef void on_failure(self, bint is_client, int kind) noexcept:
        pass

    cdef void on_connected(self) noexcept:
        pass

    cdef void on_interim(self, ResponseHead head) noexcept:
        pass

    cdef void on_response(self, ResponseHead head, const Framing* framing) noexcept:
        pass

    cdef void on_filtered(self, bint is_request, bytes chunk) noexcept:
        pass

    cdef void on_filtered_end(self, bint is_request, Trailers trailers) noexcept:
        pass

    cdef void on_filter_idle(self, bint is_request) noexcept:
        pass

    cdef void on_filter_answer(self, object response) noexcept:
        pass

    cdef void on_filter_failed(self, int phase, object error) noexcept:
        pass

    cdef void on_passed(self, bint is_request, const char* data, size_t size) noexcept:
        pass

    cdef void on_tunnel_failed(self, int kind, str detail, object error) noexcept:
        pass

    cdef void on_left(self) noexcept:
        pass


cdef class Stream:
    cdef int send_body(self, const char* data, size_t size) noexcept:
        return -1

    cdef int send_kept(self, bytes body) noexcept:
        return self.send_body(PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))

    cdef int send_end(self, Trailers trailers) noexcept:
        return -1

    cdef bint is_full(self) noexcept:
        return False

    cdef size_t unsent(self) noexcept:
        return 0

    cdef void press(self) noexcept:
        pass

    cdef void pause_body(self) noexcept:
        pass

    cdef void resume_body(self) noexcept:
        pass

    cdef void release(self, bint is_complete) noexcept:
        pass

    cdef size_t room(self) noexcept:
        return <size_t>-1

    cdef Allowance allowance(self):
        return None

    cdef int send_head(self, ResponseHead head, int64_t length, bint is_upgrade) noexcept:
        return -1

    cdef int send_interim(self, ResponseHead head) noexcept:
        return -1

    cdef int send_continue(self) noexcept:
        return -1

    cdef bint can_drain(self) noexcept:
        return self.body_done

    cdef bint is_reusable(self, bint is_complete) noexcept:
        return False

    cdef int send_request(self, RequestHead head, const Outgoing* how) noexcept:
        return -1

    cdef void cut_request(self) noexcept:
        pass

    cdef void read_largely(self) noexcept:
        pass

    cdef void ask_room(self) noexcept:
        pass
