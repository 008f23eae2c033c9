//! Disjoint sets of records.

use std::collections::HashMap;

/// Disjoint sets of records.
pub(super) struct Union {
    parent: Vec<u32>,
    members: HashMap<u32, Vec<u32>>,
}

impl Union {
    /// Each alone.
    pub(super) fn new(count: usize) -> Self {
        Self {
            parent: (0..).take(count).collect(),
            members: HashMap::new(),
        }
    }

    /// The record that stands for a set.
    pub(super) fn root(&mut self, mut record: u32) -> u32 {
        while let Some(parent) = self
            .parent
            .get(record as usize)
            .copied()
            .filter(|parent| *parent != record)
        {
            let above = self.parent.get(parent as usize).copied().unwrap_or(parent);
            if let Some(slot) = self.parent.get_mut(record as usize) {
                *slot = above;
            }
            record = above;
        }
        record
    }

    /// Joins two sets.
    pub(super) fn join(&mut self, a: u32, b: u32) {
        self.join_unless(a, b, |_, _| false);
    }

    /// Joins two sets, unless two of their records are refused.
    pub(super) fn join_unless(&mut self, a: u32, b: u32, refused: impl Fn(u32, u32) -> bool) {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        let of = |root: u32| {
            self.members
                .get(&root)
                .cloned()
                .unwrap_or_else(|| vec![root])
        };
        let (mut ours, theirs) = (of(a), of(b));
        if ours.iter().any(|x| theirs.iter().any(|y| refused(*x, *y))) {
            return;
        }
        ours.extend(theirs);
        self.members.remove(&b);
        self.members.insert(a, ours);
        if let Some(parent) = self.parent.get_mut(b as usize) {
            *parent = a;
        }
    }
}
