#!/usr/bin/env bash
# Sets the project up on a bare Debian machine: a virtual environment with the package, and the system packages that
# hold the colour font and Unicode's names. Safe to run again.
#
#     scripts/setup.sh          what a user needs
#     scripts/setup.sh dev      and what the tests and checks need
#
# PYTHON chooses the interpreter, VENV the folder of the environment (.venv).
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-run}
venv=${VENV:-.venv}

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Runs a command as root, without ever asking for a password; fails where that is not possible.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

apt_updated=
apt_install() {
    command -v apt-get >/dev/null || return 1
    if [ -z "$apt_updated" ]; then
        as_root apt-get update -qq </dev/null >/dev/null 2>&1 || return 1
        apt_updated=1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "$@" </dev/null >/dev/null 2>&1
}

# PYTHON, or else the first interpreter of version 3.11 or newer; constraints.txt was made with 3.11.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13 python3.14}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

make_venv() {
    local python=$1 version
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 && return
    if [ -f "$venv/pyvenv.cfg" ]; then rm -rf "$venv"; fi  # begun and never finished
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        say "installing python$version-venv"
        apt_install "python$version-venv" || apt_install python3-venv \
            || die "the Python module venv is missing; install python$version-venv and run this again."
    fi
    "$python" -m venv "$venv"
}

install_package() {
    local target=.
    [ "$mode" = dev ] && target='.[dev]'
    say "installing the package and its requirements into $venv (a few minutes the first time)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        --constraint constraints.txt --editable "$target"
}

install_font() {
    local wanted=() package
    for package in fonts-noto-color-emoji unicode-cldr-core; do
        dpkg -s "$package" >/dev/null 2>&1 || wanted+=("$package")
    done
    [ ${#wanted[@]} = 0 ] && return
    say "installing ${wanted[*]}"
    apt_install "${wanted[@]}" && return
    say "could not install ${wanted[*]}; without a colour font the built-in glyph pack is used."
}

python=$(find_python) || die "Python 3.11 or newer is needed; set PYTHON to one."
make_venv "$python"
install_package
install_font
say "done"
