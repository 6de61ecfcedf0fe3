"""The store from which generations of a program take the secrets of tickets."""

import os

import pytest

from pingora.tls.ticket_store import RECORD, RECORDS_MOST, TicketStore, next_secret
from pingora_c.net.tls_tickets import TicketKeys


@pytest.fixture
def fd():
    descriptor = os.memfd_create("tickets")
    yield descriptor
    os.close(descriptor)


def test_all_who_share_a_store_get_the_same_secret(fd):
    first = TicketStore(fd).secret(60, 100)
    assert TicketStore(fd).secret(60, 100) == first
    assert TicketStore(fd).secret(61, 100)[1] != first[1]


def test_later_secrets_follow_and_earlier_ones_are_forgotten(fd):
    store = TicketStore(fd)
    _, secret = store.secret(60, 100)
    assert store.secret(60, 102) == (102, next_secret(next_secret(secret)))
    assert secret not in os.pread(fd, 4096, 0)
    assert store.secret(60, 100)[0] == 102


def test_there_is_room_for_so_many_lifetimes(fd):
    store = TicketStore(fd)
    for lifetime in range(RECORDS_MOST):
        store.secret(60 + lifetime, 1)
    with pytest.raises(OSError, match="64 lifetimes"):
        store.secret(6000, 1)
    assert store.secret(60, 1)[0] == 1
    assert len(os.pread(fd, 8192, 0)) == RECORDS_MOST * RECORD.size


def test_the_keys_of_a_later_process_are_those_of_an_earlier_one(fd):
    lifetime = 604800
    first, second = TicketKeys(lifetime, store=TicketStore(fd)), TicketKeys(lifetime, store=TicketStore(fd))
    assert first.names == second.names
    assert first.names[0] != first.names[1]
    assert TicketKeys(lifetime).names != first.names


def test_keys_that_begin_to_follow_a_store_are_those_of_others_who_do(fd):
    later = TicketKeys(604800)
    before = later.names
    later.follow(TicketStore(fd))
    assert later.names == TicketKeys(604800, store=TicketStore(fd)).names != before


def test_keys_of_a_given_secret_follow_no_store(fd):
    with pytest.raises(ValueError, match="secret that was given"):
        TicketKeys(604800, b"s" * 32).follow(TicketStore(fd))


def test_keys_behind_the_store_have_no_key_of_before(fd):
    class Ahead:
        def secret(self, lifetime, epoch):
            return epoch + 5, b"s" * 32

    current, previous = TicketKeys(604800, store=Ahead()).names
    assert current == previous  # and not a key of zeros


def test_a_store_that_fails_later_does_not_end_handshakes():
    class Failing:
        asked = 0

        def secret(self, lifetime, epoch):
            self.asked += 1
            if self.asked > 1:
                raise OSError
            return epoch, b"s" * 32

    store = Failing()
    assert TicketKeys(604800, store=store).names[0] != bytes(16)
    assert store.asked == 2
