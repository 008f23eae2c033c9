//! Other communities: fan-out, deadlines, merging, partial results, outbox.
