#!/usr/bin/env bash
# Can the tests fail? Plants one defect after the other, and
# demands that the test named beside it fails, and that it passes without. Bar S-06.
# `tests/planted/run.sh [WORD]` runs those whose line has the word. Exit status 0: all were caught.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=$(cargo test --locked --lib --no-run --message-format=json |
  python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line) if line.startswith("{") else {}
    if message.get("executable") and "lib" in message["target"]["kind"]: print(message["executable"])')
[ -x "$binary" ] || { echo "no test binary was built" >&2; exit 1; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
verdict=0 caught=0 all=0
declare -A sound

# Runs the one test; fails unless exactly it ran and passed.
passes() {
  RENKEI_PLANTED="$1" RUST_BACKTRACE=0 timeout 120 "$binary" --exact "$2" >"$log" 2>&1 &&
    grep -q '^test result: ok. 1 passed' "$log"
}

while IFS='|' read -r defect test; do
  case "$defect" in '' | '#'*) continue ;; esac
  case "$defect|$test" in *"${1:-}"*) ;; *) continue ;; esac
  all=$((all + 1))
  if [ -z "${sound[$test]:-}" ]; then
    if passes none "$test"; then sound[$test]=yes; else sound[$test]=no; fi
  fi
  if [ "${sound[$test]}" = no ]; then
    result="FAILS WITHOUT IT" verdict=1
  elif passes "$defect" "$test"; then
    result="SURVIVED" verdict=1
  elif grep -q '^test result: FAILED. 0 passed; 1 failed' "$log"; then
    result=caught caught=$((caught + 1))
  else
    # Hung or died: noticed, but say so.
    result="caught (no verdict)" caught=$((caught + 1))
  fi
  printf '%-42s %-20s %s\n' "$defect" "$result" "$test"
done <tests/planted/defects.txt

echo "$caught of $all planted defects caught"
[ "$all" -gt 0 ] || verdict=1
exit "$verdict"
