//! Filters of flows as Hubble's users type them.

use super::filter_fields::{Effect, add, effect};
use crate::observe::FlowFilter;
use crate::recall::Wanted;
use clap::{ArgMatches, Args};
use std::collections::BTreeMap;

/// Of several flags all must hold; of several values of one flag, one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Negates the filter that comes next: `--not --port 53`.
    #[arg(long, num_args = 0, default_missing_value = "true", action = clap::ArgAction::Append)]
    pub not: Vec<bool>,
    /// From or to this pod: NAMESPACE/NAME, NAMESPACE/ for all of it, NAME; names may be cut short.
    #[arg(long, value_name = "POD", value_parser = super::pod_name)]
    pub pod: Vec<String>,
    /// From this pod.
    #[arg(long, value_name = "POD", value_parser = super::pod_name)]
    pub from_pod: Vec<String>,
    /// To this pod.
    #[arg(long, value_name = "POD", value_parser = super::pod_name)]
    pub to_pod: Vec<String>,
    /// From or to pods of this namespace.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// From pods of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub from_namespace: Vec<String>,
    /// To pods of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub to_namespace: Vec<String>,
    /// From or to this address or block.
    #[arg(long, value_name = "IP")]
    pub ip: Vec<String>,
    /// From this address or block.
    #[arg(long, value_name = "IP")]
    pub from_ip: Vec<String>,
    /// To this address or block.
    #[arg(long, value_name = "IP")]
    pub to_ip: Vec<String>,
    /// From or to who has these labels: `app=web`, `app in (web,api),!canary`, `reserved:world`.
    #[arg(short, long, value_name = "SELECTOR")]
    pub label: Vec<String>,
    /// From who has these labels.
    #[arg(long, value_name = "SELECTOR")]
    pub from_label: Vec<String>,
    /// To who has these labels.
    #[arg(long, value_name = "SELECTOR")]
    pub to_label: Vec<String>,
    /// This port, at either end.
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub port: Vec<String>,
    /// This source port.
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub from_port: Vec<String>,
    /// This destination port.
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub to_port: Vec<String>,
    /// This protocol: tcp, udp, sctp, icmp, icmpv4, icmpv6.
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Vec<String>,
    /// This verdict: FORWARDED, DROPPED, AUDIT (passed, though a policy that is only audited denies
    /// it).
    #[arg(long, value_name = "VERDICT", ignore_case = true, value_parser = ["FORWARDED", "DROPPED", "AUDIT", "REDIRECTED", "ERROR", "TRACED", "TRANSLATED"])]
    pub verdict: Vec<String>,
    /// Drops for this reason, by Hubble's name: POLICY_DENIED.
    #[arg(long, value_name = "REASON")]
    pub drop_reason_desc: Vec<String>,
    /// Drops for this reason, by the key that `status` shows; finer than Hubble's.
    #[arg(long, value_name = "KEY")]
    pub drop_reason: Vec<String>,
    /// This type of event: drop, policy-verdict, trace, trace:to-endpoint, trace:to-network.
    #[arg(short = 't', long = "type", value_name = "TYPE[:SUB]")]
    pub event_type: Vec<String>,
    /// These TCP flags are set: SYN, or SYN,ACK.
    #[arg(long, value_name = "FLAGS")]
    pub tcp_flags: Vec<String>,
    /// From or to this identity: a number, or a reserved name such as world.
    #[arg(long, value_name = "IDENTITY")]
    pub identity: Vec<String>,
    /// From this identity.
    #[arg(long, value_name = "IDENTITY")]
    pub from_identity: Vec<String>,
    /// To this identity.
    #[arg(long, value_name = "IDENTITY")]
    pub to_identity: Vec<String>,
    /// The direction as the pod sees it.
    #[arg(long, value_name = "DIRECTION", value_parser = ["ingress", "egress"])]
    pub traffic_direction: Vec<String>,
    /// From or to pods of this workload: NAME or KIND/NAME.
    #[arg(long, value_name = "WORKLOAD")]
    pub workload: Vec<String>,
    /// From pods of this workload.
    #[arg(long, value_name = "WORKLOAD")]
    pub from_workload: Vec<String>,
    /// To pods of this workload.
    #[arg(long, value_name = "WORKLOAD")]
    pub to_workload: Vec<String>,
    /// From or to this DNS name, `*` for any part.
    #[arg(long, value_name = "NAME")]
    pub fqdn: Vec<String>,
    /// From this DNS name.
    #[arg(long, value_name = "NAME")]
    pub from_fqdn: Vec<String>,
    /// To this DNS name.
    #[arg(long, value_name = "NAME")]
    pub to_fqdn: Vec<String>,
    /// From or to this service: NAMESPACE/NAME.
    #[arg(long, value_name = "SERVICE")]
    pub service: Vec<String>,
    /// From this service.
    #[arg(long, value_name = "SERVICE")]
    pub from_service: Vec<String>,
    /// To this service.
    #[arg(long, value_name = "SERVICE")]
    pub to_service: Vec<String>,
    /// Only this version of IP: 4 or 6.
    #[arg(long, value_name = "VERSION", value_parser = ["4", "6", "v4", "v6"])]
    pub ip_version: Vec<String>,
    /// The flow with this uuid.
    #[arg(long, value_name = "UUID")]
    pub uuid: Vec<String>,
    /// Flows of this node: NODE or CLUSTER/NODE, `*` for any part.
    #[arg(long, value_name = "NODE")]
    pub node_name: Vec<String>,
    /// This condition in the Common Expression Language: `_flow.verdict == Verdict.DROPPED`.
    #[arg(long, value_name = "EXPRESSION")]
    pub cel_expression: Vec<String>,
}

