//! What FHIR Bundles and CDA headers say, against the metadata.

#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| renkei::documents::targets::content(octets));
