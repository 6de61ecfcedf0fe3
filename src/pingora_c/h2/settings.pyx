"""Options of nghttp2, and SETTINGS. Own nothing."""
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint64_t
from pingora_c.lib.nghttp2 cimport (
    NGHTTP2_FLAG_NONE, NGHTTP2_PRIORITY_UPDATE, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL,
    NGHTTP2_SETTINGS_ENABLE_PUSH, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
    NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, nghttp2_option_new,
    nghttp2_option_set_builtin_recv_extension_type, nghttp2_option_set_max_continuations,
    nghttp2_option_set_max_deflate_dynamic_table_size, nghttp2_option_set_max_outbound_ack,
    nghttp2_option_set_max_send_header_block_length, nghttp2_option_set_max_settings,
    nghttp2_option_set_no_auto_window_update, nghttp2_option_set_no_closed_streams,
    nghttp2_option_set_peer_max_concurrent_streams, nghttp2_option_set_stream_reset_rate_limit,
    nghttp2_session_set_local_window_size, nghttp2_settings_entry, nghttp2_submit_settings,
)

cdef enum:
    CONTINUATIONS_MAX = 64         # of one field section; the guard refuses fewer
    SETTINGS_MAX = 32              # of one frame
    ACKS_MAX = 256                 # that wait to be sent
    TABLE_BYTES = 4096             # of HPACK, both ways
    SEND_SECTION_MAX = 1048576     # of a field section that we send


cdef nghttp2_option* make_option(const H2Limits* limits, bint is_server) except NULL:
    cdef nghttp2_option* option = NULL
    if nghttp2_option_new(&option) != 0:
        raise MemoryError
    nghttp2_option_set_no_auto_window_update(option, 1)
    nghttp2_option_set_no_closed_streams(option, 1)
    nghttp2_option_set_max_continuations(option, CONTINUATIONS_MAX)
    nghttp2_option_set_max_settings(option, SETTINGS_MAX)
    nghttp2_option_set_max_outbound_ack(option, ACKS_MAX)
    nghttp2_option_set_max_deflate_dynamic_table_size(option, TABLE_BYTES)
    nghttp2_option_set_max_send_header_block_length(option, SEND_SECTION_MAX)
    if is_server:
        nghttp2_option_set_builtin_recv_extension_type(option, NGHTTP2_PRIORITY_UPDATE)
        nghttp2_option_set_stream_reset_rate_limit(option, 2 * <uint64_t>limits.resets,
                                                   2 * <uint64_t>limits.resets_per_second)
    else:
        nghttp2_option_set_peer_max_concurrent_streams(option, limits.assumed_streams)
    return option


cdef int submit_settings(nghttp2_session* session, const H2Limits* limits, bint is_server) except -1:
    cdef nghttp2_settings_entry[5] entries
    cdef size_t n = 3
    entries[0].settings_id = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
    entries[0].value = limits.window
    entries[1].settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE
    entries[1].value = limits.head_bytes
    entries[2].settings_id = NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES
    entries[2].value = 1
    if is_server:
        entries[n].settings_id = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
        entries[n].value = limits.streams
        n += 1
        if limits.connects:
            entries[n].settings_id = NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL
            entries[n].value = 1
            n += 1
    else:
        entries[n].settings_id = NGHTTP2_SETTINGS_ENABLE_PUSH
        entries[n].value = 0
        n += 1
    if (nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, entries, n) != 0
            or nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0,
                                                     <int32_t>limits.connection_window) != 0):
        raise MemoryError
    return 0
