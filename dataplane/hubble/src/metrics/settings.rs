//! `metrics:` of config.yaml.

use super::context::Context;
use super::metric::Metric;
use crate::expression::read_expressions;
use portcullis_observe::{FlowChoice, FlowFilter, Home};
use serde::Deserialize;
use std::net::SocketAddr;

/// What is counted, and where it is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct MetricsSettings {
    /// Where `/metrics` is served, beside the address of the page.
    pub listen: Option<SocketAddr>,
    /// Hubble's metrics, each with its options: `flow:sourceContext=pod;destinationContext=pod|ip`,
    /// or in the form of Cilium's dynamic-metrics.yaml, which has filters, too.
    #[serde(deserialize_with = "enabled")]
    pub enabled: Vec<Enabled>,
    /// Series of all these metrics together; each has an equal share.
    pub series_max: usize,
}

/// The series that a node may have before they are folded: with those of the daemon itself they are
/// below 5000.
const SERIES_MAX: usize = 4000;

/// What is counted unless the settings say otherwise: what Hubble's own dashboards ask for, by
/// workload, which do not grow with each new pod.
const ENABLED: [&str; 9] = [
    "flow:sourceContext=workload-name|reserved-identity;destinationContext=workload-name|reserved-identity;labelsContext=source_namespace,destination_namespace,traffic_direction",
    "drop:sourceContext=workload-name|reserved-identity;destinationContext=workload-name|reserved-identity;labelsContext=source_namespace,destination_namespace,traffic_direction",
    "policy:sourceContext=workload-name|reserved-identity;destinationContext=workload-name|reserved-identity;labelsContext=source_namespace,destination_namespace",
    "tcp:sourceContext=workload-name|reserved-identity;destinationContext=workload-name|reserved-identity;labelsContext=source_namespace,destination_namespace",
    "icmp:sourceContext=workload-name|reserved-identity;destinationContext=workload-name|reserved-identity;labelsContext=source_namespace,destination_namespace",
    "port-distribution:labelsContext=source_namespace,destination_namespace",
    "handshake:sourceContext=workload-name|reserved-identity;destinationContext=workload-name|reserved-identity;labelsContext=source_namespace,destination_namespace",
    "dns",
    "http",
];

impl Default for MetricsSettings {
    fn default() -> Self {
        let enabled = ENABLED.into_iter().map(Enabled::parse);
        Self {
            listen: None,
            enabled: enabled.collect::<Result<_, _>>().expect("ours are right"),
            series_max: SERIES_MAX,
        }
    }
}

impl MetricsSettings {
    /// What does not make sense: the field, what is expected of it, and what was found.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str, String)> {
        if !(100..=1_000_000).contains(&self.series_max) {
            let found = self.series_max.to_string();
            return Some(("metrics.seriesMax", "100 to 1000000", found));
        }
        // Anybody may ask there: strangers belong at the page's address, which knows TLS and tokens.
        let listen = self.listen.filter(|listen| !listen.ip().is_loopback())?;
        let expected = "a loopback address; others find /metrics at http.listen";
        Some(("metrics.listen", expected, listen.to_string()))
    }
}

/// One metric with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enabled {
    pub(super) metric: Metric,
    pub(super) context: Context,
    /// Flows that count; all of them when there is no filter.
    pub(super) include: Vec<FlowFilter>,
    /// Flows that do not.
    pub(super) exclude: Vec<FlowFilter>,
}

/// An entry of `metrics` in Cilium's dynamic-metrics.yaml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DynamicMetric {
    name: String,
    #[serde(default)]
    context_options: Vec<ContextOption>,
    #[serde(default)]
    include_filters: Vec<FlowFilter>,
    #[serde(default)]
    exclude_filters: Vec<FlowFilter>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextOption {
    name: String,
    #[serde(default)]
    values: Vec<String>,
}

impl Enabled {
    /// Reads one of the two forms.
    fn read(from: serde_json::Value) -> Result<Self, String> {
        if let serde_json::Value::String(text) = &from {
            return Self::parse(text);
        }
        let DynamicMetric {
            name,
            context_options,
            include_filters,
            exclude_filters,
        } = serde_json::from_value(from).map_err(|e| e.to_string())?;
        let mut enabled = Self {
            metric: Metric::of_key(&name)?,
            context: Context::default(),
            include: include_filters,
            exclude: exclude_filters,
        };
        for option in context_options {
            let separator = if option.name == "labelsContext" {
                ","
            } else {
                "|"
            };
            enabled.take(&option.name, &option.values.join(separator))?;
        }
        let nowhere = Home {
            node: String::new(),
            cluster: String::new(),
        };
        enabled.choice(&nowhere)?;
        Ok(enabled)
    }