/// Every filter by its name.
const NAMES: [&str; 38] = [
    "pod",
    "from_pod",
    "to_pod",
    "namespace",
    "from_namespace",
    "to_namespace",
    "ip",
    "from_ip",
    "to_ip",
    "label",
    "from_label",
    "to_label",
    "port",
    "from_port",
    "to_port",
    "protocol",
    "verdict",
    "drop_reason_desc",
    "drop_reason",
    "event_type",
    "tcp_flags",
    "identity",
    "from_identity",
    "to_identity",
    "traffic_direction",
    "workload",
    "from_workload",
    "to_workload",
    "fqdn",
    "from_fqdn",
    "to_fqdn",
    "service",
    "from_service",
    "to_service",
    "ip_version",
    "uuid",
    "node_name",
    "cel_expression",
];

/// One filter as it was typed.
struct Typed {
    index: usize,
    name: &'static str,
    value: String,
}

/// What the filters of a command line mean, in the order in which they were typed.
///
/// # Errors
/// The flag, what was expected, what was found.
pub fn wanted(matches: &ArgMatches) -> Result<Wanted, String> {
    let (typed, nots) = typed(matches);
    let mut negated = Vec::new();
    for not in nots {
        let next = typed.iter().position(|one| one.index > not);
        negated.push(next.ok_or("--not: expected a filter after it")?);
    }
    let mut values: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut wanted = Wanted::default();
    for (place, one) in typed.into_iter().enumerate() {
        match (negated.contains(&place), one.name) {
            (false, "drop_reason") => wanted.reasons.push(one.value),
            (true, "drop_reason") => wanted.reasons_not.push(one.value),
            (false, name) => values.entry(name).or_default().push(one.value),
            (true, name) => {
                let only = [(name, vec![one.value])].into();
                wanted.deny.extend(filters(only)?);
            }
        }
    }
    if !values.is_empty() {
        wanted.allow = filters(values)?;
    }
    Ok(wanted)
}

fn typed(matches: &ArgMatches) -> (Vec<Typed>, Vec<usize>) {
    let mut typed = Vec::new();
    for name in NAMES {
        let values = matches.try_get_many::<String>(name).ok().flatten();
        let indices = matches.indices_of(name);
        for (index, value) in indices
            .into_iter()
            .flatten()
            .zip(values.into_iter().flatten())
        {
            typed.push(Typed {
                index,
                name,
                value: value.clone(),
            });
        }
    }
    typed.sort_by_key(|one| one.index);
    (
        typed,
        matches.indices_of("not").into_iter().flatten().collect(),
    )
}

/// Filters one of which must match. What may hold of either end makes two of one.
fn filters(mut values: BTreeMap<&'static str, Vec<String>>) -> Result<Vec<FlowFilter>, String> {
    for end in ["", "from_", "to_"] {
        qualify(&mut values, end)?;
    }
    let mut filters = vec![FlowFilter::default()];
    for (name, values) in values {
        let flag = format!("--{}", name.replace('_', "-"));
        let fault = |e: String| format!("{flag}: {e}");
        match effect(name) {
            Effect::Is(field) => {
                for filter in &mut filters {
                    add(filter, field, &values).map_err(fault)?;
                }
            }
            Effect::Either(source, destination) => {
                let mut both = Vec::with_capacity(2 * filters.len());
                for filter in filters {
                    for field in [source, destination] {
                        let mut one = filter.clone();
                        add(&mut one, field, &values).map_err(fault)?;
                        both.push(one);
                    }
                }
                filters = both;
            }
        }
    }
    Ok(filters)
}

