"""HeaderMap: an ordered multi-map of validated text."""

import copy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pingora_c.h1.probe import load_response
from pingora_c.http.header_map import HeaderMap


def test_first_value_is_found_in_any_case():
    fields = HeaderMap([("X-A", "1"), ("x-a", "2")])
    assert fields["x-A"] == "1"
    assert fields.get_all("X-a") == ["1", "2"]


def test_set_replaces_all_in_the_place_and_spelling_of_the_first():
    fields = HeaderMap([("A", "1"), ("Foo", "x"), ("B", "2"), ("fOO", "y")])
    fields["FOO"] = "a longer value"
    assert list(fields.items()) == [("A", "1"), ("Foo", "a longer value"), ("B", "2")]


@pytest.mark.parametrize("octet", [*range(9), *range(10, 32), 127])
def test_control_byte_in_value_is_refused(octet):
    fields = HeaderMap()
    with pytest.raises(ValueError, match=f"0x{octet:02X} at position 1"):
        fields["a"] = f"b{chr(octet)}c"
    assert len(fields) == 0


# -- beside a list of pairs

KEPT = {"transfer-encoding", "connection", "keep-alive", "upgrade", "te", "proxy-connection"}
FRAMING = KEPT | {"content-length"}
SPELLINGS = [
    "A",
    "a",
    "X-Long-Name",
    "x-long-NAME",
    "Set-Cookie",
    "set-cookie",
    "Host",
    "Content-Type",
    "!#$%&'*+-.^_`|~9",
]
TOKEN = "!#$%&'*+-.^_`|~0123456789ABCxyz"
NAMES = st.one_of(
    st.sampled_from([*SPELLINGS, *SPELLINGS, "Content-Length", "TRANSFER-encoding", "Connection"]),
    st.text(TOKEN, min_size=1, max_size=12),
)
OCTETS = st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")
VALUES = st.one_of(
    st.text(OCTETS, max_size=12),
    st.sampled_from(["", " \t", "\t in \t the  middle \t", "v" * 300, "w" * 5000]),
)
PAIRS = st.lists(st.tuples(NAMES.filter(lambda name: name.lower() not in FRAMING), VALUES), max_size=6)
HEAD = [
    ("A", "1"),
    ("Transfer-Encoding", "chunked"),
    ("Content-Length", "5"),
    ("a", "2"),
    ("Keep-Alive", "3"),
    ("Set-Cookie", "b"),
]


def is_named(name):
    return lambda pair: pair[0].lower() == name.lower()