    /// The flows that count.
    pub(super) fn choice(&self, home: &Home) -> Result<FlowChoice, String> {
        FlowChoice::compile(&self.include, &self.exclude, home, read_expressions).map_err(|fault| {
            let fault = fault.replacen("whitelist[", "includeFilters[", 1);
            let fault = fault.replacen("blacklist[", "excludeFilters[", 1);
            format!("{}:{fault}", self.metric.key())
        })
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        let key = self.metric.key();
        let of_context = |fault| format!("{key}:{name}: {fault}");
        let is_taken =
            self.metric.take_option(name) || self.context.take(name, value).map_err(of_context)?;
        if is_taken {
            return Ok(());
        }
        Err(format!(
            "expected an option of {key} such as sourceContext or labelsContext, found \"{name}\""
        ))
    }

    /// Reads `NAME:OPTION=VALUE;OPTION`, Hubble's form.
    ///
    /// # Errors
    /// Unknown metrics, options and values.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let mut enabled = Self {
            metric: Metric::of_key(name.trim())?,
            context: Context::default(),
            include: Vec::new(),
            exclude: Vec::new(),
        };
        for option in options.split(';').map(str::trim) {
            if !option.is_empty() {
                let (name, value) = option.split_once('=').unwrap_or((option, ""));
                enabled.take(name, value)?;
            }
        }
        Ok(enabled)
    }
}

fn enabled<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Enabled>, D::Error> {
    let entries = Vec::<serde_json::Value>::deserialize(from)?;
    let mut all: Vec<Enabled> = Vec::new();
    for entry in entries {
        let enabled = Enabled::read(entry).map_err(serde::de::Error::custom)?;
        if all
            .iter()
            .any(|other| other.metric.key() == enabled.metric.key())
        {
            let key = enabled.metric.key();
            return Err(serde::de::Error::custom(format!(
                "expected each metric once, found \"{key}\" again"
            )));
        }
        all.push(enabled);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_read_in_hubbles_form() {
        let text = r#"{"listen": "127.0.0.1:9965", "seriesMax": 200,
            "enabled": ["flow:sourceContext=pod|ip;labelsContext=traffic_direction,source_ip", "dns:query;ignoreAAAA"]}"#;
        let settings: MetricsSettings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.listen, "127.0.0.1:9965".parse().ok());
        assert_eq!(settings.series_max, 200);
        let labels: Vec<_> = settings.enabled[0].context.label_names().collect();
        assert_eq!(labels, ["source_ip", "traffic_direction", "source"]);
        assert_eq!(settings.enabled[1].metric, Metric::Dns);
        assert_eq!(settings.fault(), None);
        for (text, field) in [
            (r#"{"seriesMax": 5}"#, "metrics.seriesMax"),
            (r#"{"listen": "0.0.0.0:9965"}"#, "metrics.listen"),
        ] {
            let settings: MetricsSettings = serde_json::from_str(text).unwrap();
            assert_eq!(settings.fault().map(|fault| fault.0), Some(field));
        }
    }

    #[test]
    fn wrong_settings_say_what_is_expected() {
        for (text, expected) in [
            (
                "flows",
                "expected one of flow, drop, tcp, icmp, port-distribution, policy, flows-to-world, handshake, dns, http, found \"flows\", which is not a name of a metric",
            ),
            (
                "httpV2:exemplars=true",
                "expected one of flow, drop, tcp, icmp, port-distribution, policy, flows-to-world, handshake, dns, http, found \"httpV2\", which is reserved until a proxy reads HTTP",
            ),
            (
                "port-distribution:port",
                "expected an option of port-distribution",
            ),
            (
                "flow:sourceContext=pood",
                "flow:sourceContext: expected one of identity, namespace,",
            ),
            (
                "flow:labelsContext=pod",
                "flow:labelsContext: expected one of source_ip,",
            ),
            ("flow:query", "expected an option of flow"),
        ] {
            let fault = Enabled::parse(text).unwrap_err();
            assert!(fault.starts_with(expected), "{text}: {fault}");
        }
        let twice = r#"{"enabled": ["flow", "flow:sourceContext=ip"]}"#;
        let fault = serde_json::from_str::<MetricsSettings>(twice).unwrap_err();
        assert!(
            fault.to_string().starts_with("expected each metric once"),
            "{fault}"
        );
    }
}
