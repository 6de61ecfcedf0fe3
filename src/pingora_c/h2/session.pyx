"""HTTP/2 sessions over nghttp2. Own the session and the field section that is decoded; hold no stream's object."""
from pingora_c.h2.guard cimport guard_begin, guard_in_section, guard_padded, guard_read, guard_sent_data
from pingora_c.h2.memory cimport memory_begin, memory_end, memory_rest
from pingora_c.h2.priority cimport apply_early, priority_came
from pingora_c.h2.settings cimport make_option, submit_settings
from pingora_c.h2.section cimport section_add, section_begin, section_free
from pingora_c.h2.trailers cimport submit_trailers
from pingora_c.lib.nghttp2 cimport (
    NGHTTP2_CANCEL, NGHTTP2_CONNECT_ERROR, NGHTTP2_DATA, NGHTTP2_DATA_FLAG_EOF, NGHTTP2_DATA_FLAG_NO_COPY,
    NGHTTP2_DATA_FLAG_NO_END_STREAM, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_ERR_BAD_CLIENT_MAGIC,
    NGHTTP2_ERR_CALLBACK_FAILURE, NGHTTP2_ERR_DEFERRED, NGHTTP2_ERR_NOMEM, NGHTTP2_ERR_PAUSE,
    NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE, NGHTTP2_FLAG_ACK, NGHTTP2_FLAG_END_STREAM, NGHTTP2_FLAG_NONE, NGHTTP2_GOAWAY,
    NGHTTP2_HEADERS, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR, NGHTTP2_PING, NGHTTP2_PRIORITY_UPDATE,
    NGHTTP2_PROTOCOL_ERROR, NGHTTP2_RST_STREAM, NGHTTP2_SETTINGS, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL,
    NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, NGHTTP2_STREAM_CLOSED, NGHTTP2_WINDOW_UPDATE, nghttp2_data_provider,
    nghttp2_data_source, nghttp2_ext_priority_update, nghttp2_frame, nghttp2_frame_hd, nghttp2_nv, nghttp2_option,
    nghttp2_option_del, nghttp2_session, nghttp2_session_callbacks, nghttp2_session_callbacks_new,
    nghttp2_session_callbacks_set_on_begin_frame_callback, nghttp2_session_callbacks_set_on_begin_headers_callback,
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback, nghttp2_session_callbacks_set_on_frame_recv_callback,
    nghttp2_session_callbacks_set_on_frame_send_callback, nghttp2_session_callbacks_set_on_header_callback,
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback,
    nghttp2_session_callbacks_set_on_invalid_header_callback, nghttp2_session_callbacks_set_on_stream_close_callback,
    nghttp2_session_callbacks_set_send_data_callback, nghttp2_session_check_request_allowed,
    nghttp2_session_client_new3, nghttp2_session_consume_connection, nghttp2_session_consume_stream,
    nghttp2_session_del, nghttp2_session_get_last_proc_stream_id, nghttp2_session_get_local_window_size,
    nghttp2_session_get_remote_settings, nghttp2_session_get_remote_window_size,
    nghttp2_session_get_stream_effective_local_window_size, nghttp2_session_get_stream_remote_close,
    nghttp2_session_get_stream_remote_window_size, nghttp2_session_get_stream_user_data, nghttp2_session_mem_recv,
    nghttp2_session_mem_send, nghttp2_session_resume_data, nghttp2_session_server_new3,
    nghttp2_session_set_local_window_size, nghttp2_session_set_stream_user_data, nghttp2_session_terminate_session,
    nghttp2_session_want_read, nghttp2_session_want_write, nghttp2_submit_goaway, nghttp2_submit_headers,
    nghttp2_submit_ping, nghttp2_submit_request, nghttp2_submit_response, nghttp2_submit_rst_stream,
    nghttp2_submit_shutdown_notice,
)
from pingora_c.mem.byte_queue cimport queue_drop, queue_free, queue_front, queue_push, queue_push_kept

