#!/usr/bin/env bash
# The durability proofs and the properties of the registry at their full counts (tier f of the bars), in
# a release build: hours on two cores. `tests/full-tier.sh soak` runs the counts before a release instead;
# `tests/full-tier.sh full power::` those tests whose name has this in it. Prints one line a bar, then
# the wall time. A failure names its seed: run the same test with RENKEI_SEED=n.
set -uo pipefail
cd "$(dirname "$0")/.."

export RENKEI_TIER="${1:-full}" RUST_BACKTRACE=0
# Without optimising across the parts of the crate: what is proved here are counts, not times.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
only="${2:-}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
began=$SECONDS

run() {
  cargo test --locked --release "$@" -- --nocapture "${only:-$filter}" 2>&1 | tee -a "$log" |
    grep --line-buffered -E '^(bar |!!!|failed|error|RENKEI_SEED|SKIPPED)'
  return "${PIPESTATUS[0]}"
}
filter=store:: run --lib
first=$?
filter=storage:: run --test it
second=$?
filter=documents:: run --lib
third=$?

grep -E '^test .* FAILED|panicked at' "$log"
printf '%s tier in %d s: %s\n' "$RENKEI_TIER" $((SECONDS - began)) \
  "$([ "$first$second$third" = 000 ] && echo passed || echo FAILED)"
[ "$first$second$third" = 000 ]
