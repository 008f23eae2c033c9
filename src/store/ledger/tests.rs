//! The bytes of the ledger. Bars: O-03 (the format is pinned), D-09.
#![allow(clippy::unwrap_used, reason = "tests panic on failure")]

use super::*;
use data_encoding::HEXLOWER;

fn frame_header() -> FrameHeader {
    FrameHeader {
        length: 16,
        sequence: Sequence(0x0102),
        write_first: Sequence(0x0101),
        kind: FrameKind::Audit,
        utc_nanoseconds: -5,
        monotonic_nanoseconds: 9,
        previous_hash: [0xAB; 32],
    }
}

#[test]
fn a_frame_header_is_these_bytes_for_ever() {
    let mut bytes = Vec::new();
    frame_header().encode_into(&mut bytes);
    assert_eq!(bytes.len(), FRAME_HEADER_BYTES);
    let fields = "524b463100000010000000000000010200000000000001010200000\
                  0fffffffffffffffb0000000000000009";
    assert!(
        HEXLOWER.encode(&bytes).starts_with(fields),
        "{}",
        HEXLOWER.encode(&bytes)
    );
    assert_eq!(FrameHeader::decode(&bytes), Some(frame_header()));
}

#[test]
fn no_changed_bit_of_a_header_is_accepted() {
    let segment = SegmentHeader {
        epoch: 3,
        number: 4,
        first_sequence: Sequence(5),
        id: [6; 16],
        store_id: [7; 16],
        previous_hash: [8; 32],
        created_nanoseconds: 9,
    };
    let bytes = segment.encode();
    assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES);
    assert_eq!(SegmentHeader::decode(&bytes, "s").unwrap(), segment);
    let mut frame = Vec::new();
    frame_header().encode_into(&mut frame);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(
            SegmentHeader::decode(&changed, "s").is_err(),
            "segment bit {bit}"
        );
        if let Some(byte) = frame.get(bit / 8).copied() {
            let mut changed = frame.clone();
            changed[bit / 8] = byte ^ (1 << (bit % 8));
            assert_eq!(FrameHeader::decode(&changed), None, "frame bit {bit}");
        }
    }
    for length in 0..frame.len() {
        assert_eq!(FrameHeader::decode(&frame[..length]), None);
    }
}