cdef enum:
    SECTION_OVER_TIMES = 4         # past so many times the limit the connection ends
    LITTLE_WINDOW = 16384          # a frame of the usual size is more
    RESET_GRACE_MS = 10000         # after a RST_STREAM of ours frames of streams that are gone may be on their way

cdef nghttp2_session_callbacks* callbacks = NULL     # of all sessions

CODE_NAMES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)


cdef str h2_code_name(uint32_t code):
    return CODE_NAMES[code] if code < <uint32_t>len(CODE_NAMES) else f"error {code}"


# -- callbacks of nghttp2

cdef int frame_begins(nghttp2_session* of, const nghttp2_frame_hd* head, void* user) noexcept:
    """HEADERS of streams that are gone; nghttp2 would pass over them."""
    cdef H2Session self = <H2Session>user
    cdef uint32_t stream_id = <uint32_t>head.stream_id
    cdef bint is_used
    if not self.is_server or head.type != NGHTTP2_HEADERS:
        return 0
    if stream_id > self.highest_id:
        self.highest_id = stream_id
        self.n_opened += 1
    elif self.is_gone(stream_id):
        # where no id was left out it was open once; else it may be one that was passed over (RFC 9113 §5.1.1)
        is_used = self.n_opened == (self.highest_id + 1) // 2
        self.guarded = NGHTTP2_STREAM_CLOSED if is_used else NGHTTP2_PROTOCOL_ERROR
        return NGHTTP2_ERR_CALLBACK_FAILURE
    return 0


cdef int section_begins(nghttp2_session* of, const nghttp2_frame* frame, void* user) noexcept:
    cdef H2Session self = <H2Session>user
    return 0 if section_begin(&self.section) == 0 else NGHTTP2_ERR_CALLBACK_FAILURE


cdef int field_came(nghttp2_session* of, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                    const uint8_t* value, size_t value_size, uint8_t flags, void* user) noexcept:
    cdef H2Session self = <H2Session>user
    section_add(&self.section, <const char*>name, name_size, <const char*>value, value_size, self.limits.head_bytes,
                self.limits.fields)
    if self.section.charged > SECTION_OVER_TIMES * self.limits.head_bytes:
        self.guarded = NGHTTP2_ENHANCE_YOUR_CALM
        return NGHTTP2_ERR_CALLBACK_FAILURE
    return 0


cdef int bad_field_came(nghttp2_session* of, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                        const uint8_t* value, size_t value_size, uint8_t flags, void* user) noexcept:
    """By default nghttp2 would leave the field out and go on."""
    nghttp2_submit_rst_stream(of, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_PROTOCOL_ERROR)
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE


cdef int bad_frame_came(nghttp2_session* of, const nghttp2_frame* frame, int code, void* user) noexcept:
    """HEADERS that opened no stream, as there are too many: its RST_STREAM waits, while its DATA may be here."""
    cdef H2Session self = <H2Session>user
    if frame.hd.type == NGHTTP2_HEADERS:
        self.reset_at_ms = self.now_ms
    return 0


