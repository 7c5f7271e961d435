//! The sets of names that stored records refer to by a small number.

use super::names::Names;
use super::reduction::Reduction;
use portcullis_policy::Generation;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Each set once, for as long as a record refers to it.
#[derive(Debug, Default)]
pub(crate) struct NamesTable {
    sets: Vec<Option<NamesSet>>,
    free: Vec<u32>,
    places: HashMap<Key, u32>,
    /// The set of the record before: nearly always that of the next one, too.
    last: Option<(Key, u32)>,
    /// Sets as control made them, the oldest first; those that are gone are passed over.
    whole: VecDeque<(Key, u32)>,
    whole_count: usize,
}

/// A generation and where its names lie in memory: while they are in the table, nothing else does.
type Key = (Generation, usize);

#[derive(Debug)]
struct NamesSet {
    generation: Generation,
    names: Arc<Names>,
    records: u64,
    /// Numbers of the first and the last record that ever referred to it.
    span: (u64, u64),
    is_whole: bool,
}

impl NamesSet {
    fn key(&self) -> Key {
        (self.generation, Arc::as_ptr(&self.names) as usize)
    }
}

impl NamesTable {
    /// The place of a set to which one more record refers, the one with this number.
    pub(crate) fn hold(&mut self, generation: Generation, names: &Arc<Names>, number: u64) -> u32 {
        let key = (generation, Arc::as_ptr(names) as usize);
        let known = match self.last {
            Some((last, place)) if last == key => Some(place),
            _ => self.places.get(&key).copied(),
        };
        let place = known.unwrap_or_else(|| self.add(key, names, number));
        self.last = Some((key, place));
        if let Some(set) = self.set_mut(place) {
            set.records += 1;
            set.span.1 = number;
        }
        place
    }

    fn add(&mut self, key: Key, names: &Arc<Names>, number: u64) -> u32 {
        let set = NamesSet {
            generation: key.0,
            names: Arc::clone(names),
            records: 0,
            span: (number, number),
            is_whole: names.extract.is_none(),
        };
        let is_whole = set.is_whole;
        let place = self.free.pop().unwrap_or_else(|| {
            self.sets.push(None);
            u32::try_from(self.sets.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.sets.get_mut(place as usize) {
            *slot = Some(set);
        }
        self.places.insert(key, place);
        if is_whole {
            self.whole.push_back((key, place));
            self.whole_count += 1;
            if self.whole.len() > 2 * self.whole_count {
                let places = &self.places;
                self.whole
                    .retain(|(key, place)| places.get(key) == Some(place));
            }
        }
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
        self.forget(&set);
        self.free.push(place);
        Some(set.names)
    }

    /// A set is gone, or is about to be another.
    fn forget(&mut self, set: &NamesSet) {
        let key = set.key();
        self.places.remove(&key);
        self.last = self.last.filter(|(last, _)| *last != key);
        self.whole_count -= usize::from(set.is_whole);
    }

    /// The oldest whole set, when there are more than `max` of them: it should become an extract.
    pub(crate) fn begin_reduction(&mut self, max: usize) -> Option<Reduction> {
        if self.whole_count <= max {
            return None;
        }
        while let Some((key, place)) = self.whole.pop_front() {
            if self.places.get(&key) == Some(&place)
                && let Some(set) = self.set_mut(place)
                && set.is_whole
            {
                let names = Arc::clone(&set.names);
                return Some(Reduction::new(place, set.generation, names, set.span.0));
            }
        }
        None
    }

    /// Whether a reduction has seen all records of its set, or the set is gone.
    pub(crate) fn is_reduced(&mut self, reduction: &Reduction) -> bool {
        let key = (reduction.generation, Arc::as_ptr(&reduction.names) as usize);
        let is_there = self.places.get(&key) == Some(&reduction.place);
        let set = self.set_mut(reduction.place).filter(|_| is_there);
        set.is_none_or(|set| set.span.1 < reduction.next)
    }

    /// Puts the extract in the place of the whole set, which it gives back.
    pub(crate) fn reduce(&mut self, reduction: Reduction) -> Arc<Names> {
        let (place, whole) = (reduction.place, Arc::clone(&reduction.names));
        let key = (reduction.generation, Arc::as_ptr(&whole) as usize);
        if self.places.get(&key) != Some(&place) {
            return whole;
        }
        let set = self.sets.get_mut(place as usize).and_then(Option::take);
        let Some(mut set) = set else { return whole };
        self.forget(&set);
        set.names = Arc::new(reduction.finish());
        set.is_whole = false;
        self.places.insert(set.key(), place);
        self.sets[place as usize] = Some(set);
        whole
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
        let first = table.hold(Generation(1), &old, 0);
        assert_eq!(table.hold(Generation(1), &old, 1), first);
        let second = table.hold(Generation(2), &new, 2);
        assert_ne!(first, second);
        assert!(table.release(first).is_none());
        assert!(
            table
                .release(first)
                .is_some_and(|gone| Arc::ptr_eq(&gone, &old))
        );
        assert!(table.get(first).is_none());
        // Two generations may share names: those of the older one may be gone.
        assert_eq!(table.hold(Generation(3), &new, 3), first);
        assert_eq!(
            table.get(first).map(|(generation, _)| generation),
            Some(Generation(3))
        );
        assert_eq!(table.len(), 2);
        assert_eq!(Arc::strong_count(&old), 1);
    }
}
