//! What differs between the documents that are held and those that there are now.

use crate::population::place;
use crate::{Change, Document, DocumentError, DocumentOrigin, ObjectKey};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of an object among all others, borrowed.
type Name<'a> = (&'static str, Option<&'a str>, &'a str);

fn name(origin: &DocumentOrigin) -> Name<'_> {
    (origin.kind, origin.namespace.as_deref(), &origin.name)
}

/// What leads from the documents that are held to these; with an error for each object that these
/// have twice, of which only the first counts.
///
/// A document that says the same in another place is another: rules tell where they stand.
pub(crate) fn differences(
    held: &BTreeMap<ObjectKey, Arc<Document>>,
    documents: &[Arc<Document>],
) -> (Vec<Change>, Vec<DocumentError>) {
    let mut firsts: HashMap<Name<'_>, &Arc<Document>> = HashMap::with_capacity(documents.len());
    let mut errors = Vec::new();
    for document in documents {
        let name = name(&document.origin);
        match firsts.get(&name) {
            Some(first) => errors.push(twice(document, first)),
            None => drop(firsts.insert(name, document)),
        }
    }
    let mut changes = Vec::new();
    for (key, old) in held {
        let name = (key.kind, key.namespace.as_deref(), key.name.as_str());
        match firsts.remove(&name) {
            None => changes.push(Change::Remove(key.clone())),
            Some(new) if Arc::ptr_eq(old, new) || old == new => {}
            Some(new) => changes.push(Change::Put(Arc::clone(new))),
        }
    }
    if !firsts.is_empty() {
        // In the order of the documents: numbers are given in it.
        let is_new = |document: &&Arc<Document>| {
            let first = firsts.get(&name(&document.origin));
            first.is_some_and(|first| Arc::ptr_eq(first, document))
        };
        let new = documents.iter().filter(is_new);
        changes.extend(new.map(|document| Change::Put(Arc::clone(document))));
    }
    (changes, errors)
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
