"""The table of verdicts. Owns nothing, decides nothing."""


cdef int verdict_status(int verdict) noexcept nogil:
    if verdict == UNKNOWN_CODING:
        return 501
    if verdict == UNKNOWN_EXPECTATION:
        return 417
    return 421 if verdict == WRONG_SCHEME else 400


cdef const char* verdict_reason(int verdict) noexcept nogil:
    if verdict == BAD_LENGTH:
        return "bad_content_length"
    if verdict == BAD_CODING:
        return "bad_transfer_encoding"
    if verdict == UNKNOWN_CODING:
        return "unknown_transfer_coding"
    if verdict == LENGTH_AND_CODING:
        return "length_and_coding"
    if verdict == CODING_IN_HTTP10:
        return "coding_in_http10"
    if verdict == NO_HOST:
        return "no_host"
    if verdict == MANY_HOSTS:
        return "many_hosts"
    if verdict == BAD_HOST:
        return "bad_host"
    if verdict == BAD_CONNECTION:
        return "bad_connection"
    if verdict == BAD_TARGET_FORM:
        return "bad_target_form"
    if verdict == UNEXPECTED_TRANSFER:
        return "unexpected_transfer"
    if verdict == FRAMING_ALIAS:
        return "framing_alias"
    if verdict == BAD_UPGRADE:
        return "bad_upgrade"
    if verdict == UNKNOWN_EXPECTATION:
        return "unknown_expectation"
    if verdict == BAD_MAX_FORWARDS:
        return "bad_max_forwards"
    if verdict == WRONG_SCHEME:
        return "wrong_scheme"
    return "unknown"


def status_of(int verdict) -> int:
    """Return the HTTP status that answers a client's request with this verdict."""
    return verdict_status(verdict)


def reason_of(int verdict) -> str:
    """Return the reason of a negative verdict in snake case."""
    return verdict_reason(verdict).decode("ascii")