class BesideList(RuleBasedStateMachine):
    """A map and the list of its fields, changed in the same way by what a hook can call."""

    @initialize(pairs=PAIRS, is_loaded=st.booleans())
    def begin(self, pairs, is_loaded):
        if is_loaded:
            lines = "".join(f"{name}: {value}\r\n" for name, value in HEAD)
            self.head = load_response(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode())
            self.fields, self.pairs = self.head.headers, list(HEAD)
        else:
            self.fields = HeaderMap(pairs)
            self.pairs = [(name, value.strip(" \t")) for name, value in pairs]

    def has(self, name):
        return any(map(is_named(name), self.pairs))

    def first(self, name, default=None):
        return next((pair[1] for pair in self.pairs if is_named(name)(pair)), default)

    def set_in_list(self, name, value):
        at = next((at for at, pair in enumerate(self.pairs) if is_named(name)(pair)), None)
        if at is None:
            self.pairs.append((name, value.strip(" \t")))
            return
        spelling = self.pairs[at][0]
        rest = [pair for pair in self.pairs[at + 1 :] if not is_named(name)(pair)]
        self.pairs[at:] = [(spelling, value.strip(" \t")), *rest]

    def remove_from_list(self, name):
        before = len(self.pairs)
        self.pairs = [pair for pair in self.pairs if not is_named(name)(pair)]
        return before - len(self.pairs)

    @rule(name=NAMES, value=VALUES, as_bytes=st.booleans(), is_set=st.booleans())
    def write(self, name, value, as_bytes, is_set):
        given = (name.encode(), value.encode("latin-1")) if as_bytes else (name, value)
        write = self.fields.__setitem__ if is_set else self.fields.add
        if name.lower() in FRAMING:
            with pytest.raises(ValueError, match="cannot be written"):
                write(*given)
        elif is_set:
            write(*given)
            self.set_in_list(name, value)
        else:
            write(*given)
            self.pairs.append((name, value.strip(" \t")))

    @rule(name=NAMES, octet=st.sampled_from("\0\r\n\x1f\x7f"), value=VALUES)
    def write_what_is_refused(self, name, octet, value):
        for bad in ((name, f"a{octet}{value}b"), (f"{name}{octet}", value), (f"{name} ", value), ("", value)):
            with pytest.raises(ValueError, match="header"):
                self.fields[bad[0]] = bad[1]
            with pytest.raises(ValueError, match="header"):
                self.fields.add(*bad)
        for bad in ((name, "\u0100"), ("\u0100", value)):
            with pytest.raises(ValueError, match="header"):
                self.fields.add(*bad)

    @rule(name=NAMES, how=st.sampled_from(["del", "remove", "pop", "pop with default"]))
    def remove(self, name, how):
        before = self.first(name)
        remove = {
            "del": self.fields.__delitem__,
            "remove": self.fields.remove,
            "pop": self.fields.pop,
            "pop with default": lambda name: self.fields.pop(name, "none"),
        }[how]
        if name.lower() in KEPT and (self.has(name) or how in ("del", "remove")):
            with pytest.raises(ValueError, match="cannot be removed"):
                remove(name)
        elif not self.has(name) and how in ("del", "pop"):
            with pytest.raises(KeyError):
                remove(name)
        else:
            got, n = remove(name), self.remove_from_list(name)
            assert got == {"del": None, "remove": n, "pop": before, "pop with default": before if n else "none"}[how]

    @rule()
    def popitem(self):
        at = max((at for at, pair in enumerate(self.pairs) if pair[0].lower() not in KEPT), default=None)
        if at is None:
            with pytest.raises(KeyError):
                self.fields.popitem()
        else:
            assert self.fields.popitem() == self.pairs.pop(at)

    @rule(name=NAMES, value=VALUES)
    def setdefault(self, name, value):
        if not self.has(name) and name.lower() in FRAMING:
            with pytest.raises(ValueError, match="cannot be written"):
                self.fields.setdefault(name, value)
            return
        if not self.has(name):
            self.set_in_list(name, value)
        assert self.fields.setdefault(name, value) == self.first(name)

    @rule(pairs=PAIRS, how=st.sampled_from(["pairs", "dict", "map", "named"]))
    def update(self, pairs, how):
        if how == "dict":
            pairs = list(dict(pairs).items())
        elif how == "named":
            pairs = list({name.replace("-", "_"): value for name, value in pairs if name.isidentifier()}.items())
        seen = set()
        if how == "named":
            self.fields.update(**dict(pairs))
        else:
            self.fields.update({"pairs": list, "dict": dict, "map": HeaderMap}[how](pairs))
        for name, value in pairs:
            if name.lower() in seen:
                self.pairs.append((name, value.strip(" \t")))
            else:
                self.set_in_list(name, value)
            seen.add(name.lower())

    @rule()
    def clear(self):
        self.fields.clear()
        self.pairs = [pair for pair in self.pairs if pair[0].lower() in KEPT]

    @rule(how=st.sampled_from([HeaderMap.copy, copy.copy, copy.deepcopy]), goes_on_with_it=st.booleans())
    def copy(self, how, goes_on_with_it):
        copied = how(self.fields)
        other = copied if not goes_on_with_it else self.fields
        if goes_on_with_it:
            self.fields = copied
        other["Only-Here"] = "1"
        other.add("A", "w" * 1000)
        assert "Only-Here" not in self.fields

    @rule(name=NAMES, value=VALUES)
    def look(self, name, value):
        assert (name in self.fields) == (name.encode() in self.fields) == self.has(name)
        assert self.fields.get(name) == self.first(name)
        assert self.fields.get(name, value) == self.first(name, value)
        assert self.fields.get_all(name) == [pair[1] for pair in self.pairs if is_named(name)(pair)]
        assert ((name, value) in self.fields.items()) == (value in self.fields.get_all(name))
        assert (value in self.fields.values()) == (value in [pair[1] for pair in self.pairs])
        assert (name in self.fields.keys()) == self.has(name)  # noqa: SIM118 - the view is what is looked at
        if self.has(name):
            assert self.fields[name] == self.first(name)
        else:
            with pytest.raises(KeyError):
                self.fields[name]

    @invariant()
    def holds_the_fields_of_the_list(self):
        if not hasattr(self, "fields"):
            return
        assert list(self.fields.items()) == self.pairs
        assert list(self.fields) == list(self.fields.keys()) == [name for name, _ in self.pairs]
        assert list(self.fields.values()) == [value for _, value in self.pairs]
        assert len(self.fields) == len(self.fields.items()) == len(self.pairs)
        plain = [pair for pair in self.pairs if pair[0].lower() not in FRAMING]
        assert list(HeaderMap(self.fields).items()) == plain, "framing stays with its message"
        assert (self.fields == HeaderMap(plain)) == (plain == self.pairs)


def test_a_map_is_what_a_list_of_pairs_would_be():
    run_state_machine_as_test(BesideList, settings=settings(max_examples=100, stateful_step_count=30))


def test_fields_that_change_while_they_are_walked_are_never_misread():
    fields = HeaderMap([(f"N{i}", f"v{i}") for i in range(60)])
    seen = []
    for i, (name, value) in enumerate(fields.items()):
        assert value in (name.replace("N", "v"), "x" * 2000)
        seen.append(name)
        del fields[name]
        fields[f"N{(i * 7) % 60}"] = "x" * 2000  # the block moves
        if i > 500:
            break
    assert len(seen) > 10


def test_secrets_do_not_appear_in_a_repr():
    names = ["Authorization", "Cookie", "Set-Cookie", "Proxy-Authorization"]
    text = repr(HeaderMap([(name, "secret") for name in names] + [("A", "open")]))
    assert "secret" not in text
    assert "open" in text


def test_a_map_refuses_fields_beyond_its_limit_and_keeps_what_it_has():
    n = 1000
    fields = HeaderMap((f"N{i}", "") for i in range(n))
    with pytest.raises(ValueError, match=f"expected at most {n}"):
        fields.add("M", "")
    assert list(fields) == [f"N{i}" for i in range(n)]
    with pytest.raises(ValueError, match="would pass"):
        HeaderMap({"a": "b" * (1 << 24)})
    del fields["N0"]
    fields["M"] = "there is room again"
    assert (len(fields), fields["m"]) == (n, "there is room again")


@pytest.mark.parametrize("fields", [[1], ["ab"], [("a", "b", "c")]])
def test_what_is_no_pair_is_named(fields):
    with pytest.raises(TypeError, match="headers: expected pairs of a name and a value, got "):
        HeaderMap(fields)
