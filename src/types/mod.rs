//! The vocabulary: identifiers and codes, parsed once; no I/O.
