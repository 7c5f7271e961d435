//! An error in a document: the place, what was expected, what was found.

use std::fmt;

/// One fault in one document.
///
/// Printed as `web.yaml, document 2, spec.ingress[0].ports[1].port: expected a port, 1 to 65535,
/// found "https"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    /// Name of the file or object source, as the user knows it.
    pub file: String,
    /// Number of the document in the file, from 1. Zero when the file as a whole is meant.
    pub document: usize,
    /// Path of the field, `spec.ingress[0].toPorts`; empty when the document as a whole is meant.
    pub field: String,
    /// What would have been right, and advice where there is some.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.document > 0 {
            write!(f, ", document {}", self.document)?;
        }
        if !self.field.is_empty() {
            write!(f, ", {}", self.field)?;
        }
        write!(f, ": expected {}, found {}", self.expected, self.found)
    }
}

impl std::error::Error for DocumentError {}

/// Something that is allowed, but probably not meant.
///
/// Printed as `web.yaml, document 2, spec.ingress: an empty list …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Name of the file or object source, as the user knows it.
    pub file: String,
    /// Number of the document in the file, from 1.
    pub document: usize,
    /// Path of the field.
    pub field: String,
    /// What it means, and what was probably meant.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.file, self.document)?;
        if !self.field.is_empty() {
            write!(f, ", {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}
