//! The two texts that Prometheus reads: OpenMetrics, and its own older one.

use std::fmt::Write;

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// What prometheus-client writes.
    OpenMetrics,
    /// The older one, which curl and most tools get.
    Plain,
}

impl Format {
    /// What the reader asks for, by its `Accept`: OpenMetrics only where it is named, and not where
    /// the older one is liked better.
    pub fn accepted(accept: Option<&str>) -> Self {
        let liked = |name: &str| {
            let kinds = accept.unwrap_or("").split(',').map(str::trim);
            let weights = kinds.filter(|kind| kind.starts_with(name)).map(weight);
            weights.fold(0.0, f32::max)
        };
        let open = liked("application/openmetrics-text");
        match open > 0.0 && open >= liked("text/plain") {
            true => Self::OpenMetrics,
            false => Self::Plain,
        }
    }

    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// How much a kind is liked, from 0 to 1. [RFC 9110 §12.4.2]
fn weight(kind: &str) -> f32 {
    let parts = kind.split(';').map(str::trim);
    let mut weights = parts.filter_map(|part| part.strip_prefix("q="));
    weights
        .next()
        .map_or(1.0, |weight| weight.parse().unwrap_or(0.0))
}

/// Turns OpenMetrics into the older text: there a counter's family has the name of its samples,
/// and neither units nor an end are told.
pub(super) fn plain(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + open_metrics.len() / 16);
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let words = help.take().map_or("", |(_, words)| words);
            let _ = writeln!(text, "# HELP {name}{suffix} {words}");
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_written_for_those_who_name_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, format) in [
            (None, Format::Plain),
            (Some("*/*"), Format::Plain),
            (Some("text/plain"), Format::Plain),
            (Some(prometheus), Format::OpenMetrics),
            (Some("application/openmetrics-text;q=0"), Format::Plain),
            (Some("application/openmetrics-text; q=0.0"), Format::Plain),
            (
                Some(
                    "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5",
                ),
                Format::Plain,
            ),
            (
                Some("application/openmetrics-text, text/plain"),
                Format::OpenMetrics,
            ),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn the_older_text_names_counters_in_full() {
        let open = "# HELP a_b Words.\n# TYPE a_b counter\na_b_total{x=\"# y\"} 1\n\
                    # HELP c Gauge.\n# TYPE c gauge\n# UNIT c seconds\nc 2.0\n# EOF\n";
        let expected = "# HELP a_b_total Words.\n# TYPE a_b_total counter\na_b_total{x=\"# y\"} 1\n\
                        # HELP c Gauge.\n# TYPE c gauge\nc 2.0\n";
        assert_eq!(plain(open), expected);
    }
}