/// A pod without its namespace is one of the namespace that is given, else of any.
fn qualify(values: &mut BTreeMap<&'static str, Vec<String>>, end: &str) -> Result<(), String> {
    let (pod, namespace) = match end {
        "from_" => ("from_pod", "from_namespace"),
        "to_" => ("to_pod", "to_namespace"),
        _ => ("pod", "namespace"),
    };
    let Some(pods) = values.remove(pod) else {
        return Ok(());
    };
    let namespaces = values.remove(namespace).unwrap_or_default();
    let mut qualified = Vec::new();
    for pod in pods {
        if pod.contains('/') {
            if !namespaces.is_empty() {
                return Err(format!(
                    "--{}: expected a pod without a namespace, which --{} names, found \"{pod}\"",
                    end.replace('_', "-") + "pod",
                    end.replace('_', "-") + "namespace"
                ));
            }
            qualified.push(pod);
        } else if namespaces.is_empty() {
            qualified.push(format!("/{pod}"));
        } else {
            qualified.extend(
                namespaces
                    .iter()
                    .map(|namespace| format!("{namespace}/{pod}")),
            );
        }
    }
    values.insert(pod, qualified);
    Ok(())
}

fn port(text: &str) -> Result<String, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok(port.to_string()),
        Err(_) => Err("expected a port, 0 to 65535".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::observe::ExperimentalFilter;
    use clap::CommandFactory;

    fn read(line: &str) -> Result<Wanted, String> {
        let words = ["portcullis", "observe"]
            .into_iter()
            .chain(line.split_whitespace());
        let matches = Cli::command()
            .try_get_matches_from(words)
            .map_err(|e| e.to_string())?;
        let (_, matches) = matches.subcommand().expect("observe");
        wanted(matches)
    }

    fn filter(change: impl FnOnce(&mut FlowFilter)) -> FlowFilter {
        let mut filter = FlowFilter::default();
        change(&mut filter);
        filter
    }

    #[test]
    fn flags_of_either_end_make_two_filters_and_not_negates_what_comes_next() {
        let found = read("--pod web --to-port 80 --not --protocol udp --not --pod shop/db");
        let expected = Wanted {
            allow: vec![
                filter(|f| {
                    f.source_pod = vec!["/web".into()];
                    f.destination_port = vec!["80".into()];
                }),
                filter(|f| {
                    f.destination_pod = vec!["/web".into()];
                    f.destination_port = vec!["80".into()];
                }),
            ],
            deny: vec![
                filter(|f| f.protocol = vec!["udp".into()]),
                filter(|f| f.source_pod = vec!["shop/db".into()]),
                filter(|f| f.destination_pod = vec!["shop/db".into()]),
            ],
            ..Wanted::default()
        };
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn a_namespace_is_that_of_the_pods_that_have_none() {
        let found =
            read("-n shop -n bank --pod web").map(|wanted| wanted.allow[0].source_pod.clone());
        assert_eq!(
            found,
            Ok(vec!["shop/web".to_owned(), "bank/web".to_owned()])
        );
        let found = read("--from-namespace shop").map(|wanted| wanted.allow);
        assert_eq!(
            found,
            Ok(vec![filter(|f| f.source_pod = vec!["shop/".into()])])
        );
        for wrong in [
            "-n shop --pod bank/web",
            "--not",
            "--pod web --from-pod api",
            "-t nothing",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn expressions_go_into_every_filter_and_may_be_negated() {
        let expression = |texts: &[&str]| {
            let texts = texts.iter().map(|text| (*text).to_owned()).collect();
            Some(ExperimentalFilter {
                cel_expression: texts,
            })
        };
        let found =
            read("--cel-expression a==1 --cel-expression b -n shop --not --cel-expression c");
        let both = expression(&["a==1", "b"]);
        let expected = Wanted {
            allow: vec![
                filter(|f| {
                    f.source_pod = vec!["shop/".into()];
                    f.experimental.clone_from(&both);
                }),
                filter(|f| {
                    f.destination_pod = vec!["shop/".into()];
                    f.experimental.clone_from(&both);
                }),
            ],
            deny: vec![filter(|f| f.experimental = expression(&["c"]))],
            ..Wanted::default()
        };
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn nothing_asked_for_is_everything() {
        assert_eq!(read(""), Ok(Wanted::default()));
    }
}
