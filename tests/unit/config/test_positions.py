"""Positions: tomllib says what there is, these say where."""

import contextlib
import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingora.config.positions import Positions

DOCUMENT = '''\
# a comment with [brackets] and "quotes"
listeners = [":80", ':81', # the second
    {address = ":82", "odd key" = 1},
]
a.b . "c.d" = 1979-05-27 07:32:00 # a date with a space

[limits]
head_timeout = "30s"
text = """
[not.a.table]
key = "no key" \\""" "
"""
raw = \'\'\'
it's [[raw]]\'\'\'\'
\tindented = {x = [1, [2, 3]], y.z = true}

[ "quoted" . 'table' ]
key = -1.5e3

[[routes]]
path = "/a"
[[routes.rules]]
n = 1
[[routes.rules]]
n = 2

[[routes]]
path = "/b"
  [routes.limits]
  n = 3
[[routes.rules]]
n = 4
'''


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("listeners",), (2, 1), (2, 13)),
        (("listeners", 0), (2, 14), (2, 14)),
        (("listeners", 1), (2, 21), (2, 21)),
        (("listeners", 2, "address"), (3, 6), (3, 16)),
        (("listeners", 2, "odd key"), (3, 23), (3, 35)),
        (("a",), (5, 1), (5, 1)),
        (("a", "b", "c.d"), (5, 7), (5, 15)),
        (("limits",), (7, 2), (7, 2)),
        (("limits", "text"), (9, 1), (9, 8)),
        (("limits", "raw"), (13, 1), (13, 7)),
        (("limits", "indented", "x", 1, 0), (15, 23), (15, 23)),
        (("limits", "indented", "y", "z"), (15, 33), (15, 37)),
        (("quoted", "table", "key"), (18, 1), (18, 7)),
        (("routes", 0, "path"), (21, 1), (21, 8)),
        (("routes", 0, "rules", 1, "n"), (25, 1), (25, 5)),
        (("routes", 1), (27, 3), (27, 3)),
        (("routes", 1, "limits"), (29, 11), (29, 11)),
        (("routes", 1, "rules", 0, "n"), (32, 1), (32, 5)),
        (("limits", "missing"), (7, 2), (7, 2)),
        (("missing", "too"), (1, 1), (1, 1)),
    ],
    ids=str,
)
def test_keys_and_values_have_their_places(path, key, value):
    positions = Positions(DOCUMENT)
    assert positions.key(path) == key
    assert positions.value(path) == value


def test_lines_that_end_with_crlf_count_the_same():
    places, others = Positions(DOCUMENT), Positions(DOCUMENT.replace("\n", "\r\n"))
    assert places.paths() == others.paths()
    assert all(places.value(path) == others.value(path) for path in places.paths())


def paths_of(value, path=()):
    """Give the path of everything in a document's values."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_of(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_of(inner, (*path, index))


def test_every_path_of_the_document_has_a_place_and_no_other_has():
    assert Positions(DOCUMENT).paths() == set(paths_of(tomllib.loads(DOCUMENT)))


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)
BLANKS = st.sampled_from(["", " ", "\t "])


@st.composite
def strings(draw):
    text = draw(TEXTS)
    written = [json.dumps(text, ensure_ascii=False)]
    if "'" not in text:
        written += [f"'{text}'", f"'''\n{text}'''", f"'''{text}\n'''"]
    if '"' not in text:
        written.append(f'"""{text}\n"""'.replace("\\", "\\\\"))
    return draw(st.sampled_from(written))


SCALARS = st.one_of(
    strings(), st.sampled_from(["1", "-0.5", "true", "0xff", "inf", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00"])
)
KEYS = st.one_of(st.from_regex(r"[A-Za-z0-9_-]{1,4}", fullmatch=True), TEXTS.map(lambda text: json.dumps(text)))
COMMENTS = st.sampled_from(["", "# note", '# ] "', "# '''"])


@st.composite
def arrays(draw, inner):
    items = draw(st.lists(inner, max_size=3))
    space = draw(st.sampled_from(["", " ", "\n", " # [\n"]))
    return f"[{space}{f',{space}'.join(items)}{space}]"


@st.composite
def inline_tables(draw, inner):
    pairs = draw(st.lists(st.tuples(KEYS, inner), max_size=3))
    blank = draw(BLANKS)
    return "{" + ",".join(f"{blank}{key}{blank}={blank}{value}{blank}" for key, value in pairs) + "}"


VALUES = st.recursive(SCALARS, lambda inner: st.one_of(arrays(inner), inline_tables(inner)), max_leaves=6)
LINES = st.one_of(
    st.tuples(BLANKS, st.lists(KEYS, min_size=1, max_size=3), BLANKS, VALUES, COMMENTS).map(
        lambda row: f"{row[0]}{(row[2] + '.' + row[2]).join(row[1])}{row[2]}={row[2]}{row[3]} {row[4]}"
    ),
    st.tuples(st.sampled_from(["[{}]", "[[{}]]"]), st.lists(KEYS, min_size=1, max_size=2), COMMENTS).map(
        lambda row: f"{row[0].format('.'.join(row[1]))} {row[2]}"
    ),
)


@given(st.lists(LINES, max_size=6))
def test_what_tomllib_accepts_has_the_same_paths(lines):
    kept = []
    for line in lines:  # keys that occur twice and the like are left out
        with contextlib.suppress(tomllib.TOMLDecodeError):
            tomllib.loads("\n".join([*kept, line]))
            kept.append(line)
    text = "\n".join(kept)
    values = tomllib.loads(text)
    positions = Positions(text)
    assert positions.paths() == set(paths_of(values))
    rows = text.split("\n")
    for path in positions.paths():
        place = positions.value(path)
        rest = "\n".join(rows[place.line - 1 :])[place.column - 1 :]
        value = values
        for part in path:
            value = value[part]
        if isinstance(value, (str, int, float)):
            assert tomllib.loads(f"x = {first_value(rest)}")["x"] == value


def first_value(rest):
    """Give the shortest beginning of a text that is a value with the line, or the item, that it ends."""
    for end in range(1, len(rest) + 1):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            tomllib.loads(f"x = {rest[:end]}")
            if end == len(rest) or rest[end] in " \t,]}\n#":
                return rest[:end]
    raise AssertionError(rest)


@given(st.text(st.sampled_from("[]{}=.,\"'\\#\n a1-"), max_size=40))
def test_what_is_not_toml_makes_no_error(text):
    Positions(text).value(("a", 0, "b"))


@given(st.integers(0, len(DOCUMENT)), st.integers(0, len(DOCUMENT)))
def test_a_document_with_a_hole_makes_no_error(start, end):
    Positions(DOCUMENT[:start] + DOCUMENT[end:]).key(("a",))
