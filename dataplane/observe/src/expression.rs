//! Expressions of filters. What reads them knows Hubble's messages, which nothing here does.

use super::flow_filter::Home;
use super::sighting::Sighting;
use serde_json::Value;
use std::fmt::Debug;

/// Expressions that were understood: one of them must hold.
pub trait Expression: Debug + Send + Sync {
    /// Whether one does.
    fn holds(&self, origin: &Origin<'_>) -> bool;
}

/// Reads the expressions of a filter of this node.
///
/// Its errors begin with the place in the list: `[2]: …`.
pub type Language = fn(&[String], &Home) -> Result<Box<dyn Expression>, String>;

/// What a flow was read from.
#[derive(Debug)]
pub enum Origin<'a> {
    /// An event of this node.
    Event(&'a Sighting<'a>),
    /// An object in Hubble's form.
    Json(&'a Value),
}
