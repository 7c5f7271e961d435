//! Compiles documents into tables: all that there is at one moment, or nothing.

use crate::allocator::LabelSet;
use crate::differences::differences;
use crate::pod_labels::{labels_of, texts};
use crate::population::exhausted;
use crate::{
    Compiler, Document, DocumentError, Generation, IdentityAllocator, KnownNames, NodeFacts,
    Object, Settings, Tables,
};
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
    let documents: Vec<_> = documents.iter().cloned().map(Arc::new).collect();
    let mut compiler = Compiler::new(settings.clone(), identities.clone());
    let tables = compiler.replace(&documents, facts, names, settings, generation)?;
    *identities = compiler.identities().clone();
    Ok(tables)
}

impl Compiler {
    /// Makes these documents all that there is, or changes nothing. Works out again only what
    /// differs from what it holds; with other settings everything.
    ///
    /// # Errors
    /// As `compile`; everything is then as it was before.
    pub fn replace(
        &mut self,
        documents: &[Arc<Document>],
        facts: &NodeFacts,
        names: &KnownNames,
        settings: &Settings,
        generation: Generation,
    ) -> Result<Tables, Vec<DocumentError>> {
        if *settings != self.settings {
            let mut fresh = Self::new(settings.clone(), self.identities.clone());
            let tables = fresh.replace(documents, facts, names, settings, generation)?;
            *self = fresh;
            return Ok(tables);
        }
        let (changes, errors) = differences(&self.documents, documents);
        if !self.documents.is_empty() {
            return self.update_unless(errors, changes, facts, names, generation);
        }
        // Numbers by the order of labels, not of files; and none for labels of another life.
        let before = self.identities.clone();
        let kept = self
            .identities
            .keep_label_sets(&label_sets(documents, settings))
            .map_err(|full| exhausted(full, "label sets of pods"));
        let tables =
            kept.and_then(|()| self.update_unless(errors, changes, facts, names, generation));
        if tables.is_err() {
            self.identities = before;
        }
        tables
    }
}

/// The different label sets of the pods.
fn label_sets(documents: &[Arc<Document>], settings: &Settings) -> BTreeSet<LabelSet> {
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
