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

    /// How many states of the directory were put into force or refused.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.0["documents"]["revision"].as_u64().unwrap_or_default()
    }

    /// Whether every worker has the published tables and every interface stands.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0["is_ready"] == true
    }

    /// Whether every chunk of packet memory is where it is at rest: free, or in a ring.
    ///
    /// # Panics
    /// When the answer has no census.
    #[must_use]
    pub fn is_memory_at_rest(&self) -> bool {
        let count = |key: &str| self.0["frames"][key].as_u64().expect("a census");
        count("free") + count("in_rings") == count("total")
    }

    /// A counter, summed over all workers.
    ///
    /// # Panics
    /// When the workers have no such counter.
    #[must_use]
    pub fn of_workers(&self, counter: &str) -> u64 {
        let workers = self.0["workers"].as_array().expect("workers");
        let counts = workers.iter().map(|worker| worker[counter].as_u64());
        counts.map(|count| count.expect("a counter")).sum()
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

    /// Packets that the kernel dropped because a ring of ours had no room for them.
    #[must_use]
    pub fn lost_before_the_rings(&self) -> u64 {
        // An empty fill ring is among the causes of `receive_dropped`, and counts for itself again.
        ["receive_ring_full", "receive_dropped"]
            .iter()
            .map(|key| self.0["kernel"][key].as_u64().unwrap_or(0))
            .sum()
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
