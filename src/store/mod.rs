//! The only maker of durable bytes: ledger, blobs, index, keys.
