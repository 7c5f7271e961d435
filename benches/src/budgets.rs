//! The budgets: each figure that must hold, and the test or benchmark that holds it.
//!
//! Ratios and counts only. Absolute times are a machine's, not ours.

use serde_json::Value;
use std::fmt;

/// What a figure must keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

impl Bound {
    /// Whether a value keeps to it.
    #[must_use]
    pub fn is_kept(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(value) => write!(out, "at least {value}"),
            Self::AtMost(value) => write!(out, "at most {value}"),
        }
    }
}

/// One budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// What it says.
    pub what: &'static str,
    /// Who holds it.
    pub keeper: Keeper,
    /// What it must keep to.
    pub bound: Bound,
}

/// Where a budget is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// A figure of `./x bench side-by-side`, as a JSON pointer; checked by `./x bench budgets`.
    Run(&'static str),
    /// A test that fails by itself.
    Test(&'static str),
}

const fn of_run(what: &'static str, pointer: &'static str, bound: Bound) -> Budget {
    Budget {
        what,
        keeper: Keeper::Run(pointer),
        bound,
    }
}

use Bound::{AtLeast, AtMost};

/// All of them.
#[rustfmt::skip]
pub const BUDGETS: &[Budget] = &[
    of_run("policy, flows and counters are nearly free: packets", "/ratios/pps_vs_raw_afxdp", AtLeast(0.9)),
    of_run("policy, flows and counters are nearly free: TCP", "/ratios/tcp_vs_raw_afxdp", AtLeast(0.9)),
    of_run("ahead of stateful nftables, generator on one core", "/ratios/pps_vs_kernel_stateful", AtLeast(1.5)),
    of_run("not far behind it with every core busy", "/ratios/pps_vs_kernel_stateful_all_cores", AtLeast(0.85)),
    of_run("policies cost packets nothing", "/ratios/pps_policies_1000_vs_10", AtLeast(0.95)),
    of_run("TCP at route MTU 1500, default offloads", "/ratios/tcp_vs_kernel", AtLeast(0.6)),
    of_run("TCP with a large pod MTU", "/ratios/tcp_large_vs_kernel", AtLeast(0.75)),
    of_run("request/response against the bare forwarder, p50", "/ratios/rr_p50_vs_raw_afxdp", AtMost(1.1)),
    of_run("request/response against the bare forwarder, p99", "/ratios/rr_p99_vs_raw_afxdp", AtMost(1.1)),
    of_run("request/response against the kernel, p50, worker on the same core", "/ratios/rr_p50_vs_kernel", AtMost(2.2)),
    of_run("policies do not slow a known flow, 10 to 10 000", "/ratios/growth_policies", AtMost(2.0)),
    of_run("flows do not slow a known flow, 1 to 1 M", "/ratios/growth_flows", AtMost(2.0)),
    of_run("pods do not slow a known flow, 2 to 250", "/ratios/growth_pods", AtMost(2.0)),
    of_run("with 250 pods talking none is starved: the slowest against the mean", "/ratios/pods_slowest_vs_mean", AtLeast(0.5)),
    of_run("instructions of a packet of a known flow between two pods", "/growth/instructions_per_flow_hit", AtMost(1000.0)),
    of_run("instructions of one that takes the whole walk", "/growth/instructions_per_walk", AtMost(4800.0)),
    Budget {
        what: "allocations of a packet",
        keeper: Keeper::Test("dataplane/engine/tests/allocations.rs"),
        bound: AtMost(0.0),
    },
];

/// The budget of a ratio, if it has one.
#[must_use]
pub fn of_ratio(key: &str) -> Option<&'static Budget> {
    BUDGETS.iter().find(|budget| match budget.keeper {
        Keeper::Run(pointer) => pointer.strip_prefix("/ratios/") == Some(key),
        Keeper::Test(_) => false,
    })
}

/// What a run says of the budgets: a line for each, and whether all that it holds are kept.
#[must_use]
pub fn check(run: &Value) -> (Vec<String>, bool) {
    let mut is_kept = true;
    let mut lines = Vec::new();
    for budget in BUDGETS {
        let (what, bound) = (budget.what, budget.bound);
        lines.push(match budget.keeper {
            Keeper::Test(test) => format!("see test     {what}: {bound}; {test}"),
            Keeper::Run(pointer) => match run.pointer(pointer).and_then(Value::as_f64) {
                Some(value) if bound.is_kept(value) => {
                    format!("kept         {what}: {value:.3}, {bound}; {pointer}")
                }
                Some(value) => {
                    is_kept = false;
                    format!("FALLS SHORT  {what}: {value:.3}, expected {bound}; {pointer}")
                }
                None => {
                    is_kept = false;
                    format!("MISSING      {what}: expected {bound}, not measured; {pointer}")
                }
            },
        });
    }
    (lines, is_kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn keeping() -> Value {
        let mut run = json!({"ratios": {}, "growth": {}});
        for budget in BUDGETS {
            if let Keeper::Run(pointer) = budget.keeper {
                let (Bound::AtLeast(value) | Bound::AtMost(value)) = budget.bound;
                let (part, key) = pointer[1..].split_once('/').expect("a part and a key");
                run[part][key] = json!(value);
            }
        }
        run
    }

    #[test]
    fn a_bound_is_kept_by_itself() {
        let (lines, is_kept) = check(&keeping());
        assert!(is_kept, "{lines:#?}");
        assert_eq!(lines.len(), BUDGETS.len());
    }

    #[test]
    fn what_falls_short_or_is_missing_is_said() {
        let mut run = keeping();
        run["ratios"]["tcp_vs_kernel"] = json!(0.59);
        run["ratios"]["growth_flows"] = Value::Null;
        let (lines, is_kept) = check(&run);
        assert!(!is_kept);
        let wrong: Vec<&str> = lines
            .iter()
            .filter(|line| !line.starts_with("kept") && !line.starts_with("see test"))
            .map(|line| line.split_whitespace().next().unwrap_or_default())
            .collect();
        assert_eq!(wrong, ["FALLS", "MISSING"]);
    }

    #[test]
    fn every_figure_with_a_budget_is_reported_and_every_test_is_there() {
        let run = crate::report::json(&crate::report::tests::findings());
        for budget in BUDGETS {
            match budget.keeper {
                Keeper::Run(pointer) => {
                    let value = run.pointer(pointer);
                    assert!(value.is_some_and(Value::is_number), "{pointer}");
                }
                Keeper::Test(test) => {
                    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
                    assert!(root.join(test).is_file(), "{test}");
                }
            }
        }
    }
}
