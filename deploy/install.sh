#!/usr/bin/env bash
# Creates .venv and installs the committed lock into it: ENGINE=cpu (default) or gpu.
# Does nothing when the lock it installed last is still the same.
set -euo pipefail
cd "$(dirname "$0")/.."

engine=${ENGINE:-cpu}
python=${PYTHON:-python3.11}
lock=deploy/locks/$engine.txt
log=.venv/install.log
torch=2.13.0
cpu_index=https://download.pytorch.org/whl/cpu

fail() { echo "engram: $*" >&2; exit 1; }

digest() { "$1" -c '
import hashlib, sys
print(hashlib.sha256(b"".join(open(name, "rb").read() for name in sys.argv[1:])).hexdigest())
' "$lock" pyproject.toml deploy/install.sh; }

# Runs pip, all output to the log, and shows how many of the $1 packages it has reached.
pip_install() {
    local total=$1 status=0; shift
    .venv/bin/python -m pip install --no-deps --disable-pip-version-check --progress-bar off "$@" 2>&1 |
        tee -a "$log" |
        awk -v total="$total" -v tty="$([ -t 1 ] && echo 1 || echo 0)" '
            /^(Collecting|Requirement already satisfied)/ { n++ }
            /^Collecting/ && (tty || n % 40 == 0) {
                printf(tty ? "\r\033[K  %d of %d: %s" : "  %d of %d: %s\n", n, total, $2)
                fflush()
            }
            /^Installing collected/ { printf(tty ? "\r\033[K  unpacking" : "  unpacking\n"); fflush() }
            END { if (tty) printf("\r\033[K") }' || status=$?
    return $status
}

[ -f "$lock" ] || fail "ENGINE is cpu or gpu, not '$engine'"
if [ -x .venv/bin/python ] && [ "$(cat .venv/installed 2>/dev/null)" = "$(digest .venv/bin/python)" ]; then
    exit 0
fi

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null ||
    fail "Python 3.11 is needed and '$python' is not one: install it, or set PYTHON=/path/to/python3.11"
needed_gib=$([ "$engine" = gpu ] && echo 20 || echo 6)
free_gib=$(($(df -Pk . | awk 'NR == 2 { print $4 }') / 1048576))
[ "$free_gib" -ge "$needed_gib" ] ||
    fail "$needed_gib GiB of free disk are needed here, $free_gib GiB are free"

# The two engines overwrite each other's files, so a change of engine starts afresh.
[ "$(cat .venv/engine 2>/dev/null || echo "$engine")" = "$engine" ] || rm -rf .venv
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "creating .venv"
    rm -rf .venv
    "$python" -m venv .venv || { rm -rf .venv; fail "venv failed: apt-get install python3.11-venv"; }
fi
echo "$engine" > .venv/engine
: > "$log"
trap 'code=$?; [ $code -eq 0 ] || { tail -5 "$log" >&2; fail "the installation failed, see $log"; }' EXIT

[ "$engine" = gpu ] || "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null ||
    fail "vLLM on CPU needs libnuma: apt-get install libnuma1"
count=$(grep -c == "$lock")
if [ "$engine" = cpu ]; then
    echo "installing torch $torch for CPU (0.2 GB)"
    pip_install 1 "torch==$torch+cpu" || pip_install 1 --index-url "$cpu_index" "torch==$torch+cpu"
fi
echo "installing $count packages (once per lock; a few minutes)"
pip_install "$count" -r "$lock"
pip_install 1 --no-build-isolation --editable .
digest .venv/bin/python > .venv/installed
echo "installed"
