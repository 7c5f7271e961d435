//! The sets of names that stored records refer to by a small number.

use super::names::Names;
use portcullis_policy::Generation;
use std::collections::HashMap;
use std::sync::Arc;

/// Each set once, for as long as a record refers to it.
#[derive(Debug, Default)]
pub(crate) struct NamesTable {
    sets: Vec<Option<NamesSet>>,
    free: Vec<u32>,
    places: HashMap<Key, u32>,
    /// The set of the record before: nearly always that of the next one, too.
    last: Option<(Key, u32)>,
}

/// A generation and where its names lie in memory: while they are in the table, nothing else does.
type Key = (Generation, usize);

#[derive(Debug)]
struct NamesSet {
    generation: Generation,
    names: Arc<Names>,
    records: u64,
}

impl NamesTable {
    /// The place of a set to which one more record refers.
    pub(crate) fn hold(&mut self, generation: Generation, names: &Arc<Names>) -> u32 {
        let key = (generation, Arc::as_ptr(names) as usize);
        let known = match self.last {
            Some((last, place)) if last == key => Some(place),
            _ => self.places.get(&key).copied(),
        };
        let place = known.unwrap_or_else(|| self.add(key, names));
        self.last = Some((key, place));
        if let Some(set) = self.set_mut(place) {
            set.records += 1;
        }
        place
    }

    fn add(&mut self, key: Key, names: &Arc<Names>) -> u32 {
        let set = NamesSet {
            generation: key.0,
            names: Arc::clone(names),
            records: 0,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.sets.push(None);
            u32::try_from(self.sets.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.sets.get_mut(place as usize) {
            *slot = Some(set);
        }
        self.places.insert(key, place);
        place
    }

    /// One record less refers to it. Gives the names back when it was the last one.
    pub(crate) fn release(&mut self, place: u32) -> Option<Arc<Names>> {
        let set = self.set_mut(place)?;
        set.records -= 1;
        if set.records > 0 {
            return None;
        }
        let set = self.sets.get_mut(place as usize)?.take()?;
        let key = (set.generation, Arc::as_ptr(&set.names) as usize);
        self.places.remove(&key);
        self.last = self.last.filter(|(last, _)| *last != key);
        self.free.push(place);
        Some(set.names)
    }

    /// The set at a place.
    pub(crate) fn get(&self, place: u32) -> Option<(Generation, &Arc<Names>)> {
        let set = self.sets.get(place as usize)?.as_ref()?;
        Some((set.generation, &set.names))
    }

    /// How many sets there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    fn set_mut(&mut self, place: u32) -> Option<&mut NamesSet> {
        self.sets.get_mut(place as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_goes_with_its_last_record_and_its_place_is_used_again() {
        let mut table = NamesTable::default();
        let (old, new) = (Arc::new(Names::default()), Arc::new(Names::default()));
        let first = table.hold(Generation(1), &old);
        assert_eq!(table.hold(Generation(1), &old), first);
        let second = table.hold(Generation(2), &new);
        assert_ne!(first, second);
        assert!(table.release(first).is_none());
        assert!(
            table
                .release(first)
                .is_some_and(|gone| Arc::ptr_eq(&gone, &old))
        );
        assert!(table.get(first).is_none());
        // Two generations may share names: those of the older one may be gone.
        assert_eq!(table.hold(Generation(3), &new), first);
        assert_eq!(
            table.get(first).map(|(generation, _)| generation),
            Some(Generation(3))
        );
        assert_eq!(table.len(), 2);
        assert_eq!(Arc::strong_count(&old), 1);
    }
}
