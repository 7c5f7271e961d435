//! The documents in force: parsed once per text, replaced as a whole or not at all.

use super::source::{SourceFile, SourceState};
use crate::config::Config;
use crate::status::DocumentsStatus;
use portcullis_policy::{Document, DocumentError, Object, Settings, parse_documents};
use std::collections::HashMap;
use std::sync::Arc;

/// The documents of one state of the source.
#[derive(Debug, Default, Clone)]
pub struct Documents {
    /// Each file as it was read, by its name.
    files: HashMap<Arc<str>, Arc<FileRead>>,
    /// The settings they were parsed under.
    settings: Option<Settings>,
    /// All documents in the order of their files.
    all: Arc<Vec<Arc<Document>>>,
}

/// Text and meaning of a file.
#[derive(Debug)]
struct FileRead {
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
        for SourceFile { name, text } in &state.files {
            let known = self
                .files
                .get_key_value(name.as_str())
                .filter(|(_, file)| is_same_reading && file.text == *text);
            let (name, file) = match known {
                Some((name, file)) => (Arc::clone(name), Arc::clone(file)),
                None => match parse_documents(name, text, settings) {
                    Ok(documents) => {
                        let documents = documents.into_iter().map(Arc::new).collect();
                        let text = text.clone();
                        (name.as_str().into(), Arc::new(FileRead { text, documents }))
                    }
                    Err(faults) => {
                        errors.extend(faults);
                        continue;
                    }
                },
            };
            all.extend(file.documents.iter().cloned());
            next.files.insert(name, file);
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
