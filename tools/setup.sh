#!/usr/bin/env bash
# Make .venv: tools/setup.sh [test] [fuzz] [bench] [docs] [browser]. Without a word: what building and running needs.
# The second call is answered by a stamp in build/stamps.
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

PYTHON=${PYTHON:-python3}

check_python() {
    [ "$(uname -s)" = Linux ] || fail "only Linux is supported by this version (the core is written on epoll)"
    command -v "$PYTHON" >/dev/null || fail "no $PYTHON found; install it: $(install_command python3)"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$PYTHON is $("$PYTHON" -V 2>&1), needed is 3.11 or later: make PYTHON=/path/to/python3 …"
}

# True if the compiler can compile and link a program of one line: a header, a call, and libraries to link.
can_compile() {
    local directory compiler=${CC:-} header=$1 call=$2
    shift 2
    [ -n "$compiler" ] || compiler=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_config_var("CC").split()[0])')
    directory=$(mktemp -d)
    printf '#include <%s>\nint main(void) { return %s; }\n' "$header" "$call" >"$directory/try.c"
    "$compiler" -o "$directory/try" "$directory/try.c" "$@" 2>/dev/null && "$directory/try" >/dev/null
    local code=$?
    rm -rf "$directory"
    return $code
}

has_headers() {
    "$PYTHON" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())'
}

has_ensurepip() { "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; }

# Print the Debian packages that are missing for a build. Of a Python that is not Debian's, none has the headers.
missing_packages() {
    local real name
    real=$("$PYTHON" -c 'import os, sys; print(os.path.realpath(sys.executable))')
    name=$(basename "$real")
    can_compile stdio.h 'puts("") < 0' || echo gcc libc6-dev
    can_compile openssl/ssl.h 'OpenSSL_version_num() < 0x30000000' -lssl -lcrypto || echo libssl-dev
    can_compile zlib.h 'zlibVersion() == 0' -lz || echo zlib1g-dev
    # Debian's 1.52 has what came with 1.57 and 1.61: the limits without which resets and CONTINUATION could flood us.
    can_compile nghttp2/nghttp2.h '({ nghttp2_option *o; nghttp2_option_new(&o) ||
        (nghttp2_option_set_stream_reset_rate_limit(o, 1, 1), nghttp2_option_set_max_continuations(o, 1), 0); })' \
        -lnghttp2 || echo libnghttp2-dev
    if ! has_headers || ! has_ensurepip; then
        case $real in
        /usr/bin/python3.*) ;;
        *) fail "$real has no Python.h or no ensurepip; reinstall it with both, or use another: make PYTHON=/usr/bin/python3 …" ;;
        esac
        has_headers || echo "$name-dev"
        has_ensurepip || echo "$name-venv"
    fi
}

check_system() {
    local missing
    missing=$(missing_packages | tr '\n' ' ') || exit 2
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086
    try_install $missing || fail "system packages are missing; as root, run:
    $(install_command "$missing")"
    missing=$(missing_packages | tr '\n' ' ') || exit 2
    [ -z "$missing" ] || fail "still missing after the installation: $missing"
}

# Programs that tests or benchmarks run, each with its Debian package. What cannot be had is named, and its tests skip.
check_programs() {
    local missing="" program
    for program in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${program%%:*}" >/dev/null || missing+=" ${program##*:}"
    done
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086
    without_services try_install $missing || say "tests of what is missing will be skipped; to have all, run as root:
    $(install_command "${missing# }")"
}

# Fuzzing needs clang and its runtime library; without it there is nothing to run.
check_fuzzer() {
    local compiler
    for compiler in "${CC:-clang}" clang clang-14; do
        echo 'int main(void) { return 0; }' | "$compiler" -x c -fsanitize=address -o /dev/null - 2>/dev/null && return
    done
    try_install clang libclang-rt-dev || fail "clang is missing; as root, run:
    $(install_command clang libclang-rt-dev)"
}

# Debian starts a service as soon as it is installed; a machine that runs our tests wants no nginx on port 80.
without_services() {
    local policy=/usr/sbin/policy-rc.d code=0
    if [ -e $policy ] || ! may_install; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
    "$@" || code=$?
    as_root rm -f $policy
    return $code
}

make_venv() {
    "$VENV/bin/python" -c 'import pip' 2>/dev/null && return
    [ ! -L "$VENV" ] || fail ".venv is a link to $(readlink "$VENV"), which is no working environment"
    say "making .venv with $("$PYTHON" -V)"
    "$PYTHON" -m venv --clear "$VENV"
}

# Install what pyproject.toml names for the build, for running and for the given extras.
install_requirements() {
    local -a wanted
    mapfile -t wanted < <("$VENV/bin/python" tools/requirements.py "$@")
    if ! "$VENV/bin/python" tools/requirements.py --check "$@"; then
        say "installing ${#wanted[@]} Python packages into .venv"
        quietly "$VENV/bin/python" -m pip install --disable-pip-version-check --quiet "${wanted[@]}" ||
            fail "pip could not install them (no network?); what it said is above"
    fi
}

# A scanner that wants an older cryptography than ours: it gets an environment of its own. Its test is skipped without.
install_sslyze() {
    [ ! -x "$VENV/sslyze/bin/sslyze" ] || return 0
    say "installing sslyze into $VENV/sslyze"
    "$VENV/bin/python" -m venv "$VENV/sslyze"
    quietly "$VENV/sslyze/bin/python" -m pip install --disable-pip-version-check --quiet "sslyze>=6.1" ||
        say "pip could not install sslyze: its test will be skipped"
}

# What others wrote in Go, where Go is: h2spec for a test, which is skipped without, and actionlint, whose package on
# PyPI would fetch a binary.
install_go_programs() {
    local program
    command -v go >/dev/null || return 0
    for program in summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible rhysd/actionlint/cmd/actionlint@v1.7.12; do
        local name=${program##*/}
        name=${name%@*}
        [ ! -x "$VENV/bin/$name" ] || continue
        say "installing $name into .venv"
        (cd / && GOBIN=$VENV/bin quietly go install "github.com/$program") || say "Go could not install $name: left out"
    done
}

main() {
    local extra stamp
    local -a extras=()
    stamp=$STAMPS/setup-$(echo "base $*" | tr ' ' '-')
    if [ "$stamp" -nt pyproject.toml ] && [ "$stamp" -nt tools/setup.sh ] && [ "$stamp" -nt "$VENV/bin/python" ]; then
        return
    fi
    check_python
    check_system
    make_venv
    for extra in "$@"; do
        case $extra in
        test) extras+=(test) && check_programs nginx:nginx-light haproxy:haproxy curl:curl wrk:wrk openssl:openssl slowhttptest:slowhttptest sslscan:sslscan testssl:testssl.sh nghttpd:nghttp2-server nghttp:nghttp2-client ;;
        docs) extras+=(docs) ;;
        browser) check_programs chromium:chromium chromedriver:chromium-driver ;;
        fuzz) extras+=(fuzz) && check_fuzzer ;;
        bench) check_programs h2load:nghttp2-client strace:strace ;;
        *) fail "unknown set of requirements: $extra" ;;
        esac
    done
    install_requirements "${extras[@]}"
    if [[ " $* " == *" test "* ]]; then
        install_sslyze
        install_go_programs
    fi
    mkdir -p "$STAMPS"
    touch "$stamp"
}

main "$@"