cdef int frame_came(nghttp2_session* of, const nghttp2_frame* frame, void* user) noexcept:
    cdef H2Session self = <H2Session>user
    cdef H2Stream* stream
    cdef const nghttp2_ext_priority_update* update
    cdef bint is_end = frame.hd.flags & <int>NGHTTP2_FLAG_END_STREAM
    if frame.hd.type == NGHTTP2_DATA:
        stream = <H2Stream*>nghttp2_session_get_stream_user_data(of, frame.hd.stream_id)
        if frame.data.padlen and self.is_server and not is_end:
            self.guarded = guard_padded(&self.guard, &self.limits.guard, frame.hd.length > frame.data.padlen,
                                        self.now_ms)
            if self.guarded:
                return NGHTTP2_ERR_CALLBACK_FAILURE
        if frame.data.padlen and stream != NULL:
            self.on_padding(stream)
        if is_end and stream != NULL:
            self.on_end(stream)
    elif frame.hd.type == NGHTTP2_HEADERS:
        stream = <H2Stream*>nghttp2_session_get_stream_user_data(of, frame.hd.stream_id)
        apply_early(&self.early, of, frame.hd.stream_id)
        if self.section.is_over:
            self.on_section_refused(stream, frame.hd.stream_id, is_end)
        else:
            self.on_section(stream, frame.hd.stream_id, is_end)
        section_free(&self.section)
    elif frame.hd.type == NGHTTP2_RST_STREAM:
        return 0 if self.may_reset() else NGHTTP2_ERR_CALLBACK_FAILURE
    elif frame.hd.type == NGHTTP2_SETTINGS:
        if not frame.hd.flags & <int>NGHTTP2_FLAG_ACK:
            self.has_settings = True
            self.on_settings()
    elif frame.hd.type == NGHTTP2_GOAWAY:
        self.is_going = True
        self.on_goaway(frame.goaway.error_code)
    elif frame.hd.type == NGHTTP2_WINDOW_UPDATE:
        self.on_window()
    elif frame.hd.type == NGHTTP2_PRIORITY_UPDATE:
        update = <const nghttp2_ext_priority_update*>frame.ext.payload
        if update.stream_id == 0:
            self.terminate(NGHTTP2_PROTOCOL_ERROR)      # RFC 9218 §7.1
            return 0
        priority_came(&self.early, of, update, <uint32_t>update.stream_id > self.highest_id)
    elif frame.hd.type == NGHTTP2_PING and frame.hd.flags & <int>NGHTTP2_FLAG_ACK:
        self.on_pong()
    return 0


cdef int data_came(nghttp2_session* of, uint8_t flags, int32_t stream_id, const uint8_t* data, size_t size,
                   void* user) noexcept:
    cdef H2Session self = <H2Session>user
    cdef H2Stream* stream = <H2Stream*>nghttp2_session_get_stream_user_data(of, stream_id)
    if stream == NULL:
        nghttp2_session_consume_connection(of, size)
        nghttp2_session_consume_stream(of, stream_id, size)
    elif size:
        self.owed += size
        self.unread += size
        stream.unread += size
        self.on_data(stream, <const char*>data, size)
        self.open_window()
    return 0


cdef int stream_closed(nghttp2_session* of, int32_t stream_id, uint32_t code, void* user) noexcept:
    cdef H2Session self = <H2Session>user
    cdef H2Stream* stream = <H2Stream*>nghttp2_session_get_stream_user_data(of, stream_id)
    if stream != NULL:
        stream.id = 0
        self.drop_waiting(stream)
        self.on_closed(stream, code)
    return 0


cdef bint is_our_own(uint32_t code) noexcept nogil:
    """A reset for our own reasons; all others answer a fault of the peer's, and count as if it had sent them."""
    return code in (NGHTTP2_NO_ERROR, NGHTTP2_INTERNAL_ERROR, NGHTTP2_CANCEL, NGHTTP2_CONNECT_ERROR)


cdef int frame_sent(nghttp2_session* of, const nghttp2_frame* frame, void* user) noexcept:
    cdef H2Session self = <H2Session>user
    cdef H2Stream* stream
    if frame.hd.type == NGHTTP2_RST_STREAM:
        self.reset_at_ms = self.now_ms
        if not is_our_own(frame.rst_stream.error_code):
            self.may_reset()
        stream = <H2Stream*>nghttp2_session_get_stream_user_data(of, frame.hd.stream_id)
        if stream != NULL:
            stream.is_reset_here = True
    elif frame.hd.type == NGHTTP2_GOAWAY:
        self.is_going = True
        self.sent_goaway_code = frame.goaway.error_code
    elif frame.hd.type == NGHTTP2_HEADERS and (
            not self.is_server or frame.hd.flags & <int>NGHTTP2_FLAG_END_STREAM):
        stream = <H2Stream*>nghttp2_session_get_stream_user_data(of, frame.hd.stream_id)
        if stream != NULL:
            stream.is_out_closed |= frame.hd.flags & <int>NGHTTP2_FLAG_END_STREAM
            self.widen(stream, stream.wider)
            stream.wider = 0
    return 0


