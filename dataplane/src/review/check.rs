//! Checks documents as the daemon would, and finds all faults at once.

use crate::config::Config;
use crate::control::Documents;
use crate::control::settings_of;
use crate::control::source::SourceState;
use portcullis_policy::{
    Document, DocumentError, Generation, IdentityAllocator, NodeFacts, Settings, Tables, Warning,
    compile, lint,
};
use serde::Serialize;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Check {
    /// Files that were read.
    pub files: usize,
    /// Documents that are right by themselves, `file, document 1: Kind namespace/name`.
    pub documents: Vec<String>,
    /// How many of them are policies.
    pub policies: usize,
    /// What is wrong.
    pub errors: Vec<Fault>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Advice>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Name of the file.
    pub file: String,
    /// Number of the document in the file, from 1; zero when the file as a whole is meant.
    pub document: usize,
    /// Path of the field.
    pub field: String,
    /// What would have been right.
    pub expected: String,
    /// What stands there.
    pub found: String,
    /// All of it in one line.
    pub text: String,
}

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// Name of the file.
    pub file: String,
    /// Number of the document in the file, from 1.
    pub document: usize,
    /// Path of the field.
    pub field: String,
    /// What it means, and what was probably meant.
    pub message: String,
}

impl From<&DocumentError> for Fault {
    fn from(error: &DocumentError) -> Self {
        Self {
            file: error.file.clone(),
            document: error.document,
            field: error.field.clone(),
            expected: error.expected.clone(),
            found: error.found.clone(),
            text: error.to_string(),
        }
    }
}

impl From<&Warning> for Advice {
    fn from(warning: &Warning) -> Self {
        Self {
            file: warning.file.clone(),
            document: warning.document,
            field: warning.field.clone(),
            message: warning.message.clone(),
        }
    }
}

/// Checks everything that a source holds. `settings` are used where it has no `config.yaml`.
#[must_use]
pub fn check(state: &SourceState, settings: Settings) -> Check {
    let mut check = Check {
        files: state.files.len() + usize::from(state.config.is_some()),
        ..Check::default()
    };
    let config = match &state.config {
        Some(file) => Config::parse(&file.name, &file.text).map(Some),
        None => Ok(None),
    };
    let settings = match config {
        Ok(Some(config)) => settings_of(&config),
        Ok(None) => settings,
        Err(errors) => {
            check.errors.extend(errors.iter().map(Fault::from));
            settings
        }
    };
    // File by file, so that what is right is told beside what is wrong.
    let mut all: Vec<Document> = Vec::new();
    for file in &state.files {
        let alone = SourceState {
            config: None,
            files: vec![file.clone()],
        };
        match Documents::default().parse(&alone, &settings) {
            Ok(documents) => all.extend(documents.all().iter().map(|one| (**one).clone())),
            Err(errors) => check.errors.extend(errors.iter().map(Fault::from)),
        }
    }
    check.look_at_all(&all, &settings);
    check
}

impl Check {
    /// What only all documents together can show.
    fn look_at_all(&mut self, documents: &[Document], settings: &Settings) {
        for document in documents {
            let origin = &document.origin;
            self.documents.push(format!(
                "{}, document {}: {origin}",
                origin.file, origin.document
            ));
            self.policies += usize::from(document.object.policy().is_some());
        }
        self.warnings = lint(documents).map(Advice::from).collect();
        let mut identities = IdentityAllocator::new();
        let compiled = compile(
            documents,
            &NodeFacts::default(),
            settings,
            &mut identities,
            Generation(1),
        );
        match compiled {
            Ok(tables) => self.look_at_world(&tables, documents),
            Err(errors) => self.errors.extend(errors.iter().map(Fault::from)),
        }
    }

    /// What rules mean for each other, and for the pods, where there are any.
    fn look_at_world(&mut self, tables: &Tables, documents: &[Document]) {
        if tables.pod_count() == 0 {
            return;
        }
        self.warnings
            .extend(tables.lint(documents).iter().map(Advice::from));
        for (one, other) in tables.conflicts() {
            let whom = if one == other {
                "itself".to_owned()
            } else {
                one.to_string()
            };
            self.warnings.push(Advice {
                file: other.document.file.clone(),
                document: other.document.document,
                field: format!("{}[{}]", other.section, other.index),
                message: format!("conflicts with {whom}: what both match is denied"),
            });
        }
    }
}
