#!/usr/bin/env bash
# The foreign client test: `tests/foreign/run.sh [--renkei BINARY] [--keep]`. Installs grpcio-tools
# into a virtual environment of its own under target/, then runs run.py. Fails if it cannot.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv="${CARGO_TARGET_DIR:-target}/foreign-venv"
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv" || { echo "python3 -m venv fails (Debian: apt-get install python3-venv)" >&2; exit 1; }
fi
if ! "$venv/bin/python" -c 'import grpc, grpc_tools' 2>/dev/null; then
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/foreign/requirements.txt ||
    { echo "!!! pip cannot install grpcio and grpcio-tools: the foreign client was NOT tested" >&2; exit 1; }
fi
exec "$venv/bin/python" -B tests/foreign/run.py "$@"
