//! The reader of XML.

#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| renkei::documents::targets::xml(octets));
