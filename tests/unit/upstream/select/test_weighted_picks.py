"""Random, FnvHash and LeastConnections: who is picked, in which proportion, and who gets a share that is lost."""

from collections import Counter

import pytest

from pingora_c.upstream.balancer import Balancer, NoUpstream
from pingora_c.upstream.endpoint import Endpoint, use_endpoint
from pingora_c.upstream.select import random
from pingora_c.upstream.select.fnv_hash import FnvHash
from pingora_c.upstream.select.least_connections import LeastConnections

PICKS = 10_000
MASK = 2**64 - 1


def balance(selection, *weights):
    return Balancer([Endpoint(f"127.0.0.1:{i + 1}", weight) for i, weight in enumerate(weights)], selection)


def chi_square(counts, weights):
    total = sum(counts.values())
    wanted = [total * weight / sum(weights) for weight in weights]
    return sum((counts[i] - one) ** 2 / one for i, one in enumerate(wanted))


@pytest.fixture
def seeded():
    random.seed(7)
    yield
    random.seed()


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (5, 3, 2, 1), (100, 1, 1, 65535)], ids=str)
def test_random_picks_are_in_proportion_to_weights(seeded, weights):
    balancer = balance(random.Random(), *weights)
    counts = Counter(balancer.select().slot for _ in range(PICKS))
    assert chi_square(counts, weights) < 16.3  # 3 degrees of freedom, one in a thousand


def test_the_share_of_a_lost_endpoint_goes_to_all_others_by_weight(seeded):
    balancer = balance(random.Random(), 1, 4, 1, 2)
    balancer.endpoints[1].is_healthy = False
    counts = Counter(balancer.select().slot for _ in range(PICKS))
    assert counts[1] == 0
    assert chi_square(counts, (1, 1e-9, 1, 2)) < 13.9  # 2 degrees


def test_random_gives_another_sequence_after_another_seed():
    balancer = balance(random.Random(), *[1] * 50)
    sequences = []
    for seed in (1, 2, 1):
        random.seed(seed)
        sequences.append([balancer.select().slot for _ in range(20)])
    random.seed()
    assert sequences[0] == sequences[2] != sequences[1]


def fnv1a(data):
    result = 0xCBF29CE484222325
    for byte in data:
        result = ((result ^ byte) * 0x100000001B3) & MASK
    return result


def slowly(weights, key, dead=()):
    """Pingora's FNVHash: a list with each endpoint as often as it weighs, then hashes of the last index."""
    repeated = [slot for slot, weight in enumerate(weights) for _ in range(weight)]
    slot = repeated[fnv1a(key) % len(repeated)]
    while slot in dead:
        slot = fnv1a(slot.to_bytes(8, "little")) % len(weights)
    return slot


@pytest.mark.parametrize("weights", [(1,), (1, 1, 1), (5, 1, 3, 2)], ids=str)
def test_fnv_picks_what_pingora_picks(weights):
    balancer = balance(FnvHash(), *weights)
    for i in range(300):
        key = b"/path/%d" % i
        assert balancer.select(key).slot == slowly(weights, key)


def test_the_known_value_of_fnv1a():
    assert fnv1a(b"foobar") == 0x85944171F73967E8
    assert balance(FnvHash(), *[1] * 1000).select(b"foobar").slot == 0x85944171F73967E8 % 1000


def test_fnv_passes_over_what_is_not_available_to_one_that_is():
    weights = (2, 1, 1, 1, 3)
    balancer = balance(FnvHash(), *weights)
    for i in range(200):
        key = b"%d" % i
        first = balancer.select(key)
        first.is_enabled = False
        second = balancer.select(key).slot
        first.is_enabled = True
        assert second != first.slot


def test_fnv_finds_the_only_one_that_is_left():
    balancer = balance(FnvHash(), *[1] * 7)
    for endpoint in balancer.endpoints[:-1]:
        endpoint.is_healthy = False
    assert {balancer.select(b"%d" % i).slot for i in range(50)} == {6}
    balancer.endpoints[6].is_healthy = False
    with pytest.raises(NoUpstream):
        balancer.select(b"a")


def test_least_connections_takes_who_has_fewest_for_its_weight():
    balancer = balance(LeastConnections(), 1, 2, 1)
    picked = []
    for _ in range(8):
        endpoint = balancer.select()
        use_endpoint(endpoint, "start")
        picked.append(endpoint.slot)
    assert Counter(picked) == {0: 2, 1: 4, 2: 2}
    use_endpoint(balancer.endpoints[2], "good")
    use_endpoint(balancer.endpoints[2], "good")
    assert balancer.select().slot == 2


def test_least_connections_lets_equals_take_turns():
    balancer = balance(LeastConnections(), 1, 1, 1)
    assert [balancer.select().slot for _ in range(6)] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("selection", [random.Random, FnvHash, LeastConnections])
def test_a_set_that_shrinks_and_grows_is_served(selection):
    balancer = balance(selection(), 1, 2, 3)
    for ports in ((1,), (1, 2, 3, 4, 5), (4, 5)):
        balancer.update([Endpoint(f"127.0.0.1:{port}") for port in ports])
        seen = {balancer.select(b"%d" % i).address.port for i in range(300)}
        assert seen == set(ports)


@pytest.mark.parametrize("selection", [random.Random, FnvHash])
def test_weights_that_no_number_holds_are_refused_and_the_old_set_stays(selection):
    balancer = balance(selection(), 1)
    with pytest.raises(ValueError, match="the sum of weights"):
        balancer.update([Endpoint(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}:1", 65535) for i in range(32769)])
    assert balancer.select(b"a").address.port == 1


def test_a_weight_is_changed_while_it_runs():
    balancer = balance(random.Random(), 1, 1)
    before = balancer.endpoints
    balancer.set_weight("127.0.0.1:2", 65535)
    assert balancer.endpoints == before
    assert balancer.endpoints[1].weight == 65535
    assert Counter(balancer.select().slot for _ in range(1000))[1] > 950
    with pytest.raises(LookupError, match="no endpoint"):
        balancer.set_weight("127.0.0.1:3", 1)
    with pytest.raises(ValueError, match="weight 0"):
        balancer.set_weight("127.0.0.1:2", 0)
    assert balancer.endpoints[1].weight == 65535
