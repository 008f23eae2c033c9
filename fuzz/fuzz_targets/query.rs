//! Stored queries as protobuf messages, checked into plans.

#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| renkei::documents::targets::query(octets));
