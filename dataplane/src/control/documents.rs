//! The documents in force: parsed once per text, replaced as a whole or not at all.

use super::source::{SourceFile, SourceState};
use crate::config::Config;
use crate::status::DocumentsStatus;
use portcullis_policy::{Document, DocumentError, Object, Settings, parse_documents};
use std::sync::Arc;

/// The documents of one state of the source.
#[derive(Debug, Default, Clone)]
pub struct Documents {
    /// Each file as it was read, in the order of the source.
    files: Vec<Arc<FileRead>>,
    /// The settings they were parsed under.
    settings: Option<Settings>,
    /// All documents in the order of their files.
    all: Arc<Vec<Arc<Document>>>,
}

/// Text and meaning of a file.
#[derive(Debug)]
struct FileRead {
    name: String,
    text: String,
    documents: Vec<Arc<Document>>,
}

impl Documents {
    /// Parses a state. Files whose text did not change are not parsed again: their documents are
    /// the very same.
    ///
    /// # Errors
    /// Every fault of every file. `self` is as it was.
    pub fn parse(
        &self,
        state: &SourceState,
        settings: &Settings,
    ) -> Result<Self, Vec<DocumentError>> {
        let mut next = Self {
            settings: Some(settings.clone()),
            ..Self::default()
        };
        let (mut all, mut errors) = (Vec::new(), Vec::new());
        let is_same_reading = self.settings.as_ref() == Some(settings);
        // Both in the order of names, so they are walked side by side.
        let mut known = self.files.iter().peekable();
        for SourceFile { name, text } in &state.files {
            while known.next_if(|file| file.name < *name).is_some() {}
            let is_same = |file: &&Arc<FileRead>| file.name == *name && file.text == *text;
            let file = match known.peek().copied().filter(is_same) {
                Some(file) if is_same_reading => Arc::clone(file),
                _ => match parse_documents(name, text, settings) {
                    Ok(documents) => Arc::new(FileRead {
                        name: name.clone(),
                        text: text.clone(),
                        documents: documents.into_iter().map(Arc::new).collect(),
                    }),
                    Err(faults) => {
                        errors.extend(faults);
                        continue;
                    }
                },
            };
            all.extend(file.documents.iter().cloned());
            next.files.push(file);
        }
        if errors.is_empty() {
            next.all = Arc::new(all);
            Ok(next)
        } else {
            Err(errors)
        }
    }

    /// All documents, in the order of their files.
    #[must_use]
    pub fn all(&self) -> &[Arc<Document>] {
        &self.all
    }

    /// The same, to be kept while others come into force.
    #[must_use]
    pub fn shared(&self) -> Arc<Vec<Arc<Document>>> {
        Arc::clone(&self.all)
    }

    /// How many there are of each sort.
    #[must_use]
    pub fn counts(&self) -> DocumentsStatus {
        let mut counts = DocumentsStatus {
            files: self.files.len(),
            ..DocumentsStatus::default()
        };
        for document in self.all.iter() {
            match document.object {
                Object::Pod(_) => counts.pods += 1,
                Object::Namespace(_) => counts.namespaces += 1,
                _ if document.object.policy().is_some() => counts.policies += 1,
                _ => {}
            }
        }
        counts
    }
}

/// What the settings of the node mean for policy.
#[must_use]
pub fn settings_of(config: &Config) -> Settings {
    Settings {
        enforcement_mode: config.policy_enforcement_mode,
        allow_localhost: config.allow_localhost,
        compat: config.compat,
        is_audited: config.policy_audit_mode,
        ..Settings::default()
    }
}
