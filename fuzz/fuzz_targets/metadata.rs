//! The metadata rules, on whatever a protobuf message can hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| renkei::documents::targets::metadata(octets));
