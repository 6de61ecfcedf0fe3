"""A wheel says which libraries are inside its core, and has the licences of all that it carries."""

import base64
import csv
import hashlib
import json
import shutil
import subprocess
import zipfile

import pytest
import sbom
from compilers import can_compile

pytestmark = pytest.mark.skipif(
    not (can_compile("gcc") and shutil.which("readelf")), reason="needs gcc, libc6-dev and readelf to make a library"
)

ALL = ("ssl", "crypto", "nghttp2", "z")
FACTS = 'def build_facts():\n    return {"OpenSSL": "3.5.7 9 Jun 2026", "nghttp2": "1.70.0", "zlib": "1.3.1"}\n'
DIST_INFO = "pingora-1.2.dist-info"
RENAMED = ("ssl-1a2b3c4d", "crypto-0f1e2d3c", "nghttp2-00112233", "z")  # as auditwheel does
COPIED = [  # as auditwheel lists it
    {"name": "pingora", "purl": "pkg:pypi/pingora@1.2"},
    {"name": "libssl3", "purl": "pkg:deb/debian/libssl3@3.0.17"},
    {"name": "libnghttp2-14", "purl": "pkg:deb/debian/libnghttp2-14@1.52.0"},
]


def compile_core(directory, shared):
    """Link a library with some of ALL; the others are those that it carries."""
    source = directory / "core.c"
    source.write_text("int core(void) { return 0; }\n")
    needed = []
    for name in shared:
        file = directory / f"lib{name}.so"
        subprocess.run(["gcc", "-shared", f"-Wl,-soname,lib{name}.so.3", "-o", file, source], check=True)
        needed.append(file)
    core = directory / "core.cpython-311-x86_64-linux-gnu.so"
    subprocess.run(["gcc", "-shared", "-Wl,--no-as-needed", "-o", core, source, *needed], check=True)
    return core


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Two directories for licences, as that of tools/wheel_libraries.sh and that of Debian."""
    places = [(tmp_path / "ours", "*"), (tmp_path / "debian", "copyright")]
    monkeypatch.setattr(sbom, "PLACES", places)
    return [directory for directory, _ in places]


@pytest.fixture
def make_wheel(tmp_path):
    def make_wheel(shared, copied=None):
        core = compile_core(tmp_path, shared)
        wheel = tmp_path / "pingora-1.2-cp311-cp311-linux_x86_64.whl"
        with zipfile.ZipFile(wheel, "w") as packed:
            packed.write(core, f"pingora_c/{core.name}")
            packed.writestr("pingora_c/__init__.py", "")
            packed.writestr("pingora_c/base/__init__.py", "")
            packed.writestr("pingora_c/base/linked.py", FACTS)
            packed.writestr(f"{DIST_INFO}/METADATA", "Metadata-Version: 2.4\nName: pingora\nVersion: 1.2\n")
            if copied:
                packed.writestr(f"{DIST_INFO}/sboms/auditwheel.cdx.json", json.dumps({"components": copied}))
            packed.writestr(f"{DIST_INFO}/RECORD", f"pingora_c/base/linked.py,,\n{DIST_INFO}/RECORD,,\n")
        return wheel

    return make_wheel


@pytest.mark.parametrize(
    ("shared", "inside"),
    [
        pytest.param(ALL, [], id="all linked dynamically"),
        pytest.param(RENAMED, [], id="copied by auditwheel"),
        pytest.param(("z",), ["OpenSSL", "nghttp2"], id="as in the wheels that are published"),
        pytest.param((), ["OpenSSL", "nghttp2", "zlib"], id="all inside"),
        pytest.param(("crypto", "z", "nghttp2"), ["OpenSSL"], id="a half of OpenSSL"),
    ],
)
def test_what_a_library_does_not_look_for_elsewhere_is_inside(tmp_path, shared, inside):
    assert sbom.carried(compile_core(tmp_path, shared)) == inside


def test_what_is_inside_is_listed_with_its_version(make_wheel):
    wheel = make_wheel(("z",))
    assert sbom.main(wheel) == 0
    with zipfile.ZipFile(wheel) as packed:
        assert packed.testzip() is None
        document = json.loads(packed.read(f"{DIST_INFO}/{sbom.FILE}"))
    listed = {component["name"]: component for component in document["components"]}
    assert {name: component["version"] for name, component in listed.items()} == {
        "OpenSSL": "3.5.7",
        "nghttp2": "1.70.0",
    }
    assert listed["OpenSSL"]["cpe"] == "cpe:2.3:a:openssl:openssl:3.5.7:*:*:*:*:*:*:*"
    assert listed["nghttp2"]["licenses"] == [{"license": {"id": "MIT"}}]
    assert document["metadata"]["component"]["purl"] == "pkg:pypi/pingora@1.2"
    references = {component["bom-ref"] for component in document["components"]}
    assert set(document["dependencies"][0]["dependsOn"]) == references


def test_the_record_of_the_wheel_stays_right(make_wheel):
    wheel = make_wheel(("z",))
    for _ in range(2):  # a wheel that has one gets it anew
        sbom.main(wheel)
    with zipfile.ZipFile(wheel) as packed:
        record = packed.read(f"{DIST_INFO}/RECORD").decode()
        content = packed.read(f"{DIST_INFO}/{sbom.FILE}")
        assert len(set(packed.namelist())) == len(packed.namelist())
    rows = {row[0]: row[1:] for row in csv.reader(record.splitlines())}
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    assert rows[f"{DIST_INFO}/{sbom.FILE}"] == [f"sha256={digest}", str(len(content))]
    assert rows["pingora_c/base/linked.py"] == rows[f"{DIST_INFO}/RECORD"] == ["", ""]
    assert record.count(sbom.FILE) == 1


def test_a_wheel_that_carries_nothing_stays_as_it_is(make_wheel):
    wheel = make_wheel(ALL)
    before = wheel.read_bytes()
    assert sbom.main(wheel) == 0
    assert wheel.read_bytes() == before


def write(file, text):
    file.parent.mkdir(parents=True)
    file.write_text(text)


def licences(wheel):
    with zipfile.ZipFile(wheel) as packed:
        record = packed.read(f"{DIST_INFO}/RECORD").decode()
        names = [name for name in packed.namelist() if name.startswith(f"{DIST_INFO}/licenses/")]
        assert all(f"{name},sha256=" in record for name in names)
        return {name.removeprefix(f"{DIST_INFO}/licenses/"): packed.read(name).decode() for name in names}


def test_licences_of_what_is_inside_come_along(make_wheel, places, capsys):
    ours, debian = places
    write(ours / "openssl" / "LICENSE.txt", "Apache")
    write(debian / "libssl-dev" / "copyright", "not that of the library that was linked")
    write(debian / "libnghttp2-dev" / "copyright", "MIT")
    wheel = make_wheel(())
    assert sbom.main(wheel) == 0
    assert licences(wheel) == {"openssl/LICENSE.txt": "Apache", "nghttp2/copyright": "MIT"}
    assert capsys.readouterr().out.splitlines()[-1] == "no text of a licence was found for zlib"


def test_licences_of_what_auditwheel_copied_come_along(make_wheel, places):
    _, debian = places
    write(debian / "libssl3" / "copyright", "Apache")
    write(debian / "libnghttp2-14" / "copyright", "MIT")
    write(debian / "pingora" / "copyright", "another")
    wheel = make_wheel(RENAMED, COPIED)
    assert sbom.main(wheel) == 0
    assert licences(wheel) == {"libssl3/copyright": "Apache", "libnghttp2-14/copyright": "MIT"}
    with zipfile.ZipFile(wheel) as packed:
        assert f"{DIST_INFO}/{sbom.FILE}" not in packed.namelist()


def test_what_is_no_library_is_refused(tmp_path):
    broken = tmp_path / "core.so"
    broken.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(SystemExit, match=r"core\.so: .*"):
        sbom.carried(broken)
