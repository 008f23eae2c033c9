//! The map of patients: for every patient tag, how many events the log has about it, where the last
//! one is, and a chain over all of them. Its root is in every checkpoint, so that a report can be
//! shown to be complete, and a tag to have no events at all.
//!
//! A binary tree over the bits of the tag, most significant first, in which a subtree of one tag is
//! that tag's leaf. An empty subtree hashes to 32 zeros, a leaf to SHA-256(0x10 ‖ tag ‖ count ‖
//! last index ‖ chain), a node to SHA-256(0x11 ‖ left ‖ right); numbers are eight octets,
//! big-endian.

use crate::error::{Error, Result};

use super::merkle::{Hash, sha256};

/// A patient's tag.
pub type PatientTag = [u8; 16];

/// The hash of a subtree without tags.
pub const EMPTY: Hash = [0; 32];

/// What the map says of one tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The tag.
    pub tag: PatientTag,
    /// Events about the patient.
    pub count: u64,
    /// The leaf of the log that has the last one.
    pub last: u64,
    /// The chain over all of them: see [`chained`].
    pub chain: Hash,
    /// Where the last event stands in the links file: not part of the proof.
    pub link: u64,
}

impl Head {
    /// A patient without events.
    pub fn none(tag: PatientTag) -> Self {
        Self {
            tag,
            count: 0,
            last: 0,
            chain: EMPTY,
            link: 0,
        }
    }

    /// The leaf as it is hashed, without its prefix: tag, count, last index, chain; 64 octets.
    pub fn encode(&self) -> Vec<u8> {
        let mut leaf = self.tag.to_vec();
        leaf.extend_from_slice(&self.count.to_be_bytes());
        leaf.extend_from_slice(&self.last.to_be_bytes());
        leaf.extend_from_slice(&self.chain);
        leaf
    }

    /// The leaf from the octets that are hashed.
    pub fn decode(leaf: &[u8]) -> Option<Self> {
        let (tag, rest) = leaf.split_first_chunk::<16>()?;
        let (count, rest) = rest.split_first_chunk::<8>()?;
        let (last, chain) = rest.split_first_chunk::<8>()?;
        Some(Self {
            tag: *tag,
            count: u64::from_be_bytes(*count),
            last: u64::from_be_bytes(*last),
            chain: chain.try_into().ok()?,
            link: 0,
        })
    }

    fn hash(&self) -> Hash {
        sha256(&[&[0x10], &self.encode()])
    }
}

/// The chain with one more event: SHA-256(0x12 ‖ chain before ‖ leaf index ‖ place in the leaf ‖
/// commitment). It begins with 32 zeros. The place is four octets.
pub fn chained(chain: &Hash, index: u64, place: u32, commitment: &Hash) -> Hash {
    let (index, place) = (index.to_be_bytes(), place.to_be_bytes());
    sha256(&[&[0x12], chain, &index, &place, commitment])
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[0x11], left, right])
}

/// Bit `depth` of a tag, from the most significant on.
fn bit(tag: &PatientTag, depth: usize) -> bool {
    tag.get(depth / 8)
        .is_some_and(|byte| (byte >> (7 - depth % 8)) & 1 == 1)
}

/// A subtree. Numbers are places in the arena of nodes or of leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Child {
    #[default]
    Empty,
    Leaf(u32),
    Branch(u32),
}

#[derive(Clone, Debug)]
struct Branch {
    children: [Child; 2],
    hash: Hash,
    /// A leaf below has changed since the hash was computed.
    stale: bool,
}

/// A proof about one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapProof {
    /// What stands where the tag belongs: its own leaf, another tag's, or nothing.
    pub found: Option<Head>,
    /// The sibling hashes, from the bottom to the root.
    pub path: Vec<Hash>,
}

/// The map, in memory: about 190 bytes a patient.
#[derive(Clone, Debug, Default)]
pub struct PatientMap {
    root: Child,
    heads: Vec<Head>,
    branches: Vec<Branch>,
}

impl PatientMap {
    /// A map of these heads.
    ///
    /// # Errors
    /// If there are more than 2^32 tags.
    pub fn of(heads: impl IntoIterator<Item = Head>) -> Result<Self> {
        let mut map = Self::default();
        for head in heads {
            map.put(head)?;
        }
        Ok(map)
    }

