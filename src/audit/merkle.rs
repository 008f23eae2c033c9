//! The Merkle tree of RFC 6962 §2.1 (RFC 9162 §2.1): hashing, roots, and both proofs. Pure: hashes
//! come from a [`Hashes`], wherever they are kept.
//!
//! Of a tree, every eighth level is kept, as in C2SP tlog-tiles: level `k` has the roots of complete
//! subtrees of 256^k leaves. What is between is computed when a proof needs it.

use std::ops::Range;

use aws_lc_rs::digest;

use crate::error::{Error, Reason, Result};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Levels of the tree between two that are kept: a tile is 2^8 wide.
pub const TILE_HEIGHT: u32 = 8;
/// Hashes in a whole tile.
pub const TILE_WIDTH: usize = 1 << TILE_HEIGHT;

/// SHA-256 over parts in a row.
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The hash of a leaf: SHA-256(0x00 ‖ data).
pub fn leaf_hash(data: &[&[u8]]) -> Hash {
    let mut parts: Vec<&[u8]> = vec![&[0]];
    parts.extend_from_slice(data);
    sha256(&parts)
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// The root of the empty tree: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// Where the kept hashes of a tree are read.
pub trait Hashes {
    /// `count` hashes of `level` from `start` on: exactly as many.
    ///
    /// # Errors
    /// If they cannot be read.
    fn read(&self, level: u32, start: u64, count: usize) -> Result<Vec<Hash>>;
}

/// The roots of the complete subtrees that a tree of some size is made of, widest first; enough to
/// append to it and to know its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // As many subtrees are completed as the old size has low bits set.
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.roots.pop() else { break };
            hash = node_hash(&left, &hash);
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// The root of the whole.
    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(&last) = roots.next() else {
            return empty_root();
        };
        roots.fold(last, |right, left| node_hash(left, &right))
    }

    /// The frontier of the first `size` leaves of a tree that is kept.
    ///
    /// # Errors
    /// If the hashes cannot be read.
    pub fn of(hashes: &dyn Hashes, size: u64) -> Result<Self> {
        let (mut at, mut roots) = (0, Vec::new());
        for bit in (0..u64::BITS).rev() {
            let width = 1_u64 << bit;
            if size & width != 0 {
                roots.push(complete(hashes, at, bit)?);
                at += width;
            }
        }
        Ok(Self { size, roots })
    }
}

/// The root of the complete subtree of 2^`height` leaves that begins at leaf `start`.
fn complete(hashes: &dyn Hashes, start: u64, height: u32) -> Result<Hash> {
    let (level, above) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
    let at = start >> (level * TILE_HEIGHT);
    let mut row = hashes.read(level, at, 1 << above)?;
    if row.len() != 1 << above {
        return Err(damaged("hashes are missing"));
    }
    while row.len() > 1 {
        row = row
            .chunks_exact(2)
            .filter_map(|pair| Some(node_hash(pair.first()?, pair.get(1)?)))
            .collect();
    }
    row.first().copied().ok_or_else(|| damaged("no hashes"))
}

fn damaged(what: &'static str) -> Error {
    Error::new(Reason::Internal, "the audit tree cannot be read").caused_by(what)
}

/// The largest power of two below `size`, for a size of at least two.
fn split(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

/// MTH(D[start:end]) for a range that begins at a multiple of its width rounded up.
fn range_root(hashes: &dyn Hashes, start: u64, end: u64) -> Result<Hash> {
    let width = end - start;
    if width.is_power_of_two() {
        return complete(hashes, start, width.trailing_zeros());
    }
    let middle = start + split(width);
    let left = range_root(hashes, start, middle)?;
    let right = range_root(hashes, middle, end)?;
    Ok(node_hash(&left, &right))
}

/// The root of the first `size` leaves.
///
/// # Errors
/// If the hashes cannot be read.
pub fn root_of(hashes: &dyn Hashes, size: u64) -> Result<Hash> {
    match size {
        0 => Ok(empty_root()),
        size => range_root(hashes, 0, size),
    }
}

/// PATH(index, D[size]), RFC 6962 §2.1.1: from the leaf's sibling to the root's child.
///
/// # Errors
/// [`Reason::InvalidField`] if the leaf is not in the tree; if the hashes cannot be read.
pub fn inclusion(hashes: &dyn Hashes, index: u64, size: u64) -> Result<Vec<Hash>> {
    if index >= size {
        let message = "is not in a tree of that size";
        return Err(Error::field(Reason::InvalidField, "leaf", message));
    }
    let is_leaf = |part: &Range<u64>| part.end - part.start == 1;
    let (_, mut path) = descend(hashes, size, is_leaf, |middle| index < middle)?;
    path.reverse();
    Ok(path)
}

/// PROOF(from, D[to]), RFC 6962 §2.1.2. Empty if either tree is empty or they are the same.
///
/// # Errors
/// [`Reason::InvalidField`] if `from` is beyond `to`; if the hashes cannot be read.
pub fn consistency(hashes: &dyn Hashes, from: u64, to: u64) -> Result<Vec<Hash>> {
    if from > to {
        let message = "is larger than the later tree";
        return Err(Error::field(Reason::InvalidField, "from_size", message));
    }
    if from == 0 || from == to {
        return Ok(Vec::new());
    }
    let is_end = |part: &Range<u64>| part.end == from;
    let (part, mut path) = descend(hashes, to, is_end, |middle| from <= middle)?;
    // The earlier tree's own last part: known to who asks if it is the whole tree.
    if part.start > 0 {
        path.push(range_root(hashes, part.start, part.end)?);
    }
    path.reverse();
    Ok(path)
}

/// Goes down from the root of the tree of `size` leaves, to the left part where `is_left` of where a
/// part is split, until `is_there`: the part it ends at, and the roots of those passed by.
fn descend(
    hashes: &dyn Hashes,
    size: u64,
    is_there: impl Fn(&Range<u64>) -> bool,
    is_left: impl Fn(u64) -> bool,
) -> Result<(Range<u64>, Vec<Hash>)> {
    let (mut part, mut passed) = (0..size, Vec::new());
    while !is_there(&part) {
        let middle = part.start + split(part.end - part.start);
        if is_left(middle) {
            passed.push(range_root(hashes, middle, part.end)?);
            part.end = middle;
        } else {
            passed.push(range_root(hashes, part.start, middle)?);
            part.start = middle;
        }
    }
    Ok((part, passed))
}

/// Whether `path` shows that `leaf` is leaf number `index` of the tree of `size` leaves with this
/// root (RFC 9162 §2.1.3.2).
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    root_by_inclusion(leaf, index, size, path) == Some(*root)
}

