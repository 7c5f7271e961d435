//! Whom each description of peers means: one set of slots for each different description.

use crate::bits::Bits;
use crate::population::Population;
use crate::{Peers, Settings};
use hashbrown::HashMap;
use std::sync::Arc;

/// Looks at one member by one peer; when a set needs more, it is worked out anew.
const LOOKS_MAX: usize = if cfg!(test) { 20 } else { 100_000 };

/// The sets in use, shared by all rules that say the same.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    numbers: HashMap<Arc<Peers>, u32>,
    entries: Vec<Option<Set>>,
    free: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) peers: Arc<Peers>,
    pub(crate) members: Bits,
    /// Whether someone came or went since the last compile.
    pub(crate) is_changed: bool,
    uses: u32,
}

impl Sets {
    /// The number of the set of these peers, which is worked out if nobody used it so far.
    pub(crate) fn take(
        &mut self,
        peers: Peers,
        population: &Population,
        settings: &Settings,
    ) -> u32 {
        if let Some(number) = self.numbers.get(&peers) {
            let entry = self.entries[*number as usize].as_mut();
            entry.expect("a numbered set is there").uses += 1;
            return *number;
        }
        let members = population.meant_by(&peers, settings);
        let peers = Arc::new(peers);
        let set = Some(Set {
            peers: Arc::clone(&peers),
            members,
            is_changed: false,
            uses: 1,
        });
        let number = if let Some(number) = self.free.pop() {
            self.entries[number as usize] = set;
            number
        } else {
            self.entries.push(set);
            u32::try_from(self.entries.len() - 1).expect("rules are bounded far below")
        };
        self.numbers.insert(peers, number);
        number
    }

    /// One use of the set has ended.
    pub(crate) fn give_back(&mut self, number: u32) {
        let entry = &mut self.entries[number as usize];
        let set = entry.as_mut().expect("a set in use is there");
        set.uses -= 1;
        if set.uses == 0 {
            self.numbers.remove(&*set.peers);
            *entry = None;
            self.free.push(number);
        }
    }

    /// Looks again at the members that came, went or changed.
    pub(crate) fn look_again(
        &mut self,
        touched: &[u32],
        population: &Population,
        settings: &Settings,
    ) {
        for set in self.entries.iter_mut().flatten() {
            let is_long = touched.len() * set.peers.count() > LOOKS_MAX;
            let anew = is_long.then(|| population.meant_by(&set.peers, settings));
            for slot in touched {
                let is_meant = match &anew {
                    Some(anew) => anew.has(*slot),
                    None => population
                        .member(*slot)
                        .is_some_and(|member| set.peers.mean(member, &settings.cluster_name)),
                };
                // Another member in the same slot is a change, too.
                set.is_changed |= is_meant || set.members.has(*slot);
                set.members.put(*slot, is_meant);
            }
        }
    }

    /// The tables are made: from now on changes count anew.
    pub(crate) fn settle(&mut self) {
        self.entries
            .iter_mut()
            .flatten()
            .for_each(|set| set.is_changed = false);
    }

    pub(crate) fn get(&self, number: u32) -> &Set {
        self.entries[number as usize]
            .as_ref()
            .expect("a set in use is there")
    }
}
