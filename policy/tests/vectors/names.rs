//! Patterns of names, and how long names live.

use super::{are_public, cases, list, none_of, ran, text};
use portcullis_policy::{NameCache, NameCacheSettings, NamePattern, Seconds};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

#[test]
fn patterns_select_the_names_that_the_reference_selects() {
    let Some(cases) = cases("fqdn-pattern") else {
        return;
    };
    let (mut rows, mut differences) = (0, Vec::new());
    for case in &cases {
        for (pattern, row) in list(case, "patterns").zip(list(case, "rows")) {
            let read = match pattern["matchName"].as_str() {
                Some(name) => NamePattern::name(name),
                None => NamePattern::pattern(text(pattern, "matchPattern")),
            };
            let Some(read) = read else {
                if row != "reject" {
                    differences.push(format!("{pattern}: refused"));
                }
                continue;
            };
            for (name, expected) in list(case, "names").zip(row.as_array().into_iter().flatten()) {
                rows += 1;
                if read.matches(name.as_str().expect("text")) != (expected == 1) {
                    differences.push(format!("{pattern} {name}: not {expected}"));
                }
            }
        }
    }
    let verdicts = format!("{rows} pairs of pattern and name");
    ran("fqdn-pattern", &verdicts, &differences);
    none_of(&differences);
    assert!(!are_public() || rows >= 1000, "only {rows} pairs");
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().expect("a number")
}

fn addresses(value: &Value) -> Vec<IpAddr> {
    let list = value.as_array().into_iter().flatten();
    list.map(|ip| ip.as_str().expect("text").parse().expect("an address"))
        .collect()
}

fn play(event: &Value, cache: &mut NameCache) {
    let now = Seconds(number(event, "t"));
    if let Some(answer) = event["dns"].as_array() {
        let (pod, name) = (&answer[0], &answer[1]);
        let learned = cache.learn(
            pod.as_str().expect("text"),
            name.as_str().expect("text"),
            &addresses(&answer[2]),
            answer[3].as_u64().expect("a lifetime"),
            now,
        );
        assert_eq!(learned, Ok(()));
    } else if let Some(alive) = event["ctgc"].as_object() {
        let alive = alive.iter().flat_map(|(pod, list)| {
            let list = addresses(list).into_iter();
            list.map(move |address| (pod.as_str(), address))
        });
        cache.note_connections(alive, now);
    } else {
        assert_eq!(event["gc"], true, "{event}");
        cache.clean_up(now);
    }
}

#[test]
fn names_live_as_long_as_they_do_in_the_reference() {
    let Some(cases) = cases("fqdn-cache") else {
        return;
    };
    let (mut rows, mut differences) = (0, Vec::new());
    for case in &cases {
        let mut cache = NameCache::new(NameCacheSettings {
            ttl_seconds_min: number(case, "minTTL"),
            addresses_per_name_max: usize::try_from(number(case, "maxIPsPerName")).expect("small"),
            idle_grace_seconds: number(case, "idleGrace"),
        });
        for (event, expected) in list(case, "events").zip(list(case, "snapshots")) {
            play(event, &mut cache);
            let known: BTreeMap<String, Vec<String>> = cache
                .names()
                .filter(|(_, addresses)| !addresses.is_empty())
                .map(|(name, addresses)| {
                    let mut texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                    texts.sort();
                    (name.to_owned(), texts)
                })
                .collect();
            let expected: BTreeMap<String, Vec<String>> = expected
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, list)| {
                    let mut texts: Vec<_> =
                        addresses(list).iter().map(ToString::to_string).collect();
                    texts.sort();
                    (name.clone(), texts)
                })
                .filter(|(_, addresses)| !addresses.is_empty())
                .collect();
            rows += 1;
            if known != expected {
                let name = text(case, "name");
                differences.push(format!("{name} after {event}: {known:?}, not {expected:?}"));
                break;
            }
        }
    }
    ran("fqdn-cache", &format!("{rows} events"), &differences);
    none_of(&differences);
    assert!(!are_public() || rows >= 1000, "only {rows} events");
}
