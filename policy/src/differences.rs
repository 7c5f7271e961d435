//! What differs between the documents that are held and those that there are now.

use crate::population::place;
use crate::{Change, Document, DocumentError, ObjectKey};
use hashbrown::{HashMap, HashSet};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What leads from the documents that are held to these; with an error for each object that these
/// have twice.
///
/// A document that says the same in another place is another: rules tell where they stand. What
/// is the very same is told by its address and not looked at: names are compared only of the rest.
pub(crate) fn differences(
    held: &BTreeMap<ObjectKey, Arc<Document>>,
    documents: &[Arc<Document>],
) -> (Vec<Change>, Vec<DocumentError>) {
    let places = held.iter().map(|(key, old)| (Arc::as_ptr(old), key));
    let mut gone: HashMap<*const Document, &ObjectKey> = places.collect();
    let others: Vec<_> = documents
        .iter()
        .filter(|document| gone.remove(&Arc::as_ptr(document)).is_none())
        .collect();
    let mut gone: BTreeSet<&ObjectKey> = gone.into_values().collect();
    let mut seen = HashSet::new();
    let (mut puts, mut is_once) = (Vec::new(), true);
    for document in others {
        let key = ObjectKey::from(&document.origin);
        let is_new = match held.get(&key) {
            None => true,
            Some(old) if gone.remove(&key) => old != document,
            Some(_) => {
                // The held one is still there, or was met above.
                is_once = false;
                continue;
            }
        };
        is_once &= seen.insert(key);
        if is_new {
            puts.push(Change::Put(Arc::clone(document)));
        }
    }
    let errors = if is_once {
        Vec::new()
    } else {
        duplicates(documents)
    };
    let removed = gone.into_iter().cloned().map(Change::Remove);
    (removed.chain(puts).collect(), errors)
}

/// An error for each object that is there already.
fn duplicates(documents: &[Arc<Document>]) -> Vec<DocumentError> {
    let mut firsts: HashMap<ObjectKey, &Document> = HashMap::new();
    let mut errors = Vec::new();
    for document in documents {
        let key = ObjectKey::from(&document.origin);
        match firsts.get(&key) {
            Some(first) => errors.push(twice(document, first)),
            None => drop(firsts.insert(key, document)),
        }
    }
    errors
}

/// The same object twice.
fn twice(document: &Document, first: &Document) -> DocumentError {
    DocumentError {
        file: document.origin.file.clone(),
        document: document.origin.document,
        field: "metadata.name".to_owned(),
        expected: format!("each object once ({} has it too)", place(first)),
        found: document.origin.to_string(),
    }
}
