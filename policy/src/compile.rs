//! Compiles documents into tables: all that there is at one moment, or nothing.

use crate::allocator::LabelSet;
use crate::pod_labels::{labels_of, texts};
use crate::population::{self, exhausted};
use crate::{
    Change, Compiler, Document, DocumentError, Generation, IdentityAllocator, KnownNames,
    NodeFacts, Object, ObjectKey, Settings, Tables,
};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Compiles the documents of one moment, all of them or none. No names are known.
///
/// # Errors
/// Two objects of one kind with the same name, two pods with the same address, and more rules,
/// label sets or address blocks than there are numbers for; each error names the later document
/// and where the earlier one stands. `identities` is then as it was.
pub fn compile(
    documents: &[Document],
    facts: &NodeFacts,
    settings: &Settings,
    identities: &mut IdentityAllocator,
    generation: Generation,
) -> Result<Tables, Vec<DocumentError>> {
    let names = KnownNames::default();
    compile_with_names(documents, facts, &names, settings, identities, generation)
}

/// Compiles the documents of one moment with the names that are known.
///
/// # Errors
/// As `compile`.
pub fn compile_with_names(
    documents: &[Document],
    facts: &NodeFacts,
    names: &KnownNames,
    settings: &Settings,
    identities: &mut IdentityAllocator,
    generation: Generation,
) -> Result<Tables, Vec<DocumentError>> {
    let mut errors = duplicates(documents);
    let mut next = identities.clone();
    let sets = label_sets(documents, settings);
    next.keep_label_sets(&sets)
        .map_err(|full| exhausted(full, "label sets of pods"))?;
    let mut compiler = Compiler::new(settings.clone(), next);
    let changes = documents
        .iter()
        .map(|document| Change::Put(Arc::new(document.clone())))
        .collect();
    match compiler.update(changes, facts, names, generation) {
        Ok(tables) if errors.is_empty() => {
            *identities = compiler.identities().clone();
            Ok(tables)
        }
        Ok(_) => Err(errors),
        Err(more) => {
            errors.extend(more);
            Err(errors)
        }
    }
}

/// The different label sets of the pods.
fn label_sets(documents: &[Document], settings: &Settings) -> BTreeSet<LabelSet> {
    let namespaces: BTreeMap<&str, _> = documents
        .iter()
        .filter_map(|document| match &document.object {
            Object::Namespace(namespace) => Some((namespace.name.as_str(), &namespace.labels)),
            _ => None,
        })
        .collect();
    documents
        .iter()
        .filter_map(|document| match &document.object {
            Object::Pod(pod) if pod.is_endpoint() => Some(pod),
            _ => None,
        })
        .map(|pod| {
            let labels = namespaces.get(pod.namespace.as_str()).copied();
            texts(&labels_of(pod, labels, settings)).into()
        })
        .collect()
}

/// The same object twice.
fn duplicates(documents: &[Document]) -> Vec<DocumentError> {
    let mut first: HashMap<ObjectKey, &Document> = HashMap::new();
    let mut errors = Vec::new();
    for document in documents {
        let origin = &document.origin;
        let key = ObjectKey::from(origin);
        if let Some(other) = first.get(&key) {
            errors.push(DocumentError {
                file: origin.file.clone(),
                document: origin.document,
                field: "metadata.name".to_owned(),
                expected: format!("each object once ({} has it too)", population::place(other)),
                found: origin.to_string(),
            });
        } else {
            first.insert(key, document);
        }
    }
    errors
}
