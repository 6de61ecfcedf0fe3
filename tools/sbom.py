"""Write into a wheel which libraries it carries inside its core: tools/sbom.py WHEEL (PEP 770, CycloneDX).

What is linked statically leaves no file and no name behind, and auditwheel lists only what it copies: without this,
nobody who looks for a vulnerable OpenSSL would find ours. Run it where the wheel was built, by the Python that it is
for. A wheel that carries nothing, since all is linked dynamically, stays as it is.
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

# By the name that `pingora version --build` gives it: the libraries that the linker looks for, and the owner in a CPE.
LIBRARIES = {
    "OpenSSL": (("libssl", "libcrypto"), "openssl"),
    "nghttp2": (("libnghttp2",), "nghttp2"),
    "zlib": (("libz",), "zlib"),
}
FILE = "sboms/pingora.cdx.json"  # auditwheel's own is auditwheel.cdx.json
VERSIONS = "import json; from pingora_c.base.linked import build_facts; print(json.dumps(build_facts()))"


def carried(library: Path) -> list[str]:
    """Name what a shared library does not look for elsewhere, and so carries inside, of LIBRARIES."""
    printed = subprocess.run(
        ["readelf", "--wide", "--dynamic", library], env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True
    )
    if printed.returncode:
        sys.exit(f"{library.name}: {printed.stderr.strip()}")
    needed = {name.partition(".so")[0] for name in re.findall(r"\(NEEDED\).*\[(.+?)\]", printed.stdout)}
    return [name for name, (files, _) in LIBRARIES.items() if not needed.issuperset(files)]


def versions(tree: Path) -> dict[str, str]:
    """Ask the core of an unpacked wheel for the version of each library."""
    command = [sys.executable, "-c", VERSIONS]
    return json.loads(subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True).stdout)


def describe(name: str, version: str, libraries: dict[str, str]) -> dict[str, object]:
    """Make the document: the distribution, and the libraries inside by their versions."""
    root = f"pkg:pypi/{name}@{version}"
    components = []
    for library, told in libraries.items():
        number, owner = told.split()[0], LIBRARIES[library][1]
        purl = f"pkg:generic/{owner}@{number}"
        components.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": library,
                "version": number,
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


def add(wheel: Path, name: str, content: bytes) -> None:
    """Put a file into the .dist-info of a wheel, and into its RECORD."""
    changed = wheel.with_name(f".{wheel.name}")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        record = next(entry for entry in old.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", entry))
        path = record.removesuffix("RECORD") + name
        for entry in old.infolist():
            if entry.filename not in (path, record):
                new.writestr(entry, old.read(entry))
        new.writestr(path, content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        rows = [row for row in csv.reader(io.StringIO(old.read(record).decode())) if row[0] != path]
        written = io.StringIO()
        csv.writer(written, lineterminator="\n").writerows([[path, f"sha256={digest}", len(content)], *rows])
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
    if inside:
        document = describe(name, version, {library: told[library] for library in inside})
        add(wheel, FILE, json.dumps(document, indent=1).encode())
    print(f"{wheel.name} carries {', '.join(f'{library} {told[library]}' for library in inside) or 'no library'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
