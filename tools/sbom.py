"""Write into a repaired wheel which libraries are inside its core, and the licences of all that it carries.

tools/sbom.py WHEEL. What is linked statically leaves no file and no name behind, and auditwheel lists only what it
copies: without this list (PEP 770, CycloneDX), nobody who looks for a vulnerable OpenSSL would find ours. Run it where
the wheel was built, by the Python that it is for. A wheel that carries nothing stays as it is.
"""

import base64
import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple


class Library(NamedTuple):
    """What may be linked into the core."""

    files: tuple[str, ...]  # that the linker looks for
    owner: str  # in a CPE
    licence: str  # as SPDX names it
    package: str  # of Debian, that has it for static linking


# By the name that `pingora version --build` gives it.
LIBRARIES = {
    "OpenSSL": Library(("libssl", "libcrypto"), "openssl", "Apache-2.0", "libssl-dev"),
    "nghttp2": Library(("libnghttp2",), "nghttp2", "MIT", "libnghttp2-dev"),
    "zlib": Library(("libz",), "zlib", "Zlib", "zlib1g-dev"),
}
FILE = "sboms/pingora.cdx.json"
COPIED = "sboms/auditwheel.cdx.json"  # auditwheel's list of what it copied
# Where texts of licences are, below the name of a library or package: from tools/wheel_libraries.sh, and Debian's.
PLACES = [(Path(os.environ.get("PREFIX", "/usr/local"), "share/licenses"), "*"), (Path("/usr/share/doc"), "copyright")]
VERSIONS = "import json; from pingora_c.base.linked import build_facts; print(json.dumps(build_facts()))"


def carried(core: Path) -> list[str]:
    """Name what a shared library does not look for elsewhere, and so carries inside, of LIBRARIES."""
    printed = subprocess.run(
        ["readelf", "--wide", "--dynamic", core], env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True
    )
    if printed.returncode:
        sys.exit(f"{core.name}: {printed.stderr.strip()}")
    # auditwheel puts a hash behind the name of what it copies.
    needed = set(re.findall(r"\(NEEDED\).*\[(.+?)(?:-[0-9a-f]{8})?\.so", printed.stdout))
    return [name for name, known in LIBRARIES.items() if not needed.issuperset(known.files)]


def copied(tree: Path) -> list[str]:
    """Name the packages that auditwheel has copied libraries of into an unpacked wheel."""
    lists = [json.loads(file.read_text()) for file in tree.glob(f"*.dist-info/{COPIED}")]
    components = [component for listed in lists for component in listed["components"]]
    # The first is the wheel itself.
    return sorted({each["name"] for each in components if not each["purl"].startswith("pkg:pypi/")})


def licence(*names: str) -> dict[str, bytes]:
    """Read the texts of a licence, by the names of the files, from the first place that has one of these names."""
    for name in names:
        for place, pattern in PLACES:
            if files := [file for file in sorted((place / name).glob(pattern)) if file.is_file()]:
                return {file.name: file.read_bytes() for file in files}
    return {}


def versions(tree: Path) -> dict[str, str]:
    """Ask the core of an unpacked wheel for the version of each library."""
    command = [sys.executable, "-c", VERSIONS]
    return json.loads(subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True).stdout)


def describe(name: str, version: str, libraries: dict[str, str]) -> dict[str, object]:
    """Make the document: the distribution, and the libraries inside by their versions."""
    root = f"pkg:pypi/{name}@{version}"
    components = []
    for library, told in libraries.items():
        number, owner = told.split()[0], LIBRARIES[library].owner
        purl = f"pkg:generic/{owner}@{number}"
        components.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": library,
                "version": number,
                "licenses": [{"license": {"id": LIBRARIES[library].licence}}],
                "purl": purl,
                "cpe": f"cpe:2.3:a:{owner}:{owner}:{number}:*:*:*:*:*:*:*",
            }
        )
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "library", "bom-ref": root, "name": name, "version": version, "purl": root}},
        "components": components,
        "dependencies": [
            {"ref": root, "dependsOn": [component["bom-ref"] for component in components]},
            *({"ref": component["bom-ref"]} for component in components),
        ],
    }


def add(wheel: Path, files: dict[str, bytes]) -> None:
    """Put files into the .dist-info of a wheel, and into its RECORD."""
    changed = wheel.with_name(f".{wheel.name}")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        record = next(entry for entry in old.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", entry))
        added = {record.removesuffix("RECORD") + name: content for name, content in files.items()}
        for entry in old.infolist():
            if entry.filename not in (*added, record):
                new.writestr(entry, old.read(entry))
        rows = [row for row in csv.reader(io.StringIO(old.read(record).decode())) if row[0] not in added]
        for path, content in added.items():
            new.writestr(path, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            rows.insert(0, [path, f"sha256={digest}", str(len(content))])
        written = io.StringIO()
        csv.writer(written, lineterminator="\n").writerows(rows)
        new.writestr(old.getinfo(record), written.getvalue())
    changed.replace(wheel)


def main(wheel: Path) -> int:
    """Describe a wheel in itself; return the exit code."""
    name, version = wheel.name.split("-")[:2]
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(tree)
        (core,) = tree.glob("pingora_c/core.*.so")
        inside = carried(core)
        told = versions(tree) if inside else {}
        beside = copied(tree)
    licences = {package: licence(package) for package in beside}
    for library in inside:
        _, owner, _, package = LIBRARIES[library]
        licences[owner] = licence(owner, package)
    files = {f"licenses/{of}/{file}": text for of, texts in licences.items() for file, text in texts.items()}
    if inside:
        document = describe(name, version, {library: told[library] for library in inside})
        files[FILE] = json.dumps(document, indent=1).encode()
    if files:
        add(wheel, files)
    all_carried = [*(f"{library} {told[library]}" for library in inside), *beside]
    print(f"{wheel.name} carries {', '.join(all_carried) or 'no library'}")
    if missing := [of for of, texts in licences.items() if not texts]:
        print(f"no text of a licence was found for {', '.join(missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
