//! `export:` of config.yaml.

use crate::expression::read_expressions;
use crate::mask::Mask;
use jiff::Timestamp;
use portcullis_observe::{FlowChoice, FlowFilter, Home};
use prost_types::FieldMask;
use serde::Deserialize;
use std::path::PathBuf;

/// What is written, and where.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ExportSettings {
    /// The file. Neither a file nor `stdout`: nothing is written.
    pub path: Option<PathBuf>,
    /// Whether lines go to standard output.
    pub stdout: bool,
    /// Flows after this are not written.
    pub end: Option<Timestamp>,
    /// Fields of a flow that are written, `source.pod_name`; all unless given.
    pub field_mask: Vec<String>,
    /// Flows that are wanted, as Hubble's filters; all unless given.
    pub allow: Vec<FlowFilter>,
    /// Flows that are not.
    pub deny: Vec<FlowFilter>,
    /// Fields by which flows are put together: one line for all that agree in them.
    pub aggregate: Vec<String>,
    /// Seconds that flows are put together for.
    pub aggregation_interval: u64,
    /// Megabytes of a file before the next is begun.
    pub max_megabytes: u64,
    /// Full files that are kept.
    pub max_backups: u32,
    /// Whether those are compressed (zstd).
    pub compress: bool,
}

impl Default for ExportSettings {
    fn default() -> Self {
        Self {
            path: None,
            stdout: false,
            end: None,
            field_mask: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            aggregate: Vec::new(),
            aggregation_interval: 10,
            max_megabytes: 10,
            max_backups: 5,
            compress: false,
        }
    }
}

impl ExportSettings {
    /// Whether all of it can be done.
    ///
    /// # Errors
    /// The first field that cannot: `export.FIELD: expected …, found …`.
    pub fn check(&self) -> Result<(), String> {
        if let Some((field, expected, found)) = self.fault() {
            return Err(format!("{field}: expected {expected}, found {found}"));
        }
        let home = Home {
            node: String::new(),
            cluster: String::new(),
        };
        self.choice(&home)?;
        mask("fieldMask", &self.field_mask)?;
        mask("aggregate", &self.aggregate)?;
        Ok(())
    }

    /// The flows that are wanted.
    pub(super) fn choice(&self, home: &Home) -> Result<FlowChoice, String> {
        FlowChoice::compile(&self.allow, &self.deny, home, read_expressions).map_err(|fault| {
            let fault = fault.replacen("whitelist[", "allow[", 1);
            format!("export.{}", fault.replacen("blacklist[", "deny[", 1))
        })
    }

    /// What does not make sense: the field, what is expected of it, and what was found.
    fn fault(&self) -> Option<(&'static str, &'static str, String)> {
        let number = |field, expected, is_right: bool, found: u64| {
            (!is_right).then(|| (field, expected, found.to_string()))
        };
        let both = || {
            let is_both = self.stdout && self.path.is_some();
            let expected = "either export.path or export.stdout";
            is_both.then(|| ("export.stdout", expected, "both".to_owned()))
        };
        let interval = self.aggregation_interval;
        let (megabytes, backups) = (self.max_megabytes, self.max_backups);
        both()
            .or_else(|| {
                let is_right = (1..=3600).contains(&interval);
                number(
                    "export.aggregationInterval",
                    "1 to 3600",
                    is_right,
                    interval,
                )
            })
            .or_else(|| {
                let is_right = (1..=10_240).contains(&megabytes);
                number("export.maxMegabytes", "1 to 10240", is_right, megabytes)
            })
            .or_else(|| {
                let is_right = backups <= 1000;
                number("export.maxBackups", "0 to 1000", is_right, backups.into())
            })
    }
}

/// The fields that a list names.
pub(super) fn mask(field: &str, paths: &[String]) -> Result<Mask, String> {
    let mask = FieldMask {
        paths: paths.to_vec(),
    };
    Mask::parse(Some(&mask))
        .map_err(|fault| format!("export.{}", fault.replacen("field_mask", field, 1)))
}
