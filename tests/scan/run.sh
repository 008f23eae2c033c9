#!/usr/bin/env bash
# Scanners against a running node: `tests/scan/run.sh [--renkei BINARY] [--keep]` (bar T-36).
#
# testssl.sh, sslscan and nmap are Debian packages, installed if this runs as root and they are
# missing; sslyze comes from PyPI into a virtual environment under target/. What cannot be installed
# is skipped loudly; exit status 3 if fewer than two ran, which shows nothing. Fails on any finding of
# medium severity or worse that accepted.json does not name with its reason. Loopback only.
set -euo pipefail
cd "$(dirname "$0")/../.."

loud() { printf '\n!!! %s\n\n' "$*" >&2; }

for package in testssl.sh:testssl sslscan:sslscan nmap:nmap openssl:openssl; do
  if ! command -v "${package#*:}" >/dev/null; then
    { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null &&
      { [ -n "${APT_UPDATED:-}" ] || apt-get update -qq >/dev/null 2>&1 || true; } && APT_UPDATED=1 &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${package%:*}" >/dev/null 2>&1; } ||
      loud "${package%:*} is missing and cannot be installed (Debian: apt-get install ${package%:*})"
  fi
done

venv="${CARGO_TARGET_DIR:-target}/scan-venv"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv" || loud "python3 -m venv fails: sslyze is SKIPPED"
if [ -x "$venv/bin/python" ] && ! "$venv/bin/python" -c 'import sslyze' 2>/dev/null; then
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/scan/requirements.txt ||
    loud "pip cannot install sslyze: SKIPPED"
fi
exec python3 -B tests/scan/run.py --sslyze "$venv/bin/python" "$@"