    /// The number of tags.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether no patient has events.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Every tag with events, in no order.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    fn descend(&self, tag: &PatientTag) -> (Child, Vec<(u32, usize)>) {
        let (mut at, mut path) = (self.root, Vec::with_capacity(32));
        while let Child::Branch(number) = at {
            let side = usize::from(bit(tag, path.len()));
            path.push((number, side));
            at = self.child(number, side);
        }
        (at, path)
    }

    fn child(&self, branch: u32, side: usize) -> Child {
        let children = self.branches.get(branch as usize).map(|one| one.children);
        children
            .and_then(|children| children.get(side).copied())
            .unwrap_or_default()
    }

    fn head(&self, number: u32) -> Option<&Head> {
        self.heads.get(number as usize)
    }

    /// What is known of a tag.
    pub fn get(&self, tag: &PatientTag) -> Option<&Head> {
        match self.descend(tag).0 {
            Child::Leaf(number) => self.head(number).filter(|head| head.tag == *tag),
            Child::Empty | Child::Branch(_) => None,
        }
    }

    /// Puts what is known of a tag, in place of what was.
    ///
    /// # Errors
    /// If there are 2^32 tags already.
    pub fn put(&mut self, head: Head) -> Result<()> {
        let (end, path) = self.descend(&head.tag);
        for (number, _) in &path {
            if let Some(branch) = self.branches.get_mut(*number as usize) {
                branch.stale = true;
            }
        }
        if let Child::Leaf(number) = end
            && let Some(known) = self.heads.get_mut(number as usize)
            && known.tag == head.tag
        {
            *known = head;
            return Ok(());
        }
        let number = u32::try_from(self.heads.len()).map_err(Error::internal)?;
        let mut subtree = Child::Leaf(number);
        if let Child::Leaf(other) = end {
            let other_tag = self.head(other).map(|head| head.tag).unwrap_or_default();
            subtree = self.fork(path.len(), (number, &head.tag), (other, &other_tag))?;
        }
        self.heads.push(head);
        match path.last() {
            None => self.root = subtree,
            Some((branch, side)) => {
                if let Some(branch) = self.branches.get_mut(*branch as usize)
                    && let Some(child) = branch.children.get_mut(*side)
                {
                    *child = subtree;
                }
            }
        }
        Ok(())
    }

    /// Branches from `depth` on down to where two tags differ.
    fn fork(
        &mut self,
        depth: usize,
        (new, tag): (u32, &PatientTag),
        (old, other): (u32, &PatientTag),
    ) -> Result<Child> {
        let differ = (depth..128).find(|depth| bit(tag, *depth) != bit(other, *depth));
        let differ = differ.ok_or_else(|| Error::internal("two patients have one tag"))?;
        let mut below = Child::Empty;
        for depth in (depth..=differ).rev() {
            let mut children = [Child::Empty; 2];
            let side = usize::from(bit(tag, depth));
            if let Some(child) = children.get_mut(side) {
                *child = if depth == differ {
                    Child::Leaf(new)
                } else {
                    below
                };
            }
            if depth == differ
                && let Some(child) = children.get_mut(1 - side)
            {
                *child = Child::Leaf(old);
            }
            let number = u32::try_from(self.branches.len()).map_err(Error::internal)?;
            self.branches.push(Branch {
                children,
                hash: EMPTY,
                stale: true,
            });
            below = Child::Branch(number);
        }
        Ok(below)
    }

    /// The root; computes what has changed since the last time.
    pub fn root(&mut self) -> Hash {
        self.hash(self.root)
    }

    /// The depth of recursion is that of the tree: 128 at most.
    fn hash(&mut self, child: Child) -> Hash {
        match child {
            Child::Empty => EMPTY,
            Child::Leaf(number) => self.head(number).map_or(EMPTY, Head::hash),
            Child::Branch(number) => {
                let Some(branch) = self.branches.get(number as usize) else {
                    return EMPTY;
                };
                if !branch.stale {
                    return branch.hash;
                }
                let [left, right] = branch.children;
                let hash = node_hash(&self.hash(left), &self.hash(right));
                if let Some(branch) = self.branches.get_mut(number as usize) {
                    (branch.hash, branch.stale) = (hash, false);
                }
                hash
            }
        }
    }

    /// Shows what the map says of a tag, under the root as it is now.
    pub fn prove(&mut self, tag: &PatientTag) -> MapProof {
        let (end, steps) = self.descend(tag);
        let mut path = Vec::with_capacity(steps.len());
        for (branch, side) in steps.into_iter().rev() {
            path.push(self.hash(self.child(branch, 1 - side)));
        }
        let found = match end {
            Child::Leaf(number) => self.head(number).copied(),
            Child::Empty | Child::Branch(_) => None,
        };
        MapProof { found, path }
    }
}

