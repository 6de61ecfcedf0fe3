"""Messages between the processes of an instance, at the end of one of them."""

import pytest

from pingora.supervisor.channel import Channel


@pytest.fixture
def pair():
    ours, theirs = Channel.pair()
    theirs = Channel(theirs)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("unread", [0, 1], ids=["all read", "a message of ours unread"])
def test_what_the_other_end_said_is_read_behind_its_end(pair, unread):
    """The kernel tells that something stayed unread before it gives what came."""
    ours, theirs = pair
    theirs.send("failed", text="why")
    for _ in range(unread):
        ours.send("stop")
    theirs.close()
    message = ours.receive(wait=False)
    assert message is not None
    assert (message.kind, message["text"]) == ("failed", "why")
    assert ours.receive(wait=False) is None


def test_without_a_message_there_is_nothing_to_take(pair):
    with pytest.raises(BlockingIOError):
        pair[0].receive(wait=False)