cdef ssize_t body_wanted(nghttp2_session* of, int32_t stream_id, uint8_t* out, size_t room, uint32_t* flags,
                         nghttp2_data_source* source, void* user) noexcept:
    """How much of the body goes into the next DATA frame; data_wanted gives the bytes."""
    cdef H2Session self = <H2Session>user
    cdef H2Stream* stream = <H2Stream*>nghttp2_session_get_stream_user_data(of, stream_id)
    cdef size_t size
    if stream == NULL:
        return NGHTTP2_ERR_DEFERRED      # it was detached, its RST_STREAM waits
    size = stream.out.size + stream.span_size
    if size == 0 and not stream.out_ended:
        stream.is_deferred = True
        return NGHTTP2_ERR_DEFERRED
    if not self.has_room():
        return NGHTTP2_ERR_PAUSE
    if size > room:
        size = room
    elif stream.out_ended:
        flags[0] |= NGHTTP2_DATA_FLAG_EOF
        if stream.trailers != NULL and submit_trailers(of, stream_id, stream.trailers) == 0:
            flags[0] |= NGHTTP2_DATA_FLAG_NO_END_STREAM
        else:
            stream.is_out_closed = True
    flags[0] |= NGHTTP2_DATA_FLAG_NO_COPY
    return <ssize_t>size


cdef int data_wanted(nghttp2_session* of, nghttp2_frame* frame, const uint8_t* head, size_t size,
                     nghttp2_data_source* source, void* user) noexcept:
    cdef H2Session self = <H2Session>user
    cdef H2Stream* stream = <H2Stream*>nghttp2_session_get_stream_user_data(of, frame.hd.stream_id)
    cdef const char* front
    cdef size_t part, held, left = size
    if stream == NULL:
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE     # detached since, and nothing of the frame has left
    if self.put(<const char*>head, 9) < 0:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    while left and stream.out.size:
        front = queue_front(&stream.out, &part)
        if part > left:
            part = left
        if self.put(front, part) < 0:
            return NGHTTP2_ERR_CALLBACK_FAILURE
        held = stream.out.held
        queue_drop(&stream.out, part)
        self.held_bytes -= held - stream.out.held
        left -= part
    if left:
        if self.put(stream.span, left) < 0:
            return NGHTTP2_ERR_CALLBACK_FAILURE
        stream.span += left
        stream.span_size -= left
    guard_sent_data(&self.guard, &self.limits.guard)
    self.on_framed(stream, size)
    return 0


cdef int make_callbacks() except -1:
    global callbacks
    if callbacks != NULL:
        return 0
    if nghttp2_session_callbacks_new(&callbacks) != 0:
        raise MemoryError
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, frame_begins)
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, section_begins)
    nghttp2_session_callbacks_set_on_header_callback(callbacks, field_came)
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, bad_field_came)
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, frame_came)
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, bad_frame_came)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, data_came)
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, stream_closed)
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, frame_sent)
    nghttp2_session_callbacks_set_send_data_callback(callbacks, data_wanted)
    return 0


