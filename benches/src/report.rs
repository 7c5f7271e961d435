//! The findings for programs: one JSON object.

use crate::figure::{Figure, RATIOS, spread};
use crate::path::Path;
use crate::run::Findings;
use serde_json::{Map, Value, json};

/// The object: every median with its samples, the ratios, the machine, what is wrong.
#[must_use]
pub fn json(findings: &Findings) -> Value {
    let (ratios, ratio_spreads) = ratios(findings);
    let faults = findings.faults();
    json!({
        "ratios": ratios,
        "ratio_spreads": ratio_spreads,
        "figures": figures(findings),
        "skipped": findings.skipped,
        "daemon": daemon(findings),
        "growth": findings.growth.as_ref().map(crate::growth::Growth::json),
        "correctness": {
            "is_correct": faults.is_empty(),
            "faults": faults,
            "checksum_errors": by_path(&findings.checksum_errors, |counters| json!(counters)),
            "datagrams": by_path(&findings.balances, crate::ledger::Balance::json),
        },
        "machine": findings.machine.json(),
        "measures": findings.plan.measures.iter()
            .map(|measure| (measure.key().to_owned(), json!(measure.title())))
            .collect::<Map<_, _>>(),
        "paths": findings.plan.paths.iter()
            .map(|path| (path.key().to_owned(), json!(path.title())))
            .collect::<Map<_, _>>(),
        "rounds": findings.rounds,
        "rounds_planned": findings.plan.rounds,
        "span_seconds": findings.plan.span.as_secs_f64(),
        "xdp_mode": findings.plan.xdp_mode,
        "workers": findings.plan.workers,
        "floods_end_at": if findings.has_sink { "a counter of tc at the server's interface" } else { "a UDP socket" },
        "seconds": findings.seconds,
    })
}

fn figures(findings: &Findings) -> Map<String, Value> {
    let samples = &findings.samples;
    let mut figures = Map::new();
    for figure in Figure::all() {
        let paths = Path::ALL.into_iter().filter_map(|path| {
            let all = samples.of(figure, path);
            let (lowest, highest) = spread(all)?;
            let value = json!({
                "median": samples.median(figure, path)?,
                "lowest": lowest,
                "highest": highest,
                "samples": all,
            });
            Some((path.key().to_owned(), value))
        });
        let paths: Map<_, _> = paths.collect();
        figures.insert(
            figure.key(),
            json!({"title": figure.title(), "paths": paths}),
        );
    }
    figures
}

fn ratios(findings: &Findings) -> (Map<String, Value>, Map<String, Value>) {
    let samples = &findings.samples;
    let (mut ratios, mut spreads) = (Map::new(), Map::new());
    for ratio in RATIOS {
        if let Some(value) = samples.ratio(ratio) {
            ratios.insert(ratio.0.into(), json!(value));
        }
        if let Some((lowest, highest)) = samples.ratio_spread(ratio) {
            spreads.insert(ratio.0.into(), json!([lowest, highest]));
        }
    }
    if let Some(talk) = &findings.talk {
        ratios.insert("pods_slowest_vs_mean".into(), json!(talk.slowest_of_mean()));
    }
    if let Some(growth) = &findings.growth {
        for (key, value) in growth.ratios() {
            ratios.insert(key, json!(value));
        }
    }
    (ratios, spreads)
}

fn by_path<T>(
    map: &std::collections::BTreeMap<Path, T>,
    value: impl Fn(&T) -> Value,
) -> Map<String, Value> {
    map.iter()
        .map(|(path, of_path)| (path.key().to_owned(), value(of_path)))
        .collect()
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
        "rss_kb_after_traffic": by_path(&findings.memory_after, |memory| json!(memory.rss_kb)),
        "rss_kb_per_pod": kb_per_pod(findings),
        "all_pods_talk": findings.talk.as_ref().map(crate::crowd::Talk::json),
    })
}

