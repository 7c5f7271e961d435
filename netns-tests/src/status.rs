//! What `portcullis status -o json` says, as far as tests ask.

use serde_json::Value;

/// One answer of `portcullis status -o json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Status(Value);

impl Status {
    /// Reads the answer.
    ///
    /// # Errors
    /// When it is no JSON object with a generation.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| format!("{e} in {text:?}"))?;
        match value["generation"].as_u64() {
            Some(_) => Ok(Self(value)),
            None => Err(format!("expected a generation, found {text:?}")),
        }
    }

    /// The generation that was published last.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0["generation"].as_u64().unwrap_or_default()
    }

    /// The generation that every worker has adopted.
    #[must_use]
    pub fn generation_of_slowest(&self) -> u64 {
        let workers = self.0["workers"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        workers
            .iter()
            .map(|worker| worker["generation"].as_u64().unwrap_or(0))
            .min()
            .unwrap_or(0)
    }

    /// Whether every worker has the published tables, there are some, and every interface stands.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let endpoints = self.0["endpoints"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        self.generation() > 0
            && self.generation_of_slowest() >= self.generation()
            && endpoints
                .iter()
                .all(|endpoint| endpoint["state"] == "ready")
    }

    /// What is wrong with the documents in the state directory.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let errors = self.0["errors"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        errors
            .iter()
            .map(|e| e.as_str().map_or_else(|| e.to_string(), str::to_owned))
            .collect()
    }

    /// Packets that were dropped for this reason, by its key.
    #[must_use]
    pub fn dropped(&self, reason: &str) -> u64 {
        self.0["drops"][reason].as_u64().unwrap_or(0)
    }

    /// Packets that were dropped, for whatever reason.
    #[must_use]
    pub fn dropped_in_all(&self) -> u64 {
        let drops = self.0["drops"].as_object();
        drops.map_or(0, |drops| drops.values().filter_map(Value::as_u64).sum())
    }

    /// The whole answer.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.0
    }
}