cdef class H2Session:
    def __dealloc__(self):
        if self.session != NULL:
            nghttp2_session_del(self.session)
        memory_end(&self.memory)
        section_free(&self.section)

    cdef int begin(self, bint is_server) except -1:
        self.is_server = is_server
        make_callbacks()
        guard_begin(&self.guard, &self.limits.guard, is_server, self.now_ms)
        self.resets_at_ms = self.now_ms
        self.resets_left_milli = <uint64_t>1000 * self.limits.resets
        memory_begin(&self.memory)
        self.make()
        return submit_settings(self.session, &self.limits, is_server)

    cdef int make(self) except -1:
        cdef nghttp2_option* option = make_option(&self.limits, self.is_server)
        cdef int code
        if self.is_server:
            code = nghttp2_session_server_new3(&self.session, callbacks, <void*>self, option, &self.memory.hooks)
        else:
            code = nghttp2_session_client_new3(&self.session, callbacks, <void*>self, option, &self.memory.hooks)
        nghttp2_option_del(option)
        if code != 0:
            raise MemoryError
        return 0

    cdef int receive(self, const char* data, size_t size) noexcept:
        cdef size_t part = 0
        cdef uint32_t stream_id = 0
        cdef int code = 0
        self.n_unread = 0
        if self.is_exhausted:
            nghttp2_session_terminate_session(self.session, NGHTTP2_ENHANCE_YOUR_CALM)
            return -1
        while size and code == 0:
            self.guarded = guard_read(&self.guard, &self.limits.guard, data, size, self.now_ms, &part, &stream_id)
            if self.guarded:
                nghttp2_session_terminate_session(self.session, self.guarded)
                return -1
            if part:
                code = self.pass_on(data, part)
                data += part
                size -= part
            elif not self.guard.is_shown:
                self.n_unread = size
                break
            if code == 0 and stream_id and self.is_gone(stream_id):
                nghttp2_session_terminate_session(self.session, NGHTTP2_STREAM_CLOSED)
                return -1
        if self.section.bytes != NULL and not guard_in_section(&self.guard):
            section_free(&self.section)      # nghttp2 has refused it without a word
        return code

    cdef bint may_reset(self) noexcept:
        """Pay for the reset of a stream; False, and the connection ends, if there were too many."""
        if not self.is_server:
            return True
        self.resets_left_milli = min(<uint64_t>1000 * self.limits.resets, self.resets_left_milli
                                     + (self.now_ms - self.resets_at_ms) * self.limits.resets_per_second)
        self.resets_at_ms = self.now_ms
        if self.resets_left_milli < 1000:
            self.guarded = NGHTTP2_ENHANCE_YOUR_CALM
            self.is_exhausted = True
            return False
        self.resets_left_milli -= 1000
        return True

    cdef int pass_on(self, const char* data, size_t size) noexcept:
        cdef ssize_t used
        self.in_call = True
        used = nghttp2_session_mem_recv(self.session, <const uint8_t*>data, size)
        self.in_call = False
        if used >= 0:
            return 0
        if self.guarded:
            nghttp2_session_terminate_session(self.session, self.guarded)
        elif used == NGHTTP2_ERR_CALLBACK_FAILURE or used == NGHTTP2_ERR_NOMEM:
            nghttp2_session_terminate_session(self.session, NGHTTP2_INTERNAL_ERROR)
        elif used == NGHTTP2_ERR_BAD_CLIENT_MAGIC:
            nghttp2_session_terminate_session(self.session, NGHTTP2_PROTOCOL_ERROR)     # RFC 9113 §3.4
        else:
            self.guarded = NGHTTP2_ENHANCE_YOUR_CALM    # one of nghttp2's own limits
            nghttp2_session_terminate_session(self.session, self.guarded)
        return -1

    cdef bint is_gone(self, uint32_t stream_id) noexcept:
        """Whether a stream was open and is not, and the client knows (RFC 9113 §5.1): nghttp2 has forgotten it."""
        if stream_id > self.highest_id or nghttp2_session_get_stream_remote_close(self.session, stream_id) >= 0:
            return False
        return not self.reset_at_ms or self.now_ms - self.reset_at_ms >= RESET_GRACE_MS

    cdef int pump(self) noexcept:
        cdef const uint8_t* data = NULL
        cdef ssize_t size = -1 if self.is_broken else 0
        if self.in_call:
            return 0
        self.in_call = True
        while size >= 0 and self.has_room():
            size = nghttp2_session_mem_send(self.session, &data)
            if size == 0:
                break
            if size > 0 and self.put(<const char*>data, <size_t>size) < 0:
                size = -1
        self.in_call = False
        self.is_broken = size < 0
        return -1 if size < 0 else 0

    cdef void drop_section(self) noexcept:
        if not self.in_call:
            section_free(&self.section)

    cdef void rest(self) noexcept:
        if not self.in_call and nghttp2_session_want_write(self.session) == 0:
            memory_rest(&self.memory)

    cdef bint wants_pump(self) noexcept:
        return nghttp2_session_want_write(self.session) != 0

    cdef bint wants_read(self) noexcept:
        return nghttp2_session_want_read(self.session) != 0

    cdef bint is_over(self) noexcept:
        return not nghttp2_session_want_read(self.session) and not nghttp2_session_want_write(self.session)

    # -- streams

    cdef int attach(self, H2Stream* stream, int32_t stream_id) noexcept:
        stream.id = stream_id
        return 0 if nghttp2_session_set_stream_user_data(self.session, stream_id, stream) == 0 else -1

    cdef void detach(self, H2Stream* stream) noexcept:
        if stream.id:
            nghttp2_session_set_stream_user_data(self.session, stream.id, NULL)
            stream.id = 0
        self.drop_waiting(stream)

    cdef int submit_request(self, H2Stream* stream, const nghttp2_nv* fields, size_t n, bint has_body) noexcept:
        cdef nghttp2_data_provider body
        cdef nghttp2_data_provider* source = &body if has_body else NULL
        cdef int32_t stream_id
        if not self.may_open():
            return -2
        body.source.ptr = NULL
        body.read_callback = body_wanted
        stream.out_ended = not has_body
        stream_id = nghttp2_submit_request(self.session, NULL, fields, n, source, stream)
        if stream_id < 0:
            return -1 if stream_id == NGHTTP2_ERR_NOMEM else -2
        stream.id = stream_id
        return 0

    cdef bint has_left(self, H2Stream* stream) noexcept:
        return nghttp2_session_get_stream_remote_close(self.session, stream.id) >= 0

    cdef int submit_head(self, H2Stream* stream, const nghttp2_nv* fields, size_t n, bint has_body) noexcept:
        cdef nghttp2_data_provider body
        cdef nghttp2_data_provider* source = &body if has_body else NULL
        cdef int32_t stream_id = stream.id
        body.source.ptr = NULL
        body.read_callback = body_wanted
        stream.out_ended = not has_body
        return 0 if nghttp2_submit_response(self.session, stream_id, fields, n, source) == 0 else -1

    cdef int submit_interim(self, H2Stream* stream, const nghttp2_nv* fields, size_t n) noexcept:
        return min(0, nghttp2_submit_headers(self.session, NGHTTP2_FLAG_NONE, stream.id, NULL, fields, n, NULL))

    cdef int send_data(self, H2Stream* stream, const char* data, size_t size) noexcept:
        cdef int code
        if stream.id == 0 or stream.out_ended:
            return 0
        if self.in_call or size < 4096:      # it is little: one copy more costs less than a call
            self.resume(stream)
            return self.keep(stream, data, size)
        stream.span = data
        stream.span_size = size
        self.resume(stream)
        code = self.pump()
        if code == 0 and stream.span_size and stream.id:
            code = self.keep(stream, stream.span, stream.span_size)
        stream.span = NULL
        stream.span_size = 0
        if code == 0 and stream.out.size:
            self.resume(stream)
        return code

    cdef int send_kept(self, H2Stream* stream, bytes body, size_t size) noexcept:
        if stream.id == 0 or stream.out_ended:
            return 0
        self.resume(stream)
        return queue_push_kept(&stream.out, body, size)

    cdef int keep(self, H2Stream* stream, const char* data, size_t size) noexcept:
        cdef size_t before = stream.out.held
        cdef int code = queue_push(&stream.out, data, size)
        self.held_bytes += stream.out.held - before
        return code

    cdef void drop_waiting(self, H2Stream* stream) noexcept:
        self.drop_data(stream, stream.unread)
        self.held_bytes -= stream.out.held
        queue_free(&stream.out)

    cdef void send_end(self, H2Stream* stream, const HeaderBlock* trailers) noexcept:
        if stream.id == 0 or stream.out_ended:
            return
        stream.out_ended = True
        stream.trailers = trailers
        self.resume(stream)

    cdef void resume(self, H2Stream* stream) noexcept:
        if stream.is_deferred and stream.id:
            stream.is_deferred = False
            nghttp2_session_resume_data(self.session, stream.id)

    cdef void reset(self, H2Stream* stream, uint32_t code) noexcept:
        if stream.id:
            nghttp2_submit_rst_stream(self.session, NGHTTP2_FLAG_NONE, stream.id, code)

    cdef void consume(self, H2Stream* stream, size_t size) noexcept:
        self.drop_data(stream, size)
        if stream.id:
            nghttp2_session_consume_stream(self.session, stream.id, size)

    cdef void drop_data(self, H2Stream* stream, size_t size) noexcept:
        size = min(size, stream.unread)      # a stream gives back what it promised, too
        stream.unread -= size
        self.unread -= size
        self.open_window()

    cdef bint is_shut(self) noexcept:
        return self.owed > 0 and nghttp2_session_get_local_window_size(self.session) < LITTLE_WINDOW

    cdef void open_window(self) noexcept:
        if self.owed and not (self.is_server and self.unread > self.limits.unread):
            nghttp2_session_consume_connection(self.session, self.owed)
            self.owed = 0

    cdef void widen(self, H2Stream* stream, size_t size) noexcept:
        cdef int32_t now
        if stream.id and size:
            now = nghttp2_session_get_stream_effective_local_window_size(self.session, stream.id)
            nghttp2_session_set_local_window_size(self.session, NGHTTP2_FLAG_NONE, stream.id, now + <int32_t>size)

    cdef size_t window_of(self, H2Stream* stream) noexcept:
        if stream.id == 0:
            return 0
        return <size_t>max(0, min(nghttp2_session_get_stream_remote_window_size(self.session, stream.id),
                                  nghttp2_session_get_remote_window_size(self.session)))

    # -- the connection

    cdef void ping(self) noexcept:
        nghttp2_submit_ping(self.session, NGHTTP2_FLAG_NONE, NULL)

    cdef void announce_goaway(self) noexcept:
        if self.is_server:
            nghttp2_submit_shutdown_notice(self.session)

    cdef void goaway(self, uint32_t code) noexcept:
        nghttp2_submit_goaway(self.session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(self.session),
                              code, NULL, 0)

    cdef void terminate(self, uint32_t code) noexcept:
        nghttp2_session_terminate_session(self.session, code)

    cdef uint32_t peer_max_streams(self) noexcept:
        if not self.has_settings:
            return self.limits.assumed_streams
        return nghttp2_session_get_remote_settings(self.session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)

    cdef bint peer_takes_connect(self) noexcept:
        return nghttp2_session_get_remote_settings(self.session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1

    cdef bint may_open(self) noexcept:
        return not self.is_going and nghttp2_session_check_request_allowed(self.session) != 0

    # -- overridden

    cdef int put(self, const char* data, size_t size) noexcept:
        return -1

    cdef bint has_room(self) noexcept:
        return True

    cdef void on_section(self, H2Stream* stream, int32_t stream_id, bint is_end) noexcept:
        pass

    cdef void on_section_refused(self, H2Stream* stream, int32_t stream_id, bint is_end) noexcept:
        pass

    cdef void on_data(self, H2Stream* stream, const char* data, size_t size) noexcept:
        self.consume(stream, size)

    cdef void on_padding(self, H2Stream* stream) noexcept:
        pass

    cdef void on_end(self, H2Stream* stream) noexcept:
        pass

    cdef void on_closed(self, H2Stream* stream, uint32_t code) noexcept:
        pass

    cdef void on_settings(self) noexcept:
        pass

    cdef void on_window(self) noexcept:
        pass

    cdef void on_goaway(self, uint32_t code) noexcept:
        pass

    cdef void on_pong(self) noexcept:
        pass

    cdef void on_framed(self, H2Stream* stream, size_t size) noexcept:
        pass
