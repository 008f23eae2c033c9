#!/usr/bin/env bash
# The durability proofs at their full counts (tier f of the bars), in a release build: about an hour
# on two cores. `tests/full-tier.sh soak` runs the counts before a release instead. Prints one line
# a bar, then the wall time. A failure names its seed: run the same test with RENKEI_SEED=n.
set -uo pipefail
cd "$(dirname "$0")/.."

export RENKEI_TIER="${1:-full}" RUST_BACKTRACE=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
began=$SECONDS

cargo test --locked --release --lib -- --nocapture store:: 2>&1 | tee -a "$log" | grep -E '^(bar |!!!|failed|error)'
first=${PIPESTATUS[0]}
cargo test --locked --release --test it -- --nocapture storage:: 2>&1 | tee -a "$log" | grep -E '^(bar |!!!|RENKEI_SEED|error)'
second=${PIPESTATUS[0]}

grep -E '^test .* FAILED|panicked at|^SKIPPED' "$log"
printf '%s tier in %d s: %s\n' "$RENKEI_TIER" $((SECONDS - began)) \
  "$([ "$first" = 0 ] && [ "$second" = 0 ] && echo passed || echo FAILED)"
[ "$first" = 0 ] && [ "$second" = 0 ]
