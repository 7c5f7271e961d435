//! Filters of flows as Hubble's users type them.

pub use super::filter_args::FilterArgs;
use super::filter_args::NAMES;
use super::filter_fields::{Effect, add, effect};
use crate::observe::{FlowFilter, Home};
use crate::recall::Wanted;
use clap::ArgMatches;
use portcullis_hubble::read_expressions;
use serde_json::Value;
use std::collections::BTreeMap;

/// What each flag was given.
type Values = BTreeMap<String, Vec<String>>;

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
        let next = next.ok_or("--not: expected a filter after it")?;
        if negated.contains(&next) {
            return Err("--not: expected a filter between it and the next --not".into());
        }
        negated.push(next);
    }
    let mut values = Values::new();
    let mut wanted = Wanted::default();
    for (place, one) in typed.into_iter().enumerate() {
        match (negated.contains(&place), one.name) {
            (false, "drop_reason") => wanted.reasons.push(one.value),
            (true, "drop_reason") => wanted.reasons_not.push(one.value),
            (false, name) => {
                let values = values.entry(name.to_owned()).or_default();
                values.push(one.value);
            }
            (true, name) => {
                let only = [(name.to_owned(), vec![one.value])].into();
                wanted.deny.extend(filters(only)?);
            }
        }
    }
    if !values.is_empty() {
        wanted.allow = filters(values)?;
    }
    for (flag, name, list) in [
        ("--allowlist", "allowlist", &mut wanted.allow),
        ("--denylist", "denylist", &mut wanted.deny),
    ] {
        let given = matches.try_get_many::<String>(name).ok().flatten();
        let given: Vec<String> = given.into_iter().flatten().cloned().collect();
        list.extend(raw(flag, &given)?);
    }
    Ok(wanted)
}

