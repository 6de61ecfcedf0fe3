"""Slow reference of the frame reader: RFC 6455 §5.2 read from the whole of what came.

A header is judged octet by octet, so that the first bad one is the last that is consumed.
"""

MORE = 0
BAD_RESERVED, BAD_OPCODE, BAD_MASK, BAD_CONTROL, BAD_LENGTH, BAD_CONTINUATION = range(-1, -7, -1)


def first_fault(first: int, in_message: bool, allowed_rsv: int) -> int:
    """Return what is wrong with a frame's first octet, 0 if nothing is."""
    opcode = first & 0x0F
    if opcode not in (0, 1, 2, 8, 9, 10):
        return BAD_OPCODE
    reserved = first & 0x70
    if reserved and (opcode not in (1, 2) or reserved | allowed_rsv != allowed_rsv):
        return BAD_RESERVED
    if opcode >= 8:
        return 0 if first & 0x80 else BAD_CONTROL
    return BAD_CONTINUATION if in_message != (opcode == 0) else 0


def read(data: bytes, is_masked: bool, allowed_rsv: int = 0) -> tuple[int, int, list[tuple[int, bytes]], bool]:
    """Return (last result, bytes consumed, complete frames, whether a frame begins next) for any pieces of `data`."""
    frames: list[tuple[int, bytes]] = []
    in_message = False
    at = 0
    while True:
        if frames and frames[-1][0] & 0x0F == 8:
            return MORE, len(data), frames, False
        start, rest = at, data[at:]
        if not rest:
            return MORE, at, frames, True
        if fault := first_fault(rest[0], in_message, allowed_rsv):
            return fault, start + 1, frames, False
        if len(rest) < 2:
            return MORE, len(data), frames, False
        if (rest[1] >= 0x80) != is_masked:
            return BAD_MASK, start + 2, frames, False
        length = rest[1] & 0x7F
        if length > 125 and rest[0] & 0x08:
            return BAD_CONTROL, start + 2, frames, False
        size_of_length = {126: 2, 127: 8}.get(length, 0)
        end = 2 + size_of_length
        if len(rest) < end:
            return MORE, len(data), frames, False
        if size_of_length:
            length = int.from_bytes(rest[2:end], "big")
            if length < {2: 126, 8: 65536}[size_of_length] or length >= 2**63:
                return BAD_LENGTH, start + end, frames, False
        key = rest[end : end + 4] if is_masked else b"\0\0\0\0"
        end += 4 if is_masked else 0
        if len(rest) < end + length:
            return MORE, len(data), frames, False
        payload = rest[end : end + length]
        frames.append((rest[0], bytes(octet ^ key[i % 4] for i, octet in enumerate(payload))))
        if not rest[0] & 0x08:
            in_message = not rest[0] & 0x80
        at = start + end + length
