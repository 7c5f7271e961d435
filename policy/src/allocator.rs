//! Gives numbers to label sets and to address blocks.

use crate::{Cidr, Identity};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Labels as text, sorted. Shared: a copy of all of them is cheap.
pub(crate) type LabelSet = Arc<[String]>;

/// Why a number could not be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NumbersExhausted;

/// Gives numbers to label sets and to address blocks, the same for the same history.
///
/// A label set keeps its number while any pod has it. A number that is free again waits until
/// all numbers that were free longer have been given: flows and logs that still speak of it are
/// then long gone.
#[derive(Debug, Clone, Default)]
pub struct IdentityAllocator {
    label_sets: Pool<LabelSet>,
    blocks: Pool<Cidr>,
    nodes: Pool<LabelSet>,
}

impl IdentityAllocator {
    /// Nothing given yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number a set of sorted labels has now.
    #[must_use]
    pub fn of_labels(&self, labels: &[String]) -> Option<Identity> {
        self.label_sets
            .given
            .get(labels)
            .map(|number| label_set_identity(*number))
    }

    /// The number an address block has now.
    #[must_use]
    pub fn of_block(&self, cidr: Cidr) -> Option<Identity> {
        self.blocks
            .given
            .get(&cidr)
            .map(|number| block_identity(*number))
    }

    /// The number a set of sorted labels of a node has now.
    pub(crate) fn of_node(&self, labels: &[String]) -> Option<Identity> {
        let number = self.nodes.given.get(labels)?;
        Some(Identity(Identity::REMOTE_NODE_LOCAL | (number + 1)))
    }

    /// Gives each of these label sets of nodes a number, and takes back those of all others.
    pub(crate) fn keep_nodes(&mut self, sets: &BTreeSet<LabelSet>) -> Result<(), NumbersExhausted> {
        self.nodes.keep(sets, NODES_MAX)
    }

    /// Gives a label set a number, or tells the one that it has.
    pub(crate) fn give_label_set(
        &mut self,
        labels: &[String],
    ) -> Result<Identity, NumbersExhausted> {
        let number = self.label_sets.give(labels, LABEL_SETS_MAX)?;
        Ok(label_set_identity(number))
    }

    /// Takes back the number of a label set.
    pub(crate) fn take_back_label_set(&mut self, labels: &[String]) {
        self.label_sets.take_back(labels);
    }

    /// Gives each of these label sets a number, and takes back those of all others.
    pub(crate) fn keep_label_sets(
        &mut self,
        sets: &BTreeSet<LabelSet>,
    ) -> Result<(), NumbersExhausted> {
        self.label_sets.keep(sets, LABEL_SETS_MAX)
    }

    /// Gives each of these blocks a number, and takes back those of all others.
    pub(crate) fn keep_blocks(&mut self, blocks: &BTreeSet<Cidr>) -> Result<(), NumbersExhausted> {
        self.blocks.keep(blocks, BLOCKS_MAX)
    }
}

/// Address blocks that can have a number at one time. Bounds the tables that are indexed by it.
const BLOCKS_MAX: u32 = 1 << 18;
/// Label sets of pods: the numbers that Cilium gives to a cluster.
const LABEL_SETS_MAX: u32 = Identity::CLUSTER_MAX.0 - Identity::CLUSTER_MIN.0 + 1;
/// Label sets of nodes.
const NODES_MAX: u32 = 1 << 16;

fn label_set_identity(number: u32) -> Identity {
    Identity(Identity::CLUSTER_MIN.0 + number)
}

fn block_identity(number: u32) -> Identity {
    // Zero is left out: the first block is `0x01000001`, as tools expect.
    Identity(Identity::LOCAL_CIDR | (number + 1))
}

/// Numbers from zero, given to keys.
#[derive(Debug, Clone)]
struct Pool<Key> {
    given: BTreeMap<Key, u32>,
    /// Numbers below this one have been given at some time.
    fresh: u32,
    /// Numbers that were given and taken back, longest free first.
    free: VecDeque<u32>,
}

impl<Key> Default for Pool<Key> {
    fn default() -> Self {
        Self {
            given: BTreeMap::new(),
            fresh: 0,
            free: VecDeque::new(),
        }
    }
}

impl<Key: Ord + Clone> Pool<Key> {
    /// Afterwards exactly `keys` have numbers; those that had one keep it.
    ///
    /// Fails when `keys` are more than `size`, and then leaves everything as it was.
    fn keep(&mut self, keys: &BTreeSet<Key>, size: u32) -> Result<(), NumbersExhausted> {
        if u32::try_from(keys.len()).map_or(true, |count| count > size) {
            return Err(NumbersExhausted);
        }
        let free = &mut self.free;
        self.given.retain(|key, number| {
            let is_kept = keys.contains(key);
            if !is_kept {
                free.push_back(*number);
            }
            is_kept
        });
        for key in keys {
            if self.given.contains_key(key) {
                continue;
            }
            let number = self.next(size)?;
            self.given.insert(key.clone(), number);
        }
        Ok(())
    }

    /// A number that nobody has: a fresh one, or the one that is free longest.
    fn next(&mut self, size: u32) -> Result<u32, NumbersExhausted> {
        if self.fresh < size {
            self.fresh += 1;
            return Ok(self.fresh - 1);
        }
        self.free.pop_front().ok_or(NumbersExhausted)
    }
}

impl Pool<LabelSet> {
    fn give(&mut self, key: &[String], size: u32) -> Result<u32, NumbersExhausted> {
        if let Some(number) = self.given.get(key) {
            return Ok(*number);
        }
        let number = self.next(size)?;
        self.given.insert(key.into(), number);
        Ok(number)
    }

    fn take_back(&mut self, key: &[String]) {
        self.free.extend(self.given.remove(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(keys: &[&'static str]) -> BTreeSet<&'static str> {
        keys.iter().copied().collect()
    }

    #[test]
    fn a_key_keeps_its_number_while_it_is_used() {
        let mut pool = Pool::default();
        pool.keep(&set(&["a", "b"]), 10).expect("room");
        let number = pool.given["b"];
        pool.keep(&set(&["b", "c"]), 10).expect("room");
        assert_eq!(pool.given["b"], number);
    }

    #[test]
    fn a_number_is_not_given_again_at_once() {
        let mut pool = Pool::default();
        pool.keep(&set(&["a"]), 3).expect("room");
        pool.keep(&set(&["b"]), 3).expect("room");
        pool.keep(&set(&["c"]), 3).expect("room");
        assert_eq!(pool.given, BTreeMap::from([("c", 2)]));
        pool.keep(&set(&["d"]), 3).expect("room");
        assert_eq!(
            pool.given,
            BTreeMap::from([("d", 0)]),
            "the longest free number comes first"
        );
    }

    #[test]
    fn more_keys_than_numbers_are_refused_and_nothing_changes() {
        let mut pool = Pool::default();
        pool.keep(&set(&["a"]), 2).expect("room");
        assert_eq!(pool.keep(&set(&["a", "b", "c"]), 2), Err(NumbersExhausted));
        assert_eq!(pool.given, BTreeMap::from([("a", 0)]));
    }

    #[test]
    fn the_same_history_gives_the_same_numbers() {
        let run = || {
            let mut pool = Pool::default();
            for keys in [
                set(&["a", "b"]),
                set(&["b"]),
                set(&["a", "b", "c"]),
                set(&["c", "d"]),
            ] {
                pool.keep(&keys, 4).expect("room");
            }
            pool.given
        };
        assert_eq!(run(), run());
    }
}