/// Filters as YAML of JSON, as Hubble's command line prints and takes them.
///
/// # Errors
/// When one of them is none of Hubble's.
pub fn raw_text(wanted: &Wanted) -> Result<String, String> {
    if !wanted.reasons.is_empty() || !wanted.reasons_not.is_empty() {
        return Err(
            "--drop-reason: expected --drop-reason-desc, which Hubble's filters have".into(),
        );
    }
    let mut out = String::new();
    for (name, list) in [("allowlist", &wanted.allow), ("denylist", &wanted.deny)] {
        for (place, filter) in list.iter().enumerate() {
            if place == 0 {
                out.push_str(&format!("{name}:\n"));
            }
            let mut filter = serde_json::to_value(filter).map_err(|e| e.to_string())?;
            if let Value::Object(fields) = &mut filter {
                fields.retain(|_, value| !value.is_null() && *value != Value::Array(Vec::new()));
            }
            // In YAML a quote within quotes is written twice.
            let json = filter.to_string().replace('\'', "''");
            out.push_str(&format!("    - '{json}'\n"));
        }
    }
    Ok(out)
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

/// Filters one of which must match. What may hold of either end makes two of one: all of it holds of
/// the source, or all of it of the destination.
fn filters(mut values: Values) -> Result<Vec<FlowFilter>, String> {
    join(&mut values);
    for end in ["", "from_", "to_"] {
        qualify(&mut values, end, "pod")?;
        qualify(&mut values, end, "service")?;
        values.remove(&namespace_of(end));
    }
    let mut both = [FlowFilter::default(), FlowFilter::default()];
    for (name, values) in values {
        let flag = flag(&name);
        let fields = match effect(&name) {
            Effect::Is(field) => [field, field],
            Effect::Either(source, destination) => [source, destination],
        };
        // Whoever has typed a flag is told of that flag, not of the field that it fills.
        let mut alone = FlowFilter::default();
        let read = add(&mut alone, fields[0], &values).and_then(|()| check(&alone));
        read.map_err(|e| format!("{flag}: {e}"))?;
        for (filter, field) in both.iter_mut().zip(fields) {
            add(filter, field, &values).map_err(|e| format!("{flag}: {e}"))?;
        }
    }
    let [source, destination] = both;
    Ok(if source == destination {
        vec![source]
    } else {
        vec![source, destination]
    })
}

/// The flag as it is typed.
fn flag(name: &str) -> String {
    match name {
        "event_type" => "--type".to_owned(),
        _ => format!("--{}", name.replace('_', "-")),
    }
}

/// Whether the values of the only field that is filled are understood.
fn check(filter: &FlowFilter) -> Result<(), String> {
    let nowhere = Home {
        node: String::new(),
        cluster: String::new(),
    };
    match filter.compile(&nowhere, read_expressions) {
        Ok(_) => Ok(()),
        Err(fault) => Err(match fault.split_once("]: ") {
            Some((_, fault)) => fault.to_owned(),
            None => fault,
        }),
    }
}

/// Several flags for one thing are as one that is given several times.
fn join(values: &mut Values) {
    for (alias, name) in [
        ("ipv4", "ip_version"),
        ("ipv6", "ip_version"),
        ("unencrypted", "encrypted"),
        ("all_namespaces", "namespace"),
        ("from_all_namespaces", "from_namespace"),
        ("to_all_namespaces", "to_namespace"),
    ] {
        if let Some(more) = values.remove(alias) {
            values.entry(name.to_owned()).or_default().extend(more);
        }
    }
}

fn namespace_of(end: &str) -> String {
    format!("{end}namespace")
}

/// A pod or service without its namespace is one of the namespaces that are given, else of any. Where
/// there is neither, every pod of these namespaces is meant.
fn qualify(values: &mut Values, end: &str, kind: &str) -> Result<(), String> {
    let namespaces = values.get(&namespace_of(end)).cloned().unwrap_or_default();
    let name = format!("{end}{kind}");
    let given = values.remove(&name);
    let is_alone = kind == "pod" && !values.contains_key(&format!("{end}service"));
    let given = match given {
        Some(given) => given,
        None if is_alone && !namespaces.is_empty() => vec![String::new()],
        None => return Ok(()),
    };
    let mut qualified = Vec::new();
    for one in given {
        let fitting =
            |namespace: &String| namespace.is_empty() || one.starts_with(&format!("{namespace}/"));
        if one.contains('/') {
            if !namespaces.is_empty() && !namespaces.iter().any(fitting) {
                return Err(format!(
                    "{}: expected a {kind} of a namespace that {} names, found \"{one}\"",
                    flag(&name),
                    flag(&namespace_of(end)),
                ));
            }
            qualified.push(one);
        } else if namespaces.is_empty() {
            qualified.push(format!("/{one}"));
        } else {
            qualified.extend(
                namespaces
                    .iter()
                    .map(|namespace| format!("{namespace}/{one}")),
            );
        }
    }
    values.insert(name, qualified);
    Ok(())
}

/// Filters as JSON, one or several in one text.
fn raw(flag: &str, texts: &[String]) -> Result<Vec<FlowFilter>, String> {
    let read = |text: &String| -> Result<Vec<FlowFilter>, String> {
        let filters = serde_json::Deserializer::from_str(text).into_iter();
        filters
            .collect::<Result<_, _>>()
            .map_err(|e| format!("{flag}: expected filters of Hubble's API as JSON: {e}"))
    };
    let read: Result<Vec<_>, _> = texts.iter().map(read).collect();
    Ok(read?.into_iter().flatten().collect())
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
        let found = read(
            "--cel-expression 1==1 --cel-expression true -n shop --not --cel-expression !true",
        );
        let both = expression(&["1==1", "true"]);
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
            deny: vec![filter(|f| f.experimental = expression(&["!true"]))],
            ..Wanted::default()
        };
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn what_may_hold_of_either_end_holds_of_the_same_end() {
        let both = |pod: &str, port: &str| {
            [
                format!(r#"{{"source_pod":["{pod}"],"source_port":["{port}"]}}"#),
                format!(r#"{{"destination_pod":["{pod}"],"destination_port":["{port}"]}}"#),
            ]
            .map(|text| serde_json::from_str(&text).expect("a filter"))
            .to_vec()
        };
        let found = read("--pod shop/web --port 80").map(|wanted| wanted.allow);
        assert_eq!(found, Ok(both("shop/web", "80")));
        let found = read("-n shop --port 80").map(|wanted| wanted.allow);
        assert_eq!(found, Ok(both("shop/", "80")));
    }

    /// What Hubble's command line asks for with the same words.
    #[test]
    fn every_flag_fills_the_field_that_hubble_fills() {
        for (line, expected) in [
            ("--from-pod /web", r#"[{"source_pod":["/web"]}]"#),
            ("-A", r#"[{"source_pod":["/"]},{"destination_pod":["/"]}]"#),
            ("--from-all-namespaces", r#"[{"source_pod":["/"]}]"#),
            ("--to-all-namespaces", r#"[{"destination_pod":["/"]}]"#),
            (
                "--to-namespace shop --to-service web",
                r#"[{"destination_service":["shop/web"]}]"#,
            ),
            (
                "-n shop --pod shop/web",
                r#"[{"source_pod":["shop/web"]},{"destination_pod":["shop/web"]}]"#,
            ),
            (
                "--snat-ip 10.0.0.0/8",
                r#"[{"source_ip_xlated":["10.0.0.0/8"]}]"#,
            ),
            ("-4 -6", r#"[{"ip_version":["IPv4","IPv6"]}]"#),
            ("--ip-version none", r#"[{"ip_version":["IP_NOT_USED"]}]"#),
            ("--encrypted", r#"[{"encrypted":[true]}]"#),
            ("--unencrypted", r#"[{"encrypted":[false]}]"#),
            ("--node-label zone=a", r#"[{"node_labels":["zone=a"]}]"#),
            (
                "--cluster blue",
                r#"[{"source_cluster_name":["blue"]},{"destination_cluster_name":["blue"]}]"#,
            ),
            (
                "--from-cluster blue",
                r#"[{"source_cluster_name":["blue"]}]"#,
            ),
            (
                "--to-cluster blue",
                r#"[{"destination_cluster_name":["blue"]}]"#,
            ),
            ("--interface eth0", r#"[{"interface":[{"name":"eth0"}]}]"#),
            ("--http-status 5+", r#"[{"http_status_code":["5+"]}]"#),
            ("--http-method get", r#"[{"http_method":["get"]}]"#),
            ("--http-path /a", r#"[{"http_path":["/a"]}]"#),
            ("--http-url a", r#"[{"http_url":["a"]}]"#),
            (
                "--http-header a:b:c",
                r#"[{"http_header":[{"key":"a","value":"b:c"}]}]"#,
            ),
            ("--trace-id 7", r#"[{"trace_id":["7"]}]"#),
            ("--ip-trace-id 7", r#"[{"ip_trace_id":[7]}]"#),
            (
                "--traffic-direction INGRESS",
                r#"[{"traffic_direction":["INGRESS"]}]"#,
            ),
            (
                "--drop-reason-desc policy_denied",
                r#"[{"drop_reason_desc":["POLICY_DENIED"]}]"#,
            ),
            (
                "-t trace:to-endpoint -t l7",
                r#"[{"event_type":[{"type":4,"match_sub_type":true},{"type":129}]}]"#,
            ),
            (
                "--identity world",
                r#"[{"source_identity":[2]},{"destination_identity":[2]}]"#,
            ),
            ("--allowlist {\"uuid\":[\"a\"]}{}", r#"[{"uuid":["a"]},{}]"#),
        ] {
            let expected: Vec<FlowFilter> = serde_json::from_str(expected).expect(line);
            assert_eq!(
                read(line).map(|wanted| wanted.allow),
                Ok(expected),
                "{line}"
            );
        }
        for wrong in [
            "-t drop:to-endpoint",
            "--service a/b/c",
            "--drop-reason-desc POLICY_DENID",
            "--http-header a",
            "--ip-trace-id a",
            "--not --not --port 53",
            "--allowlist {\"pod\":[]}",
            "--denylist [",
            "--ip-version 5",
            "-n shop --service bank/web",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fault_names_the_flag_that_was_typed() {
        for (line, expected) in [
            ("--protocol tcpp", "--protocol: expected tcp, udp, "),
            (
                "--not --from-ip 10.0.0.0/33",
                "--from-ip: expected an address or a block ",
            ),
            ("-t x:y", "--type: expected one of drop, "),
            ("-l =", "--label: expected the key of a label at letter 1"),
            ("--http-path (", "--http-path: unclosed group"),
            (
                "--cel-expression _flow.verdikt==1",
                "--cel-expression: expected a field of flow.Flow, found \"verdikt\", at character ",
            ),
        ] {
            let fault = read(line).expect_err(line);
            assert!(fault.starts_with(expected), "{line}: {fault}");
        }
    }

    #[test]
    fn filters_that_are_printed_are_taken_again() {
        let wanted = read("--pod it's --port 80 --not --protocol udp").expect("filters");
        let text = raw_text(&wanted).expect("text");
        let expected = "allowlist:
    - '{\"source_pod\":[\"/it''s\"],\"source_port\":[\"80\"]}'
    - '{\"destination_pod\":[\"/it''s\"],\"destination_port\":[\"80\"]}'
denylist:
    - '{\"protocol\":[\"udp\"]}'
";
        assert_eq!(text, expected);
        let again = read(
            "--allowlist {\"source_pod\":[\"/it's\"],\"source_port\":[\"80\"]} \
                          --allowlist {\"destination_pod\":[\"/it's\"],\"destination_port\":[\"80\"]} \
                          --denylist {\"protocol\":[\"udp\"]}",
        );
        assert_eq!(again, Ok(wanted));
        assert!(raw_text(&read("--drop-reason conflict").expect("a filter")).is_err());
    }

    #[test]
    fn nothing_asked_for_is_everything() {
        assert_eq!(read(""), Ok(Wanted::default()));
    }
}
