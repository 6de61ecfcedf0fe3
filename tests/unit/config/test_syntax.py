"""What is no TOML: told with its place, its line, and what was probably meant."""

import pytest

from pingora.config.reader import read_config
from pingora.usage import ConfigError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers = \n", "1:11: Invalid value: workers ="),
        ("a = 1\na = 2", "2:6: Cannot overwrite a value: a = 2"),
        ("[a\n", "1:3: Expected ']' at the end of a table declaration: [a"),
        ('a = "b', "1:7: Unterminated string"),
        (f"a = {'[' * 5000}", "1:1: nested too deeply"),
        (f"a = {'9' * 5000}", "1:5005: Exceeds the limit"),
        ("a = 1\0", "1:6: Expected newline or end of document after a statement: a = 1\N{REPLACEMENT CHARACTER}"),
        ("a = True", "1:5: Invalid value: a = True; write true"),
        ("workers = auto", '1:11: Invalid value: workers = auto; texts stand in quotes: "auto"'),
        (
            "a = 1\ngrace=10s # long",
            "2:9: Expected newline or end of document after a statement: grace=10s # long; "
            'texts stand in quotes: "10s"',
        ),
        (
            "listeners = [127.0.0.1:80]",
            '1:19: Unclosed array: listeners = [127.0.0.1:80]; texts stand in quotes: "127.0.0.1:80"',
        ),
        (
            "listeners = [\n  localhost:80,\n]",
            '2:3: Invalid value: localhost:80,; texts stand in quotes: "localhost:80"',
        ),
        ("workers = 012", "1:12: Expected newline or end of document after a statement: workers = 012"),
        (f"a = {'b ' * 80}", f'1:5: Invalid value: a = {("b " * 80)[:75]}…; texts stand in quotes: "b"'),
    ],
    ids=[
        *("value", "twice", "table", "string", "deep", "digits", "NUL"),
        *("flag", "word", "time", "address", "address in a line of its own", "number", "long line"),
    ],
)
def test_what_is_no_toml_is_told_with_its_place(text, message):
    with pytest.raises(ConfigError) as caught:
        read_config("p.toml", text)
    (problem,) = caught.value.problems
    assert problem.startswith(f"p.toml:{message}")
