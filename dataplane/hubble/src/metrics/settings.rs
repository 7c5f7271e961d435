//! `metrics:` of config.yaml.

use super::context::Context;
use super::metric::Metric;
use serde::Deserialize;
use std::net::SocketAddr;

/// What is counted, and where it is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct MetricsSettings {
    /// Where `/metrics` is served, beside the address of the page.
    pub listen: Option<SocketAddr>,
    /// Hubble's metrics, each with its options: `flow:sourceContext=pod;destinationContext=pod|ip`.
    #[serde(deserialize_with = "enabled")]
    pub enabled: Vec<Enabled>,
    /// Series of all these metrics together; each has an equal share.
    pub series_max: usize,
}

/// The series that a node may have before they are folded.
const SERIES_MAX: usize = 5000;

/// What is counted unless the settings say otherwise: what Hubble's own dashboards show, by
/// workload, which do not grow with each new pod.
const ENABLED: [&str; 8] = [
    "flow:sourceContext=workload-name|reserved-identity;destinationContext=workload-name|reserved-identity;labelsContext=source_namespace,destination_namespace,traffic_direction",
    "drop:sourceContext=workload-name|reserved-identity;destinationContext=workload-name|reserved-identity;labelsContext=source_namespace,destination_namespace,traffic_direction",
    "policy:sourceContext=workload-name|reserved-identity;destinationContext=workload-name|reserved-identity;labelsContext=source_namespace,destination_namespace",
    "tcp:labelsContext=source_namespace,destination_namespace",
    "icmp:labelsContext=source_namespace,destination_namespace",
    "port-distribution:labelsContext=source_namespace,destination_namespace",
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
}

impl Enabled {
    /// Reads `NAME:OPTION=VALUE;OPTION`, Hubble's form.
    ///
    /// # Errors
    /// Unknown metrics, options and values.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let mut metric = Metric::of_key(name.trim())?;
        let mut context = Context::default();
        for option in options.split(';').map(str::trim) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let is_taken = option.is_empty()
                || metric.take_option(name)
                || context
                    .take(name, value)
                    .map_err(|fault| format!("{}:{name}: {fault}", metric.key()))?;
            if !is_taken {
                return Err(format!(
                    "expected an option of {} such as sourceContext or labelsContext, found \"{name}\"",
                    metric.key()
                ));
            }
        }
        Ok(Self { metric, context })
    }
}

fn enabled<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Enabled>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let mut all: Vec<Enabled> = Vec::new();
    for text in &texts {
        let enabled = Enabled::parse(text).map_err(serde::de::Error::custom)?;
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
                "expected one of flow, drop, tcp, icmp, port-distribution, policy, flows-to-world, dns, http, found \"flows\", which is not a name of a metric",
            ),
            (
                "httpV2:exemplars=true",
                "expected one of flow, drop, tcp, icmp, port-distribution, policy, flows-to-world, dns, http, found \"httpV2\", which is reserved until a proxy reads HTTP",
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
