//! The findings for programs: one JSON object.

use crate::figure::Figure;
use crate::path::Path;
use crate::run::Findings;
use serde_json::{Map, Value, json};

/// The object: every median with its samples, the ratios, the machine, what is wrong.
#[must_use]
pub fn json(findings: &Findings) -> Value {
    let samples = &findings.samples;
    let mut figures = Map::new();
    let mut ratios = Map::new();
    for figure in Figure::ALL {
        let paths = Path::ALL.into_iter().filter_map(|path| {
            let median = samples.median(figure, path)?;
            let value = json!({"median": median, "samples": samples.of(figure, path)});
            Some((path.key().to_owned(), value))
        });
        figures.insert(
            figure.key().into(),
            Value::Object(paths.collect::<Map<_, _>>()),
        );
        let Some(key) = figure.ratio_key() else {
            continue;
        };
        for (base, suffix) in [(Path::Kernel, ""), (Path::KernelLarge, "_large_mtu")] {
            if let Some(ratio) = samples.ratio(figure, Path::Portcullis, base) {
                ratios.insert(format!("{key}{suffix}"), json!(ratio));
            }
        }
    }
    let faults = findings.faults();
    json!({
        "ratios": ratios,
        "figures": figures,
        "daemon": daemon(findings),
        "correctness": {
            "is_correct": faults.is_empty(),
            "faults": faults,
            "checksum_errors": findings.checksum_errors,
            "datagrams": findings.balances.iter()
                .map(|(measure, balance)| (format!("{measure:?}"), balance.json()))
                .collect::<Map<_, _>>(),
        },
        "machine": findings.machine.json(),
        "rounds": findings.rounds,
        "rounds_planned": findings.plan.rounds,
        "xdp_mode": findings.plan.xdp_mode,
        "policies_unrelated": crate::path::UNRELATED_POLICIES,
        "seconds": findings.seconds,
    })
}

fn daemon(findings: &Findings) -> Value {
    let rest: Vec<Value> = findings
        .rest
        .iter()
        .map(|rest| {
            json!({
                "pods": rest.pods,
                "rss_kb": rest.memory.rss_kb,
                "rss_shared_kb": rest.memory.shared_kb,
                "rss_anonymous_kb": rest.memory.anonymous_kb,
                "rss_file_kb": rest.memory.file_kb,
                "idle_percent_of_core": rest.idle_percent,
            })
        })
        .collect();
    json!({
        "at_rest": rest,
        "rss_kb_after_traffic": findings.memory_after.rss_kb,
        "rss_kb_per_pod": kb_per_pod(findings),
    })
}

/// Memory that each further pod costs; None when it was measured with one number of pods only.
#[must_use]
pub fn kb_per_pod(findings: &Findings) -> Option<f64> {
    let (few, many) = (findings.rest.first()?, findings.rest.last()?);
    let pods = many.pods.checked_sub(few.pods).filter(|&pods| pods > 0)?;
    Some((many.memory.rss_kb as f64 - few.memory.rss_kb as f64) / pods as f64)
}
