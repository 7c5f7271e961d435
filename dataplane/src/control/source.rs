//! Where documents come from: files today, Kubernetes and etcd later, all behind one trait.

use std::fmt;

/// One file, or one object of a store, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name, as errors shall call it.
    pub name: String,
    /// Its whole text.
    pub text: String,
}

/// Everything that a source holds at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceState {
    /// The node's settings (`config.yaml`), where there are any.
    pub config: Option<SourceFile>,
    /// All other documents, in the order of their names.
    pub files: Vec<SourceFile>,
}

/// Why a source could not say what it holds. What was read before stays in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// The place: a path, a URL.
    pub place: String,
    /// What went wrong there.
    pub fault: String,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.fault)
    }
}

impl std::error::Error for SourceError {}

/// A source of documents.
pub trait Source: Send {
    /// All documents, at once on the first call, and afterwards whenever they have changed.
    ///
    /// # Errors
    /// When the source cannot be read. The next call waits for a change and tries again.
    fn next(&mut self) -> Result<SourceState, SourceError>;
}
