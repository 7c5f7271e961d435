//! The findings for people: Markdown and plots from the JSON of a run.

use crate::budgets;
use crate::figure::Figure;
use crate::measure::Measure;
use crate::path::Path;
use crate::plot::{Bar, Line, bars, lines, short};
use serde_json::Value;
use std::fmt::Write;

/// Writes all tables.
#[must_use]
pub fn text(run: &Value) -> String {
    let mut out = String::new();
    write_machine(&mut out, run);
    write_figures(&mut out, run);
    write_costs(&mut out, run);
    write_ratios(&mut out, run);
    write_growth(&mut out, run);
    write_memory(&mut out, run);
    write_faults(&mut out, run);
    out
}

/// The document for docs/: what was measured and how, tables, plots.
#[must_use]
pub fn document(run: &Value) -> String {
    let mut out = String::from(
        "# Performance\n\n\
         Made by `./x bench report` from [performance.json](performance.json), a run of `./x bench \
         side-by-side -o json`. All paths connect the same two pods, the generators are the same, \
         and every round measures every path once, so ratios hold where absolute rates drift. All \
         devices have an MTU of 65535 but in the first row; routes have 1500 unless it says large. \
         Rules of nftables and iptables are seen by every packet, connection tracking is on. \
         tc-BPF has a hash-map policy and no connection tracking. The bare AF_XDP forwarder runs on \
         the daemon's own rings, rewrites both MAC addresses and finishes checksums: our limit. CPU \
         is that of all processes and of the kernel's softirq threads.\n\n\
         ![Packets](packets.svg)\n![TCP](tcp.svg)\n![Latency](latency.svg)\n![Growth](growth.svg)\n\n",
    );
    out.push_str(CAVEATS);
    out.push_str(&text(run));
    out
}

/// What the figures do not say, and a reader would else take them to say.
const CAVEATS: &str = "\
## How to read it

Where the time goes, what was tried, and why a goal is missed: [profile.md](profile.md).

- Every sample counts, none is left out. Where the rounds of a ratio lie on both sides of its goal the \
table says so: such a goal is neither reached nor missed by this run.
- One TCP stream between two cores runs at two speeds here, whichever the path: kernel paths at about 10 \
or about 25 Gbit/s. A median over few rounds may be of either, so ratios of one stream, to tc-BPF above \
all, need the samples in performance.json beside them.
- The bare forwarder is the limit of this harness, not of AF_XDP: it takes as many frames at a time as a \
worker, in the same mode. Floods end at a counter of tc where they enter the server, which drops them: \
that little work falls on the core of the worker; where the kernel forwards, on the sender's.
- CPU for each million is for each million *delivered*. A sender is faster than AF_XDP, and what it sends \
in vain is in that figure; where the kernel forwards inline, the sender is slowed down instead.
- Two senders: a worker shares its core with one of them.
- Growth: the engine's table has room for 4 M entries at every point, 32 times the daemon's default. The \
first packet of a flow is timed on memory that may not have been touched before, so that column is no \
cost of deciding.
- Masquerade: the first datagrams of a run wait for the neighbour's address; those that find no room to wait are dropped, counted.

";

/// The plots, by file name.
#[must_use]
pub fn plots(run: &Value) -> Vec<(&'static str, String)> {
    let bars_of = |title: &str, figure: Figure| {
        let mut all = Vec::new();
        for path in Path::ALL {
            if let Some(value) = median(run, figure, path) {
                all.push(Bar {
                    name: path.title().into(),
                    value,
                    is_ours: path.has_daemon(),
                });
            }
        }
        bars(title, &all)
    };
    let line = |(key, name): (&str, &str)| -> Line {
        let points = run["growth"][key].as_array().into_iter().flatten();
        let point = |point: &Value| Some((point["count"].as_f64()?, point["hit_ns"].as_f64()?));
        (name.into(), points.filter_map(point).collect())
    };
    let growing = [
        ("policies", "policies"),
        ("flows", "flows"),
        ("pods", "pods"),
    ]
    .map(line);
    vec![
        (
            "packets.svg",
            bars_of(
                "64-byte UDP packets/s, one flow: more is better",
                Figure::Rate(Measure::FloodOne),
            ),
        ),
        (
            "tcp.svg",
            bars_of(
                "TCP, one stream, route MTU 1500, Gbit/s: more is better",
                Figure::Rate(Measure::Tcp),
            ),
        ),
        (
            "latency.svg",
            bars_of("TCP request/response, p99 µs: less is better", Figure::P99),
        ),
        (
            "growth.svg",
            lines(
                "Engine time of a packet of a known flow",
                "how many there are",
                "ns",
                &growing,
            ),
        ),
    ]
}

fn median(run: &Value, figure: Figure, path: Path) -> Option<f64> {
    run["figures"][figure.key()]["paths"][path.key()]["median"].as_f64()
}

