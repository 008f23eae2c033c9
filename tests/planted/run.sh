#!/usr/bin/env bash
# Can the tests fail? Plants one defect after the other, as many at once as there are processors, and
# demands that the test named beside it fails, and that it passes without. Bar S-06.
# `tests/planted/run.sh [WORD]` runs those whose line has the word. Exit status 0: all were caught.
# RENKEI_TESTED=1 says that `cargo test` has just passed: then only that the named tests exist is asked.
set -euo pipefail
cd "$(dirname "$0")/../.."
export RUST_BACKTRACE=0

# One line of the list: plants its defect. Prints the verdict.
if [ "${1:-}" = --one ]; then
  binary=$2 defect=${3%%|*} test=${3#*|}
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if RENKEI_PLANTED="$defect" timeout 240 "$binary" --exact "$test" >"$log" 2>&1; then
    result=SURVIVED
  elif grep -q '^test result: FAILED. 0 passed; 1 failed' "$log"; then
    result=caught
  else
    # Hung or died: noticed, but say so.
    result="caught (no verdict)"
  fi
  printf '%-42s %-20s %s\n' "$defect" "$result" "$test"
  exit
fi

binary=$(cargo test --locked --lib --no-run --message-format=json |
  python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line) if line.startswith("{") else {}
    if message.get("executable") and "lib" in message["target"]["kind"]: print(message["executable"])')
[ -x "$binary" ] || { echo "no test binary was built" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
grep -v -e '^#' -e '^$' tests/planted/defects.txt | grep -F -e "${1:-}" >"$scratch/lines" || true
mapfile -t tests < <(cut -d'|' -f2 "$scratch/lines" | sort -u)
all=$(wc -l <"$scratch/lines")
[ "$all" -gt 0 ] || { echo "no planted defect is named so" >&2; exit 1; }

# Without a defect every one of the tests is there and passes.
if [ "${RENKEI_TESTED:-}" = 1 ]; then
  [ "$("$binary" --exact "${tests[@]}" --list | grep -c ': test$')" = "${#tests[@]}" ] ||
    { echo "not all of the ${#tests[@]} named tests exist" >&2; exit 1; }
elif ! RENKEI_PLANTED=none "$binary" --exact "${tests[@]}" >"$scratch/sound" 2>&1 ||
  ! grep -q "^test result: ok. ${#tests[@]} passed" "$scratch/sound"; then
  cat "$scratch/sound"
  echo "not all of the ${#tests[@]} named tests pass without a defect" >&2
  exit 1
fi

tr '\n' '\0' <"$scratch/lines" |
  xargs -0 -n 1 -P "$(nproc)" tests/planted/run.sh --one "$binary" | tee "$scratch/verdicts"
caught=$(grep -c ' caught' "$scratch/verdicts" || true)
echo "$caught of $all planted defects caught"
[ "$caught" = "$all" ]
