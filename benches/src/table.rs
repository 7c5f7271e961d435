//! The findings for people.

use crate::figure::{Figure, Samples};
use crate::path::Path;
use crate::run::Findings;
use std::fmt::Write;

/// Writes all of them.
#[must_use]
pub fn text(findings: &Findings) -> String {
    let mut out = String::new();
    write_machine(&mut out, findings);
    write_figures(&mut out, &findings.samples);
    write_books(&mut out, findings);
    write_cost(&mut out, findings);
    let faults = findings.faults();
    if faults.is_empty() {
        out.push_str("\nCorrect: no checksum error, no datagram lost without a counted reason\n");
    }
    for fault in faults {
        let _ = writeln!(out, "\nWRONG: {fault}");
    }
    out
}

fn write_machine(out: &mut String, findings: &Findings) {
    let machine = &findings.machine;
    let _ = writeln!(
        out,
        "Portcullis side by side with the kernel: medians of {} rounds in turns, XDP {}",
        findings.rounds, findings.plan.xdp_mode
    );
    let _ = writeln!(
        out,
        "Machine  {} cores of {}, {} MB, Linux {}, load {:.1} before and {:.1} after{}",
        machine.cores,
        machine.processor,
        machine.memory_mb,
        machine.kernel,
        machine.load_before,
        machine.load_after,
        if machine.has_precedence {
            ""
        } else {
            "; WITHOUT precedence over other sessions"
        }
    );
    let _ = writeln!(
        out,
        "Took     {:.0} s; the route MTU is 1500 everywhere; iperf3 with cubic\n",
        findings.seconds
    );
}

fn write_figures(out: &mut String, samples: &Samples) {
    let _ = write!(out, "{:<38} {:>12}", "", "RATIO");
    for path in Path::ALL {
        let _ = write!(out, " {:>24}", path.title().to_uppercase());
    }
    out.push('\n');
    for figure in Figure::ALL {
        let ratio = samples.ratio(figure, Path::Portcullis, Path::Kernel);
        let ratio = ratio
            .filter(|_| figure.ratio_key().is_some())
            .map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let _ = write!(out, "{:<38} {ratio:>12}", figure.title());
        for path in Path::ALL {
            let _ = write!(out, " {:>24}", spread(samples, figure, path));
        }
        out.push('\n');
    }
}

/// Median, lowest and highest.
fn spread(samples: &Samples, figure: Figure, path: Path) -> String {
    let Some(median) = samples.median(figure, path) else {
        return "-".into();
    };
    let values = samples.of(figure, path).iter().copied();
    let (lowest, highest) = (
        values.clone().fold(f64::INFINITY, f64::min),
        values.fold(0.0, f64::max),
    );
    format!("{} ({}-{})", short(median), short(lowest), short(highest))
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.2}M", value / 1e6),
        _ if value >= 1e4 => format!("{:.0}k", value / 1e3),
        _ if value >= 1e3 => format!("{:.1}k", value / 1e3),
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn write_books(out: &mut String, findings: &Findings) {
    out.push_str("\nDatagrams through the daemon, all rounds: sent = arrived + counted drops\n");
    for (measure, balance) in &findings.balances {
        let drops: Vec<String> = balance
            .daemon
            .iter()
            .map(|(reason, count)| format!(", {reason} {count}"))
            .collect();
        let _ = writeln!(
            out,
            "  {:<10} sent {}, arrived {} (read {}, dropped at the socket {}), dropped: in veth queues \
             {}, before the rings {}{}; unexplained {}",
            format!("{measure:?}"),
            balance.sent,
            balance.arrived,
            balance.received,
            balance.receiver,
            balance.queues,
            balance.rings,
            drops.concat(),
            balance.unexplained()
        );
    }
    let errors: u64 = findings
        .checksum_errors
        .values()
        .flat_map(|counters| counters.values())
        .sum();
    let _ = writeln!(out, "  Checksum errors in the pods of all paths: {errors}");
}

fn write_cost(out: &mut String, findings: &Findings) {
    out.push_str("\nThe daemon at rest\n");
    for rest in &findings.rest {
        let _ = writeln!(
            out,
            "  {:>3} pods: RSS {:.1} MB (packets {:.1}, own {:.1}, code and rings {:.1}), {:.2} % of a core",
            rest.pods,
            megabytes(rest.memory.rss_kb),
            megabytes(rest.memory.shared_kb),
            megabytes(rest.memory.anonymous_kb),
            megabytes(rest.memory.file_kb),
            rest.idle_percent
        );
    }
    let after = megabytes(findings.memory_after.rss_kb);
    let _ = writeln!(out, "    2 pods, after all the traffic: RSS {after:.1} MB");
    if let Some(cost) = crate::report::kb_per_pod(findings) {
        let _ = writeln!(out, "  Each pod costs {cost:.0} kB");
    }
}

fn megabytes(kilobytes: u64) -> f64 {
    kilobytes as f64 / 1024.0
}
