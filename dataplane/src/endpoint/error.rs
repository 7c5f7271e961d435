//! Why an endpoint could not be made or removed: the step, what was asked, what was said.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why an endpoint could not be made, removed or listed.
#[derive(Debug)]
pub enum EndpointError {
    /// An argument is wrong.
    Argument {
        /// The argument as the user knows it, `--ip`.
        argument: String,
        /// What would have been right.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A name or address is in use.
    Taken {
        /// What is taken.
        what: String,
        /// The manifest that has it.
        file: PathBuf,
        /// Who has it, or what to do.
        advice: String,
    },
    /// A command failed, or could not be started.
    Step {
        /// What was to be done.
        step: &'static str,
        /// The command line.
        command: String,
        /// What it said on its standard error, or why it did not start.
        said: String,
    },
    /// A file could not be read, written or removed.
    File {
        /// What was to be done.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl EndpointError {
    pub(super) fn argument(argument: &str, expected: &str, found: impl fmt::Display) -> Self {
        let (argument, expected) = (argument.to_owned(), expected.to_owned());
        Self::Argument {
            argument,
            expected,
            found: found.to_string(),
        }
    }

    pub(super) fn taken(what: String, file: &Path, advice: &str) -> Self {
        Self::Taken {
            what,
            file: file.to_owned(),
            advice: advice.to_owned(),
        }
    }

    pub(super) fn file(step: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File {
            step,
            path: path.to_owned(),
            source,
        }
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument {
                argument,
                expected,
                found,
            } => {
                write!(f, "{argument}: expected {expected}, found {found:?}")
            }
            Self::Taken { what, file, advice } => {
                write!(f, "{what} is taken ({}): {advice}", file.display())
            }
            Self::Step {
                step,
                command,
                said,
            } => write!(f, "{step}: `{command}`: {said}"),
            Self::File { step, path, source } => {
                write!(f, "{step}: {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for EndpointError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
