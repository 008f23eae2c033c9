//! The ebXML form: submissions, removals, stored queries.

#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| renkei::documents::targets::ebxml(octets));