/// Memory that each further pod costs; None when it was measured with one number of pods only.
#[must_use]
pub fn kb_per_pod(findings: &Findings) -> Option<f64> {
    let (few, many) = (findings.rest.first()?, findings.rest.last()?);
    let pods = many.pods.checked_sub(few.pods).filter(|&pods| pods > 0)?;
    Some((many.memory.rss_kb as f64 - few.memory.rss_kb as f64) / pods as f64)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cost::Memory;
    use crate::crowd::Talk;
    use crate::figure::Samples;
    use crate::growth::{Growth, Instructions, Point};
    use crate::machine::Machine;
    use crate::measure::Measure;
    use crate::run::Plan;
    use std::collections::BTreeMap;
    use std::time::Duration;

    pub fn findings() -> Findings {
        let mut samples = Samples::default();
        for (round, noise) in [0.9, 1.0, 1.1].into_iter().enumerate() {
            for (number, path) in Path::ALL.into_iter().enumerate() {
                for figure in Figure::all() {
                    let value = (number + 1) as f64 * noise + round as f64 * 0.0;
                    samples.add(figure, path, value);
                }
            }
        }
        let point = |count, hit_ns| Point {
            count,
            hit_ns,
            miss_ns: 300.0,
        };
        Findings {
            machine: Machine {
                kernel: "6.18".into(),
                processor: "a processor".into(),
                cores: 2,
                memory_mb: 1024,
                load_before: 0.5,
                load_after: 1.5,
                has_precedence: true,
            },
            plan: Plan {
                rounds: 3,
                span: Duration::from_millis(200),
                idle: Duration::ZERO,
                has_many_pods: false,
                rounds_end: Duration::ZERO,
                xdp_mode: "generic".into(),
                workers: 1,
                paths: Path::ALL.to_vec(),
                measures: Measure::ALL.to_vec(),
                growth: None,
            },
            rounds: 3,
            skipped: [("nft_10".to_owned(), "nft is missing".to_owned())].into(),
            failures: BTreeMap::new(),
            samples,
            balances: BTreeMap::new(),
            checksum_errors: BTreeMap::new(),
            rest: Vec::new(),
            memory_after: BTreeMap::new(),
            talk: Some(Talk {
                pods: 250,
                packets_per_second: 500_000.0,
                slowest: 1500.0,
                mean: 2000.0,
                median: 1900.0,
                memory: Memory::default(),
            }),
            has_sink: true,
            growth: Some(Growth {
                policies: vec![point(10, 50.0), point(10_000, 60.0)],
                flows: vec![point(1, 40.0), point(1_000_000, 120.0)],
                pods: vec![point(2, 50.0), point(250, 55.0)],
                instructions: Some(Instructions {
                    hit: 400.0,
                    walk: 4000.0,
                }),
            }),
            seconds: 42.0,
        }
    }

    #[test]
    fn the_object_has_every_median_every_ratio_and_the_machine() {
        let json = json(&findings());
        for (key, _, _) in RATIOS {
            assert!(json["ratios"][key].is_number(), "{key}");
            assert_eq!(json["ratio_spreads"][key].as_array().map(Vec::len), Some(2));
        }
        for figure in Figure::all() {
            for path in Path::ALL {
                let value = &json["figures"][figure.key()]["paths"][path.key()];
                assert!(
                    value["median"].is_number(),
                    "{} {}",
                    figure.key(),
                    path.key()
                );
                assert_eq!(value["samples"].as_array().map(Vec::len), Some(3));
            }
        }
        assert_eq!(json["machine"]["load_before"], 0.5);
        assert!(json["machine"]["placement"].is_string());
        assert_eq!(json["skipped"]["nft_10"], "nft is missing");
        assert_eq!(json["ratios"]["growth_flows"], 3.0);
        assert_eq!(json["growth"]["instructions_per_flow_hit"], 400.0);
        assert_eq!(json["correctness"]["is_correct"], true);
    }
}
