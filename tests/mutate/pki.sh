#!/usr/bin/env bash
# Leaves out one rule of the certificate, list and assertion judgement after the other and shows that
# at least one test of `pki` fails for each. Exit status 1 if a rule is not missed by any.
#
#   tests/mutate/pki.sh              all rules
#   tests/mutate/pki.sh expired      those whose name has this in it
#
# The defect is named to the unit tests by RENKEI_PLANTED, which nothing else reads.
set -euo pipefail
cd "$(dirname "$0")/../.."

only="${1:-}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo test --locked --lib --no-run --message-format=json 2>"$work/build" |
  python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "renkei":
        print(message["executable"])
' | tail -1 >"$work/program" || { cat "$work/build" >&2; exit 2; }
program=$(cat "$work/program")

run() { timeout 120 "$program" --test-threads 2 pki::tests >"$work/out" 2>&1; }

if ! run; then
  tail -20 "$work/out"
  echo "the tests fail with no rule left out" >&2
  exit 2
fi
RENKEI_DEFECTS="$work/defects" "$program" --ignored pki::tests::corpus::the_defects >/dev/null

printf '%-42s %-9s %s\n' "rule left out" verdict "first test that failed"
survivors=0
while read -r defect; do
  case "$defect" in *"$only"*) ;; *) continue ;; esac
  if RENKEI_PLANTED="$defect" run; then
    verdict=SURVIVED survivors=$((survivors + 1)) failed=-
  else
    verdict=missed
    failed=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$work/out" | head -1)
  fi
  printf '%-42s %-9s %s\n' "$defect" "$verdict" "${failed:-(did not end)}"
done <"$work/defects"
echo "$survivors not missed, of $(grep -c "$only" "$work/defects")"
[ "$survivors" = 0 ]
