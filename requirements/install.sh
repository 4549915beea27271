#!/bin/sh
# Install sets of pinned packages into a virtual environment, making it first:  install.sh VENV SET…
#
# A set is a lock file beside this script (run, examples, browser, dev); torch comes along with `run`. What is installed already is
# not looked at again: each set leaves a stamp in VENV with its lock file's checksum. A VENV that was made with another
# Python than PYTHON, or in which something was left half-done, is made anew.
#   PYTHON           the interpreter to make VENV with (default: the first fitting of python3, python3.13 …, or VENV's own)
#   TORCH_INDEX_URL  the index asked first for torch (default: the PyTorch project's CPU index); then pip's own settings hold
set -eu
here=$(dirname "$0")
venv=$1
shift
python=$venv/bin/python
log=$venv/install.log
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

fail() {
    printf '\n%s\n' "$*" >&2
    exit 1
}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }

# Prints the interpreter to use, or explains why there is none.
interpreter() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
        if fits "$candidate"; then
            "$candidate" -c 'import ensurepip, venv' 2>/dev/null || fail "$candidate: found no venv module in it, \
expected one; install it (Debian, Ubuntu: apt install python3-venv) or name another Python: make PYTHON=/path/to/python3 …"
            echo "$candidate"
            return
        fi
    done
    found=$("${PYTHON:-python3}" --version 2>&1) || found='no Python that starts'
    fail "${PYTHON:-python3}: found $found, expected Python 3.11 to 3.14, for which torch is built; \
install one or name it: make PYTHON=/path/to/python3.11 …"
}

# step TEXT COMMAND…: one line, ending with the seconds it took; the log's end only where the command fails.
step() {
    printf '  %s … ' "$1"
    shift
    began=$(date +%s)
    "$@" >"$log" 2>&1 || {
        status=$?
        printf 'failed\n'
        tail -n 15 "$log" >&2
        return "$status"
    }
    printf '%s s\n' "$(($(date +%s) - began))"
}

# Wheels only: nothing that is installed runs code of its own while it is being installed. Bytecode comes when a module is
# first imported: compiling all of it now took 45 of 67 seconds and 400 MB, most of it for modules never imported.
pip_install() {
    : >"$venv/.installing" # until there is the stamp
    "$python" -m pip install --require-hashes --no-deps --only-binary :all: --no-compile "$@"
}

# Whether a web address answers at all, within 6 seconds for everything, names included: pip's own time-outs hold for each
# address of a host in turn, so where packets are dropped it would sit there for minutes. A refusal is an answer.
answers() {
    "$python" - "$1" 2>/dev/null <<'END'
import signal, sys, urllib.error, urllib.parse, urllib.request
signal.alarm(6)
url = urllib.parse.urlsplit(sys.argv[1])
without_password = url._replace(netloc=url.netloc.rpartition("@")[2])  # which urllib takes for a part of the port
try:
    if url.scheme in ("http", "https"):
        urllib.request.urlopen(without_password.geturl(), timeout=6).close()
except urllib.error.HTTPError:
    pass
END
}

torch() {
    index=${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu}
    if answers "$index/torch/"; then
        pip_install --index-url "$index" -r "$here/torch.txt" && return
    else
        echo "$(echo "$index" | sed 's,//[^/]*@,//,') does not answer; asking the index that pip is set to use"
    fi
    pip_install -r "$here/torch.txt"
}

stamped() { [ "$(cat "$venv/.installed-$1" 2>/dev/null)" = "$(cksum <"$here/$1.txt")" ]; }
stamp() { cksum <"$here/$1.txt" >"$venv/.installed-$1" && rm -f "$venv/.installing"; }

# Which Python VENV was made with, as that Python itself says.
identity() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null; }

# lock PYTHON: waits until no other process installs into VENV. The lock ends with this script, however it ends.
lock() {
    exec 9>"$venv.lock"
    "$1" -c 'import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(f"  {sys.argv[1]}: waiting for another process that installs into it", flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)' "$venv"
}

# Prints why VENV has to be made anew, or nothing. If pip stops while it downloads, VENV is as it was; if it stops later, it
# leaves packages that it would take for installed the next time.
defect() {
    made_with=$(cat "$venv/.made-with" 2>/dev/null) || made_with=
    if [ -z "$made_with" ]; then
        echo 'it was not finished'
    elif [ "$made_with" != "$(identity "$python")" ]; then
        echo 'its Python has changed'
    elif [ -n "${PYTHON:-}" ] && [ "$made_with" != "$(identity "$base")" ]; then
        echo "it was made with another Python than $PYTHON"
    elif [ -e "$venv/.installing" ] && grep -qs '^Installing collected packages' "$log"; then
        echo 'an installation into it was not finished'
    fi
}

# complete SET…: whether nothing is to be done. Then nothing is written either, so the folder may be read-only.
complete() {
    [ -z "$(defect)" ] || return 1
    for set in "$@"; do
        stamped "$set" || return 1
        [ "$set" != run ] || stamped torch || return 1
    done
}

make_venv() {
    base=$("$base" -c 'import sys; print(sys._base_executable)') # PYTHON may name VENV's own, which is about to go
    rm -f "$venv/.made-with" # first, and written last: it says that VENV is whole
    find "$venv/" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
    step "$venv: a virtual environment with $("$base" --version)" "$base" -m venv "$venv"
    identity "$python" >"$venv/.made-with"
}

if [ -n "${PYTHON:-}" ] || ! fits "$python"; then base=$(interpreter); else base=$python; fi
! complete "$@" || exit 0
mkdir -p "$venv"
lock "$base"
reason=$(defect)
if [ -n "$reason" ]; then
    ! [ -e "$python" ] || echo "  $venv: $reason; making it anew"
    [ "$base" != "$python" ] || base=$(interpreter)
    make_venv
fi
for set in "$@"; do
    if [ "$set" = run ] && ! stamped torch; then
        step 'torch, its CPU build (190 MB)' torch || fail "torch: found no CPU build for this Python and machine whose hash \
$here/torch.txt knows, neither at the PyTorch project's CPU index nor where pip looks; the public index has only the CUDA \
build (gigabytes), which is never taken. Set TORCH_INDEX_URL to an index that has the CPU build, or use Python 3.11 to 3.14."
        stamp torch
    fi
    stamped "$set" && continue
    step "$set: $(grep -c '^[a-z]' "$here/$set.txt") packages" pip_install -r "$here/$set.txt" || fail "\
$set: pip could not install $here/$set.txt (above); check the network and pip's index (pip config list), then do it again."
    stamp "$set"
done