/// What a proof shows about `tag` under `root`: how many events there are and which; of a tag that
/// is not in the map, none. `None` if it shows nothing.
pub fn verify(proof: &MapProof, tag: &PatientTag, root: &Hash) -> Option<Head> {
    let depth = proof.path.len();
    if depth > 128 {
        return None;
    }
    let mut hash = proof.found.map_or(EMPTY, |head| head.hash());
    for (up, sibling) in proof.path.iter().enumerate() {
        hash = match bit(tag, depth - 1 - up) {
            false => node_hash(&hash, sibling),
            true => node_hash(sibling, &hash),
        };
    }
    if hash != *root {
        return None;
    }
    match proof.found {
        Some(head) if head.tag == *tag => Some(head),
        // Another tag's leaf stands here: it must belong here, down to this depth.
        Some(other) if (0..depth).all(|at| bit(&other.tag, at) == bit(tag, at)) => {
            Some(Head::none(*tag))
        }
        Some(_) => None,
        None => Some(Head::none(*tag)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(tag: PatientTag, count: u64) -> Head {
        Head {
            count,
            last: count * 10,
            chain: [u8::try_from(count % 251).unwrap(); 32],
            ..Head::none(tag)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The root depends on the content alone, every tag is proved, and so is every absence;
        /// nothing else is.
        #[test]
        fn content_decides_the_root_and_everything_is_proved(
            tags in prop::collection::btree_set(any::<[u8; 2]>(), 0..60),
            absent in any::<[u8; 2]>(),
            again in any::<bool>(),
        ) {
            // Tags that share long prefixes, in their first or their last octets.
            let wide = |short: &[u8; 2]| {
                let mut tag = [0xA5; 16];
                tag[0] = short[0] & 3;
                tag[15] = short[1];
                tag[7] = short[0] >> 2;
                tag
            };
            let heads: Vec<Head> = tags.iter().zip(1..).map(|(t, n)| head(wide(t), n)).collect();
            let mut map = PatientMap::of(heads.iter().copied()).unwrap();
            let mut other = PatientMap::default();
            for one in heads.iter().rev() {
                if again {
                    other.put(head(one.tag, 99)).unwrap();
                    other.root();
                }
                other.put(*one).unwrap();
            }
            let root = map.root();
            prop_assert_eq!(root, other.root());
            for one in &heads {
                let proof = map.prove(&one.tag);
                prop_assert_eq!(verify(&proof, &one.tag, &root), Some(*one));
                let mut less = proof.clone();
                less.found = Some(Head { count: one.count - 1, ..*one });
                prop_assert_eq!(verify(&less, &one.tag, &root), None);
                let mut hidden = proof;
                hidden.found = None;
                prop_assert_eq!(verify(&hidden, &one.tag, &root), None);
            }
            if !tags.contains(&absent) {
                let tag = wide(&absent);
                let proof = map.prove(&tag);
                prop_assert_eq!(verify(&proof, &tag, &root), Some(Head::none(tag)));
                // The absence of one tag says nothing of a tag that is there.
                for one in &heads {
                    prop_assert!(verify(&proof, &one.tag, &root).is_none_or(|seen| seen == *one));
                }
            }
        }
    }

    #[test]
    fn the_empty_map_and_leaves() {
        let mut map = PatientMap::default();
        assert_eq!(map.root(), EMPTY);
        assert_eq!(
            verify(&map.prove(&[1; 16]), &[1; 16], &EMPTY),
            Some(Head::none([1; 16]))
        );
        let one = head([9; 16], 5);
        assert_eq!(Head::decode(&one.encode()), Some(one));
        assert_eq!(Head::decode(&one.encode()[1..]), None);
    }
}