/// The root of the tree of `size` leaves that `path` leads to from leaf number `index`; `None` if
/// the path is not as long as it must be.
pub fn root_by_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

/// Whether `path` shows that the tree of `to` leaves continues the tree of `from` leaves
/// (RFC 9162 §2.1.4.2). Every tree continues the empty one.
pub fn verify_consistency(
    from: u64,
    to: u64,
    from_root: &Hash,
    to_root: &Hash,
    path: &[Hash],
) -> bool {
    if from > to {
        return false;
    }
    if from == to {
        return path.is_empty() && from_root == to_root;
    }
    if from == 0 {
        return path.is_empty() && *from_root == empty_root();
    }
    let mut rest = path.iter();
    let first = match from.is_power_of_two() {
        true => Some(from_root),
        false => rest.next(),
    };
    let Some(&first) = first else { return false };
    let (mut node, mut last) = (from - 1, to - 1);
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let (mut earlier, mut later) = (first, first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            earlier = node_hash(sibling, &earlier);
            later = node_hash(sibling, &later);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            later = node_hash(&later, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && earlier == *from_root && later == *to_root
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    /// A tree in memory, kept as on disk.
    #[derive(Default)]
    struct Kept(Vec<Vec<Hash>>);

    impl Kept {
        fn of(leaves: &[Hash]) -> Self {
            let mut levels = vec![leaves.to_vec()];
            while levels.last().unwrap().len() >= TILE_WIDTH {
                let below = levels.last().unwrap();
                let above = below.chunks_exact(TILE_WIDTH).map(naive).collect();
                levels.push(above);
            }
            Self(levels)
        }
    }

    impl Hashes for Kept {
        fn read(&self, level: u32, start: u64, count: usize) -> Result<Vec<Hash>> {
            let start = usize::try_from(start).unwrap();
            Ok(self.0[level as usize][start..start + count].to_vec())
        }
    }

    /// The definition, word for word.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            many => {
                let mut half = 1;
                while half * 2 < many.len() {
                    half *= 2;
                }
                node_hash(&naive(&many[..half]), &naive(&many[half..]))
            }
        }
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&[&n.to_be_bytes()])).collect()
    }

    /// The vectors of the Certificate Transparency reference implementation.
    #[test]
    fn known_roots() {
        let data: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut frontier = Frontier::default();
        for (data, root) in data.iter().zip(roots) {
            frontier.push(leaf_hash(&[data]));
            assert_eq!(HEXLOWER.encode(&frontier.root()), root);
        }
    }

    #[test]
    fn every_proof_of_small_trees_verifies_and_no_other_place_does() {
        let all = leaves(70);
        for size in 1..=70_u64 {
            let some = &all[..usize::try_from(size).unwrap()];
            let (kept, root) = (Kept::of(some), naive(some));
            assert_eq!(root_of(&kept, size).unwrap(), root);
            assert_eq!(Frontier::of(&kept, size).unwrap().root(), root);
            for index in 0..size {
                let path = inclusion(&kept, index, size).unwrap();
                let leaf = &some[usize::try_from(index).unwrap()];
                for other in 0..=size {
                    let fits = verify_inclusion(leaf, other, size, &path, &root);
                    assert_eq!(fits, other == index, "{index} as {other} of {size}");
                }
            }
            for from in 0..=size {
                let path = consistency(&kept, from, size).unwrap();
                let before = naive(&some[..usize::try_from(from).unwrap()]);
                assert!(verify_consistency(from, size, &before, &root, &path));
                if from != 0 && from != size {
                    assert!(!verify_consistency(from - 1, size, &before, &root, &path));
                    assert!(!verify_consistency(from, size, &root, &root, &path));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Trees over several tiles; one changed octet of a proof is one too many.
        #[test]
        fn proofs_over_tiles(size in 1_u64..70_000, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let all = leaves(size);
            let kept = Kept::of(&all);
            let root = root_of(&kept, size).unwrap();
            let count = usize::try_from(size).unwrap();
            let index = at.index(count);
            let mut path = inclusion(&kept, index as u64, size).unwrap();
            prop_assert!(path.len() * 32 <= 2048);
            prop_assert!(verify_inclusion(&all[index], index as u64, size, &path, &root));
            if let Some(hash) = path.first_mut() {
                hash[31] ^= 1 << bit;
                prop_assert!(!verify_inclusion(&all[index], index as u64, size, &path, &root));
            }
            let from = index as u64 + 1;
            let before = root_of(&kept, from).unwrap();
            let mut path = consistency(&kept, from, size).unwrap();
            prop_assert!(verify_consistency(from, size, &before, &root, &path));
            path.push([bit; 32]);
            prop_assert!(!verify_consistency(from, size, &before, &root, &path));
        }
    }
}