fn write_machine(out: &mut String, run: &Value) {
    let machine = &run["machine"];
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let _ = writeln!(
        out,
        "Machine: {} cores of {}, {} MB, Linux {}; load {:.1} before, {:.1} after{}.  \n\
         Medians of {} rounds of {:.2} s each, XDP {}, {} worker(s), {:.0} s in all; floods end at {}.  \n\
         Placement: {}.\n",
        machine["cores"],
        text(&machine["processor"]),
        machine["memory_mb"],
        text(&machine["kernel"]),
        number(&machine["load_before"]),
        number(&machine["load_after"]),
        if machine["has_precedence"] == true {
            ""
        } else {
            ", WITHOUT precedence over other sessions"
        },
        run["rounds"],
        number(&run["span_seconds"]),
        text(&run["xdp_mode"]),
        run["workers"],
        number(&run["seconds"]),
        text(&run["floods_end_at"]),
        text(&machine["placement"]),
    );
    for (what, why) in run["skipped"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "SKIPPED {what}: {}\n", text(why));
    }
}

/// Paths down, figures across.
fn write_table(out: &mut String, run: &Value, columns: &[(&str, Figure)]) {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let _ = writeln!(out, "| path | {} |", names.join(" | "));
    let _ = writeln!(out, "|---|{}", "---:|".repeat(columns.len()));
    for path in Path::ALL {
        let cells: Vec<Option<f64>> = columns
            .iter()
            .map(|(_, figure)| median(run, *figure, path))
            .collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let cells = cells
            .into_iter()
            .map(|cell| cell.map_or_else(|| "–".into(), short));
        let _ = writeln!(
            out,
            "| {} | {} |",
            path.title(),
            cells.collect::<Vec<_>>().join(" | ")
        );
    }
    out.push('\n');
}

fn write_figures(out: &mut String, run: &Value) {
    let rate = Figure::Rate;
    out.push_str("## Rates and latency\n\n");
    write_table(
        out,
        run,
        &[
            ("64 B packets/s, 1 flow", rate(Measure::FloodOne)),
            ("1000 flows", rate(Measure::FloodMany)),
            ("2 senders", rate(Measure::FloodBoth)),
            ("connections/s", rate(Measure::Connections)),
            ("TCP Gbit/s, 1 stream", rate(Measure::Tcp)),
            ("8 streams", rate(Measure::Tcp8)),
            ("large, 1", rate(Measure::TcpLarge)),
            ("large, 8", rate(Measure::TcpLarge8)),
            ("RR µs p50", Figure::P50),
            ("p99", Figure::P99),
            ("p99.9", Figure::P999),
        ],
    );
}

fn write_costs(out: &mut String, run: &Value) {
    let cpu = Figure::Cpu;
    out.push_str("## Processor time\n\nSeconds for each million packets, and for each GB.\n\n");
    write_table(
        out,
        run,
        &[
            ("s/million, 1 flow", cpu(Measure::FloodOne)),
            ("1000 flows", cpu(Measure::FloodMany)),
            ("2 senders", cpu(Measure::FloodBoth)),
            ("of 1 flow, daemon", Figure::DaemonCpu(Measure::FloodOne)),
            ("s/GB, 1 stream", cpu(Measure::Tcp)),
            ("8 streams", cpu(Measure::Tcp8)),
            ("large, 1", cpu(Measure::TcpLarge)),
            ("large, 8", cpu(Measure::TcpLarge8)),
            ("of 1 stream, daemon", Figure::DaemonCpu(Measure::Tcp)),
        ],
    );
}

fn write_ratios(out: &mut String, run: &Value) {
    out.push_str("## Ratios\n\n| ratio | median | rounds | goal | |\n|---|---:|---|---|---|\n");
    for (key, value) in run["ratios"].as_object().into_iter().flatten() {
        let value = value.as_f64().unwrap_or(f64::NAN);
        let spread = &run["ratio_spreads"][key];
        let ends = spread[0].as_f64().zip(spread[1].as_f64());
        let spread = ends.map_or(String::new(), |(low, high)| format!("{low:.2} – {high:.2}"));
        let (mut goal, mut mark) = (String::new(), String::new());
        if let Some(budget) = budgets::of_ratio(key) {
            goal = budget.bound.to_string();
            let is_kept = |value: f64| budget.bound.is_kept(value);
            mark = if is_kept(value) {
                "kept"
            } else {
                "falls short"
            }
            .into();
            // Whichever way the median fell: one run does not settle what its rounds do not agree on.
            if ends.is_some_and(|(low, high)| is_kept(low) != is_kept(high)) {
                mark.push_str(", rounds disagree");
            }
        }
        let _ = writeln!(out, "| {key} | {value:.3} | {spread} | {goal} | {mark} |");
    }
    out.push('\n');
}

