"""What an installed wheel says about the libraries that came with it (PEP 770), and their licences."""

import json
from importlib import metadata

import pytest

from pingora_c.base.linked import build_facts

INSTALLED = metadata.distribution("pingora")
IS_REPAIRED = any(tag in (INSTALLED.read_text("WHEEL") or "") for tag in ("manylinux", "musllinux"))

pytestmark = pytest.mark.skipif(not IS_REPAIRED, reason="pingora was not installed from a repaired wheel")


def components(name):
    text = INSTALLED.read_text(f"sboms/{name}.cdx.json")
    return json.loads(text)["components"] if text else []


def has_licence(name):
    return any(file.parent.match(f"*.dist-info/licenses/{name}") for file in INSTALLED.files)


def copied(library):
    """The copies of a shared library that are in the wheel."""
    return [file for file in INSTALLED.files if file.parent.name == "pingora.libs" and file.name.startswith(library)]


@pytest.mark.parametrize(("name", "library"), [("OpenSSL", "libssl"), ("nghttp2", "libnghttp2")])
def test_each_library_is_listed_where_it_is_and_has_its_licence(name, library):
    inside = {component["name"]: component["version"] for component in components("pingora")}
    if copied(library):
        assert name not in inside
        listed = [component["name"] for component in components("auditwheel")]
        ours = [one for one in listed if name.lower() in one or one.startswith(library)]
        assert ours, listed
        assert has_licence(ours[0])
    else:
        assert inside[name] == build_facts()[name].split()[0]
        assert has_licence(name.lower())
