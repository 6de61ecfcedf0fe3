"""nghttp2 (1.57 or later, or an older one with Debian's security patches): only what the core calls.

Its types do not leave the package h2. Callbacks get the pointer that the session was made with as their last argument.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint32_t

cdef extern from "<nghttp2/nghttp2.h>":
    ctypedef struct nghttp2_info:
        const char* version_str
    nghttp2_info* nghttp2_version(int least)

    ctypedef struct nghttp2_session
    ctypedef struct nghttp2_session_callbacks
    ctypedef struct nghttp2_option
    ctypedef struct nghttp2_priority_spec

    enum:
        NGHTTP2_INITIAL_MAX_CONCURRENT_STREAMS
        NGHTTP2_VERSION_NUM

    enum:  # What functions and callbacks return: 0, or one of these, which are negative.
        NGHTTP2_ERR_INVALID_ARGUMENT
        NGHTTP2_ERR_BUFFER_ERROR
        NGHTTP2_ERR_PROTO
        NGHTTP2_ERR_DEFERRED
        NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE
        NGHTTP2_ERR_STREAM_CLOSED
        NGHTTP2_ERR_STREAM_CLOSING
        NGHTTP2_ERR_STREAM_SHUT_WR
        NGHTTP2_ERR_INVALID_STREAM_ID
        NGHTTP2_ERR_INVALID_STREAM_STATE
        NGHTTP2_ERR_START_STREAM_NOT_ALLOWED
        NGHTTP2_ERR_GOAWAY_ALREADY_SENT
        NGHTTP2_ERR_INVALID_HEADER_BLOCK
        NGHTTP2_ERR_HEADER_COMP
        NGHTTP2_ERR_FLOW_CONTROL
        NGHTTP2_ERR_INSUFF_BUFSIZE
        NGHTTP2_ERR_PAUSE
        NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
        NGHTTP2_ERR_REFUSED_STREAM
        NGHTTP2_ERR_CANCEL
        NGHTTP2_ERR_HTTP_HEADER
        NGHTTP2_ERR_HTTP_MESSAGING
        NGHTTP2_ERR_SESSION_CLOSING
        NGHTTP2_ERR_FATAL  # -900: this and below make a session unusable
        NGHTTP2_ERR_NOMEM
        NGHTTP2_ERR_CALLBACK_FAILURE
        NGHTTP2_ERR_BAD_CLIENT_MAGIC
        NGHTTP2_ERR_FLOODED

    enum:  # Error codes of RST_STREAM and GOAWAY (RFC 9113 §7)
        NGHTTP2_NO_ERROR
        NGHTTP2_PROTOCOL_ERROR
        NGHTTP2_INTERNAL_ERROR
        NGHTTP2_FLOW_CONTROL_ERROR
        NGHTTP2_SETTINGS_TIMEOUT
        NGHTTP2_STREAM_CLOSED
        NGHTTP2_FRAME_SIZE_ERROR
        NGHTTP2_REFUSED_STREAM
        NGHTTP2_CANCEL
        NGHTTP2_COMPRESSION_ERROR
        NGHTTP2_CONNECT_ERROR
        NGHTTP2_ENHANCE_YOUR_CALM
        NGHTTP2_INADEQUATE_SECURITY
        NGHTTP2_HTTP_1_1_REQUIRED

    enum:  # Frame types
        NGHTTP2_DATA
        NGHTTP2_HEADERS
        NGHTTP2_PRIORITY
        NGHTTP2_RST_STREAM
        NGHTTP2_SETTINGS
        NGHTTP2_PUSH_PROMISE
        NGHTTP2_PING
        NGHTTP2_GOAWAY
        NGHTTP2_WINDOW_UPDATE
        NGHTTP2_CONTINUATION
        NGHTTP2_PRIORITY_UPDATE

    enum:  # Flags of frames
        NGHTTP2_FLAG_NONE
        NGHTTP2_FLAG_END_STREAM
        NGHTTP2_FLAG_END_HEADERS
        NGHTTP2_FLAG_ACK
        NGHTTP2_FLAG_PADDED
        NGHTTP2_FLAG_PRIORITY

    enum:  # Settings
        NGHTTP2_SETTINGS_HEADER_TABLE_SIZE
        NGHTTP2_SETTINGS_ENABLE_PUSH
        NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
        NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
        NGHTTP2_SETTINGS_MAX_FRAME_SIZE
        NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE
        NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL
        NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES

    enum:  # Flags of a field: what is not copied stays the caller's until the frame is sent or dropped
        NGHTTP2_NV_FLAG_NONE
        NGHTTP2_NV_FLAG_NO_INDEX
        NGHTTP2_NV_FLAG_NO_COPY_NAME
        NGHTTP2_NV_FLAG_NO_COPY_VALUE

    enum:  # What a data source says of a chunk
        NGHTTP2_DATA_FLAG_NONE
        NGHTTP2_DATA_FLAG_EOF
        NGHTTP2_DATA_FLAG_NO_END_STREAM
        NGHTTP2_DATA_FLAG_NO_COPY

    enum:  # What a HEADERS frame is
        NGHTTP2_HCAT_REQUEST
        NGHTTP2_HCAT_RESPONSE
        NGHTTP2_HCAT_PUSH_RESPONSE
        NGHTTP2_HCAT_HEADERS

    ctypedef int nghttp2_settings_id

    ctypedef struct nghttp2_mem:
        void* mem_user_data
        void* (*malloc)(size_t size, void* user) noexcept nogil
        void (*free)(void* place, void* user) noexcept nogil
        void* (*calloc)(size_t n, size_t size, void* user) noexcept nogil
        void* (*realloc)(void* place, size_t size, void* user) noexcept nogil

    ctypedef struct nghttp2_nv:
        uint8_t* name
        uint8_t* value
        size_t namelen
        size_t valuelen
        uint8_t flags

    ctypedef struct nghttp2_frame_hd:
        size_t length
        int32_t stream_id
        uint8_t type
        uint8_t flags

    ctypedef union nghttp2_data_source:
        int fd
        void* ptr

    ctypedef ssize_t (*nghttp2_data_source_read_callback)(
        nghttp2_session* session, int32_t stream_id, uint8_t* buf, size_t length, uint32_t* data_flags,
        nghttp2_data_source* source, void* user_data) noexcept

    ctypedef struct nghttp2_data_provider:
        nghttp2_data_source source
        nghttp2_data_source_read_callback read_callback

    ctypedef struct nghttp2_settings_entry:
        int32_t settings_id
        uint32_t value

    ctypedef struct nghttp2_data:
        nghttp2_frame_hd hd
        size_t padlen

    ctypedef struct nghttp2_headers:
        nghttp2_frame_hd hd
        int cat

    ctypedef struct nghttp2_rst_stream:
        nghttp2_frame_hd hd
        uint32_t error_code

    ctypedef struct nghttp2_settings:
        nghttp2_frame_hd hd
        size_t niv
        nghttp2_settings_entry* iv

    ctypedef struct nghttp2_ping:
        nghttp2_frame_hd hd
        uint8_t opaque_data[8]

    ctypedef struct nghttp2_goaway:
        nghttp2_frame_hd hd
        int32_t last_stream_id
        uint32_t error_code

    ctypedef struct nghttp2_window_update:
        nghttp2_frame_hd hd
        int32_t window_size_increment

    ctypedef struct nghttp2_extension:
        nghttp2_frame_hd hd
        void* payload

    ctypedef struct nghttp2_ext_priority_update:
        int32_t stream_id
        uint8_t* field_value
        size_t field_value_len

    ctypedef struct nghttp2_extpri:
        uint32_t urgency
        int inc

    ctypedef union nghttp2_frame:
        nghttp2_frame_hd hd
        nghttp2_data data
        nghttp2_headers headers
        nghttp2_rst_stream rst_stream
        nghttp2_settings settings
        nghttp2_ping ping
        nghttp2_goaway goaway
        nghttp2_window_update window_update
        nghttp2_extension ext

    # Callbacks: each is one argument of the setter of its name. They return 0, or an NGHTTP2_ERR_… that ends the call.
    int nghttp2_session_callbacks_new(nghttp2_session_callbacks** callbacks)
    void nghttp2_session_callbacks_del(nghttp2_session_callbacks* callbacks)
    void nghttp2_session_callbacks_set_on_begin_frame_callback(
        nghttp2_session_callbacks* callbacks,
        int (*on_begin_frame)(nghttp2_session*, const nghttp2_frame_hd*, void*) noexcept)
    void nghttp2_session_callbacks_set_on_begin_headers_callback(
        nghttp2_session_callbacks* callbacks,
        int (*on_begin_headers)(nghttp2_session*, const nghttp2_frame*, void*) noexcept)
    void nghttp2_session_callbacks_set_on_header_callback(
        nghttp2_session_callbacks* callbacks,
        int (*on_header)(nghttp2_session*, const nghttp2_frame*, const uint8_t* name, size_t namelen,
                         const uint8_t* value, size_t valuelen, uint8_t flags, void*) noexcept)
    void nghttp2_session_callbacks_set_on_invalid_header_callback(
        nghttp2_session_callbacks* callbacks,
        int (*on_invalid_header)(nghttp2_session*, const nghttp2_frame*, const uint8_t* name, size_t namelen,
                                 const uint8_t* value, size_t valuelen, uint8_t flags, void*) noexcept)
    void nghttp2_session_callbacks_set_on_frame_recv_callback(
        nghttp2_session_callbacks* callbacks,
        int (*on_frame_recv)(nghttp2_session*, const nghttp2_frame*, void*) noexcept)
    void nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(
        nghttp2_session_callbacks* callbacks,
        int (*on_invalid_frame_recv)(nghttp2_session*, const nghttp2_frame*, int code, void*) noexcept)
    void nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        nghttp2_session_callbacks* callbacks,
        int (*on_data_chunk_recv)(nghttp2_session*, uint8_t flags, int32_t stream_id, const uint8_t* data, size_t size,
                                  void*) noexcept)
    void nghttp2_session_callbacks_set_on_stream_close_callback(
        nghttp2_session_callbacks* callbacks,
        int (*on_stream_close)(nghttp2_session*, int32_t stream_id, uint32_t error_code, void*) noexcept)
    void nghttp2_session_callbacks_set_on_frame_send_callback(
        nghttp2_session_callbacks* callbacks,
        int (*on_frame_send)(nghttp2_session*, const nghttp2_frame*, void*) noexcept)
    void nghttp2_session_callbacks_set_on_frame_not_send_callback(
        nghttp2_session_callbacks* callbacks,
        int (*on_frame_not_send)(nghttp2_session*, const nghttp2_frame*, int code, void*) noexcept)
    void nghttp2_session_callbacks_set_send_data_callback(
        nghttp2_session_callbacks* callbacks,
        int (*send_data)(nghttp2_session*, nghttp2_frame*, const uint8_t* framehd, size_t length, nghttp2_data_source*,
                         void*) noexcept)
    void nghttp2_session_callbacks_set_data_source_read_length_callback(
        nghttp2_session_callbacks* callbacks,
        ssize_t (*read_length)(nghttp2_session*, uint8_t frame_type, int32_t stream_id, int32_t session_window,
                               int32_t stream_window, uint32_t max_frame_size, void*) noexcept)

    # Options of a session, which copies them
    int nghttp2_option_new(nghttp2_option** option)
    void nghttp2_option_del(nghttp2_option* option)
    void nghttp2_option_set_no_auto_window_update(nghttp2_option* option, int is_on)
    void nghttp2_option_set_no_closed_streams(nghttp2_option* option, int is_on)
    void nghttp2_option_set_no_auto_ping_ack(nghttp2_option* option, int is_on)
    void nghttp2_option_set_peer_max_concurrent_streams(nghttp2_option* option, uint32_t streams)
    void nghttp2_option_set_max_reserved_remote_streams(nghttp2_option* option, uint32_t streams)
    void nghttp2_option_set_max_send_header_block_length(nghttp2_option* option, size_t size)
    void nghttp2_option_set_max_deflate_dynamic_table_size(nghttp2_option* option, size_t size)
    void nghttp2_option_set_max_outbound_ack(nghttp2_option* option, size_t frames)
    void nghttp2_option_set_max_settings(nghttp2_option* option, size_t entries)
    void nghttp2_option_set_max_continuations(nghttp2_option* option, size_t frames)
    void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option* option, unsigned long long burst,
                                                    unsigned long long rate)
    void nghttp2_option_set_server_fallback_rfc7540_priorities(nghttp2_option* option, int is_on)
    void nghttp2_option_set_builtin_recv_extension_type(nghttp2_option* option, uint8_t type)

    # A session: one side of one connection. `mem` is copied; its user data is given to each of its functions
    int nghttp2_session_client_new3(nghttp2_session** session, const nghttp2_session_callbacks* callbacks,
                                    void* user_data, const nghttp2_option* option, nghttp2_mem* mem)
    int nghttp2_session_server_new3(nghttp2_session** session, const nghttp2_session_callbacks* callbacks,
                                    void* user_data, const nghttp2_option* option, nghttp2_mem* mem)
    void nghttp2_session_del(nghttp2_session* session)
    ssize_t nghttp2_session_mem_recv(nghttp2_session* session, const uint8_t* data, size_t size)
    ssize_t nghttp2_session_mem_send(nghttp2_session* session, const uint8_t** data)
    int nghttp2_session_want_read(nghttp2_session* session)
    int nghttp2_session_want_write(nghttp2_session* session)
    int nghttp2_session_resume_data(nghttp2_session* session, int32_t stream_id)
    void* nghttp2_session_get_stream_user_data(nghttp2_session* session, int32_t stream_id)
    int nghttp2_session_set_stream_user_data(nghttp2_session* session, int32_t stream_id, void* user_data)
    int nghttp2_session_change_extpri_stream_priority(nghttp2_session* session, int32_t stream_id,
                                                      const nghttp2_extpri* extpri, int ignore_client_signal)
    uint32_t nghttp2_session_get_remote_settings(nghttp2_session* session, nghttp2_settings_id id)
    uint32_t nghttp2_session_get_local_settings(nghttp2_session* session, nghttp2_settings_id id)
    uint32_t nghttp2_session_get_next_stream_id(nghttp2_session* session)
    int32_t nghttp2_session_get_last_proc_stream_id(nghttp2_session* session)
    int nghttp2_session_check_request_allowed(nghttp2_session* session)
    size_t nghttp2_session_get_outbound_queue_size(nghttp2_session* session)
    int nghttp2_session_terminate_session(nghttp2_session* session, uint32_t error_code)
    int nghttp2_session_terminate_session2(nghttp2_session* session, int32_t last_stream_id, uint32_t error_code)
    const char* nghttp2_strerror(int code)
    const char* nghttp2_http2_strerror(uint32_t error_code)

    # Flow control
    int nghttp2_session_consume(nghttp2_session* session, int32_t stream_id, size_t size)
    int nghttp2_session_consume_connection(nghttp2_session* session, size_t size)
    int nghttp2_session_consume_stream(nghttp2_session* session, int32_t stream_id, size_t size)
    int nghttp2_session_set_local_window_size(nghttp2_session* session, uint8_t flags, int32_t stream_id, int32_t size)
    int32_t nghttp2_session_get_local_window_size(nghttp2_session* session)
    int32_t nghttp2_session_get_stream_effective_local_window_size(nghttp2_session* session, int32_t stream_id)
    int32_t nghttp2_session_get_stream_remote_window_size(nghttp2_session* session, int32_t stream_id)
    int32_t nghttp2_session_get_remote_window_size(nghttp2_session* session)
    int nghttp2_session_get_stream_local_close(nghttp2_session* session, int32_t stream_id)
    int nghttp2_session_get_stream_remote_close(nghttp2_session* session, int32_t stream_id)

    # Frames to send; they leave with the next nghttp2_session_mem_send
    int nghttp2_submit_settings(nghttp2_session* session, uint8_t flags, const nghttp2_settings_entry* entries,
                                size_t count)
    int32_t nghttp2_submit_request(nghttp2_session* session, const nghttp2_priority_spec* priority,
                                   const nghttp2_nv* fields, size_t count, const nghttp2_data_provider* body,
                                   void* stream_user_data)
    int nghttp2_submit_response(nghttp2_session* session, int32_t stream_id, const nghttp2_nv* fields, size_t count,
                                const nghttp2_data_provider* body)
    int32_t nghttp2_submit_headers(nghttp2_session* session, uint8_t flags, int32_t stream_id,
                                   const nghttp2_priority_spec* priority, const nghttp2_nv* fields, size_t count,
                                   void* stream_user_data)
    int nghttp2_submit_data(nghttp2_session* session, uint8_t flags, int32_t stream_id,
                            const nghttp2_data_provider* body)
    int nghttp2_submit_trailer(nghttp2_session* session, int32_t stream_id, const nghttp2_nv* fields, size_t count)
    int nghttp2_submit_rst_stream(nghttp2_session* session, uint8_t flags, int32_t stream_id, uint32_t error_code)
    int nghttp2_submit_ping(nghttp2_session* session, uint8_t flags, const uint8_t* opaque)
    int nghttp2_submit_goaway(nghttp2_session* session, uint8_t flags, int32_t last_stream_id, uint32_t error_code,
                              const uint8_t* opaque, size_t opaque_size)
    int nghttp2_submit_shutdown_notice(nghttp2_session* session)
    int nghttp2_submit_window_update(nghttp2_session* session, uint8_t flags, int32_t stream_id, int32_t increment)