fn write_growth(out: &mut String, run: &Value) {
    if run["growth"].is_null() {
        return;
    }
    out.push_str(
        "## Growth of the engine's cost\n\nNanoseconds of a packet, both halves, the engine alone. \
         All policies concern the pods that talk; flows are visited in no order.\n\n\
         | what grows | how many | known flow, ns | first packet, ns |\n|---|---:|---:|---:|\n",
    );
    for key in ["policies", "flows", "pods"] {
        for point in run["growth"][key].as_array().into_iter().flatten() {
            let number = |key: &str| point[key].as_f64().unwrap_or(f64::NAN);
            let _ = writeln!(
                out,
                "| {key} | {} | {:.0} | {:.0} |",
                point["count"],
                number("hit_ns"),
                number("miss_ns")
            );
        }
    }
    if let Some(count) = run["growth"]["instructions_per_flow_hit"].as_f64() {
        let _ = writeln!(
            out,
            "\nInstructions of a packet of a known flow between two pods: {count:.0}; of one that \
             takes the whole walk: {:.0} (callgrind, release build, without the harness).",
            run["growth"]["instructions_per_walk"]
                .as_f64()
                .unwrap_or(0.0)
        );
    }
    out.push('\n');
}

fn write_memory(out: &mut String, run: &Value) {
    let daemon = &run["daemon"];
    let megabytes = |value: &Value| value.as_f64().unwrap_or(0.0) / 1024.0;
    out.push_str("## Memory of the daemon\n\n");
    for rest in daemon["at_rest"].as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "- {} pods at rest: RSS {:.1} MB (packets {:.1}, own {:.1}, code and rings {:.1}), \
             {:.2} % of a core",
            rest["pods"],
            megabytes(&rest["rss_kb"]),
            megabytes(&rest["rss_shared_kb"]),
            megabytes(&rest["rss_anonymous_kb"]),
            megabytes(&rest["rss_file_kb"]),
            rest["idle_percent_of_core"].as_f64().unwrap_or(0.0)
        );
    }
    for (path, kilobytes) in daemon["rss_kb_after_traffic"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let _ = writeln!(
            out,
            "- {path}, after all the traffic: RSS {:.1} MB",
            megabytes(kilobytes)
        );
    }
    let talk = &daemon["all_pods_talk"];
    if talk.is_object() {
        let number = |key: &str| talk[key].as_f64().unwrap_or(0.0);
        let _ = writeln!(
            out,
            "- {} pods, each sending to the next all the time: {} packets/s in all, {:.0} a pod on \
             average, {:.0} the slowest; RSS {:.1} MB",
            talk["pods"],
            short(number("packets_per_second")),
            number("pod_packets_per_second_mean"),
            number("pod_packets_per_second_slowest"),
            megabytes(&talk["rss_kb"])
        );
    }
    if let Some(cost) = daemon["rss_kb_per_pod"].as_f64() {
        let _ = writeln!(out, "- Each pod costs {cost:.0} kB");
    }
    out.push('\n');
}

fn write_faults(out: &mut String, run: &Value) {
    let faults = run["correctness"]["faults"].as_array();
    if faults.is_none_or(Vec::is_empty) {
        out.push_str("Correct: no checksum error, no datagram lost without a counted reason.\n");
    }
    for fault in faults.into_iter().flatten() {
        let _ = writeln!(out, "WRONG: {}\n", fault.as_str().unwrap_or("?"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{json, tests::findings};

    #[test]
    fn the_document_names_every_path_what_was_skipped_and_what_falls_short() {
        let document = document(&json(&findings()));
        for path in Path::ALL {
            assert!(
                document.contains(&format!("| {} |", path.title())),
                "{document}"
            );
        }
        for part in [
            "SKIPPED nft_10: nft is missing",
            "| flows | 1000000 | 120 | 300 |",
            "load 0.5 before, 1.5 after",
            "| growth_flows | 3.000 |  | at most 2 | falls short |",
        ] {
            assert!(document.contains(part), "{part}: {document}");
        }
    }

    #[test]
    fn rounds_on_both_sides_of_a_goal_are_said_however_the_median_fell() {
        let mut run = json(&findings());
        for (key, value) in [("tcp_vs_kernel", 0.7), ("tcp_large_vs_kernel", 0.7)] {
            run["ratios"][key] = value.into();
            run["ratio_spreads"][key] = serde_json::json!([0.5, 0.9]);
        }
        run["ratios"]["rr_p50_vs_kernel"] = 2.0.into();
        run["ratio_spreads"]["rr_p50_vs_kernel"] = serde_json::json!([1.9, 2.1]);
        let text = text(&run);
        for line in [
            "| tcp_vs_kernel | 0.700 | 0.50 – 0.90 | at least 0.6 | kept, rounds disagree |",
            "| tcp_large_vs_kernel | 0.700 | 0.50 – 0.90 | at least 0.75 | falls short, rounds disagree |",
            "| rr_p50_vs_kernel | 2.000 | 1.90 – 2.10 | at most 2.2 | kept |",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn there_is_a_plot_for_each_link() {
        let run = json(&findings());
        let document = document(&run);
        for (name, svg) in plots(&run) {
            assert!(document.contains(&format!("({name})")), "{name}");
            assert!(
                svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
                "{name}"
            );
        }
    }
}
