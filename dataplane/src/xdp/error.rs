//! What can go wrong with the kernel program.

use std::error::Error;
use std::fmt;

/// Why the kernel program could not be loaded, attached or told something. Control path only.
#[derive(Debug)]
pub struct XdpError {
    place: String,
    reason: String,
}

impl XdpError {
    /// An error at `place`: an interface, a path, a map.
    pub(super) fn new(place: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self {
            place: place.to_string(),
            reason: reason.into(),
        }
    }

    /// An error at `place`, with all of its causes.
    pub(super) fn caused(place: impl fmt::Display, error: &dyn Error) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their cause in their own text.
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            cause = error.source();
        }
        Self::new(place, reason)
    }
}

impl fmt::Display for XdpError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, self.reason)
    }
}

impl Error for XdpError {}
