"""The frame guard beside its slow reference: the conversations that fuzzing begins with, in any cuts."""

from pathlib import Path

import h2_script
import pytest
import slow_frame_guard
from guarded import Guarded

from pingora_c.h2.probe import GuardProbe

CORPUS = sorted((Path(__file__).parents[2] / "fuzz/corpus/h2").iterdir())
BURST = 20


def read(data, is_server, step):
    """Show `data` in pieces, each flush against an unreadable page."""
    memory, guard = Guarded(), GuardProbe(is_server, burst=BURST)
    for at in range(0, len(data), step):
        if code := guard.read(memory.at_end(data[at : at + step])):
            return code, guard.shown
    return 0, guard.shown


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_a_conversation_is_judged_as_the_reference_does(path):
    script = path.read_bytes()
    is_server = bool(script[0] & 1)
    data = h2_script.PREFACE * is_server
    data += b"".join(step[1] for step in h2_script.steps(script) if step[0] == "bytes")
    expected = slow_frame_guard.read(data, is_server, BURST)
    for step in (len(data) or 1, 1, 2, 7, 10):
        assert read(data, is_server, step) == expected, step


def test_the_conversations_reach_every_verdict():
    verdicts = set()
    for path in CORPUS:
        script = path.read_bytes()
        data = b"".join(step[1] for step in h2_script.steps(script) if step[0] == "bytes")
        verdicts.add(slow_frame_guard.read(data, False, BURST)[0])
    assert verdicts == {0, slow_frame_guard.PROTOCOL_ERROR, slow_frame_guard.ENHANCE_YOUR_CALM}
