#!/usr/bin/env bash
# Play a stranger: tools/stranger.sh [WHEEL]. Install the wheel (default: the newest in dist/) into a clean environment,
# follow the tutorial and the README as they are written, commands and files, and compare what comes with what is shown.
# The README is followed in a clone of this repository, where `make run` builds from source; `make test` is left out.
# The ports of the pages (8080, 8443, 9001 …) must be free. PYTHON chooses the interpreter.
# DEBIAN=bookworm does all of it, as root, in a new Debian that has Python, git, gcc, make and curl, and nothing else.
# Its Python must be the wheel's.
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

PYTHON=${PYTHON:-python3}
# shellcheck disable=SC2012
wheel=${1:-$(ls -t dist/*.whl 2>/dev/null | head -1)}
[ -f "$wheel" ] || fail "there is no wheel; first: make wheel ARGS=none"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What is mounted is seen by this process and its children alone, and gone with them.
in_debian() {
    local host=$work/debian
    command -v debootstrap >/dev/null || fail "debootstrap is missing; as root, run:
    $(install_command debootstrap)"
    say "making a Debian $1"
    quietly debootstrap --variant=minbase --include=python3,python3-venv,git,gcc,make,curl,ca-certificates "$1" "$host" ||
        fail "it could not be made"
    cp -L /etc/resolv.conf /etc/hosts "$host/etc"
    cp "$wheel" "$host/root"
    quietly git clone --quiet --no-hardlinks "$ROOT" "$host/root/pingora"
    # shellcheck disable=SC2016
    unshare --mount --pid --fork --kill-child sh -ec 'mount -t proc proc "$1/proc"
        mount --rbind /dev "$1/dev"
        mount --bind /etc/ssl/certs "$1/etc/ssl/certs"
        exec chroot "$@"' sh "$host" \
        env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /root/pingora/tools/stranger.sh "/root/$(basename "$wheel")"
}

if [ -n "${DEBIAN:-}" ]; then
    in_debian "$DEBIAN"
    exit
fi

follow() {
    env -i HOME="$work/home" LANG=C.UTF-8 PATH="$work/bin:$work/venv/bin:/usr/local/bin:/usr/bin:/bin" \
        "$work/venv/bin/python" "$ROOT/tests/docs/walkthrough.py" "$@"
}

"$PYTHON" -m venv "$work/venv"
mkdir "$work/home" "$work/bin" "$work/tutorial"
quietly "$work/venv/bin/python" -m pip install --disable-pip-version-check --quiet "$wheel" ||
    fail "the wheel could not be installed"
say "$("$work/venv/bin/pingora" version), installed from $(basename "$wheel")"
follow docs/tutorial.md "$work/tutorial"
quietly git clone --quiet "$ROOT" "$work/clone"
# shellcheck disable=SC2016
printf '#!/bin/sh\n[ "$1" = test ] || exec /usr/bin/make "$@"\n' >"$work/bin/make"
chmod +x "$work/bin/make"
follow README.md "$work/clone"
