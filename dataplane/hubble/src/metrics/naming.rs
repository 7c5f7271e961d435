//! The names of an end, as contexts ask for them: written in place, for it is done for each event.

use super::context::{Naming, Part};
use portcullis_observe::Party;
use std::fmt::Write;

/// Labels that name the application, the first one present counts.
const APP_LABELS: [&str; 3] = ["app.kubernetes.io/name", "k8s-app", "app"];

/// Writes a name, and says whether there is one.
pub(super) fn write(key: &mut String, party: &Party<'_>, naming: Naming) -> bool {
    let before = key.len();
    match naming {
        Naming::Identity => write_list(key, party.labels),
        Naming::Namespace => write_part(key, party, Part::Namespace),
        Naming::PodName => write_part(key, party, Part::Pod),
        Naming::Ip => write_part(key, party, Part::Ip),
        Naming::WorkloadName => write_part(key, party, Part::Workload),
        Naming::App => write_part(key, party, Part::App),
        Naming::Dns => write_list(key, party.names),
        Naming::ReservedIdentity => key.push_str(reserved(party)),
        Naming::Pod => write_in_namespace(key, party, party.pod_name),
        Naming::Workload => {
            write_in_namespace(key, party, party.workload().map_or("", |(_, name)| name));
        }
    }
    key.len() > before
}

/// Writes one part of a name; nothing where there is none.
pub(super) fn write_part(key: &mut String, party: &Party<'_>, part: Part) {
    match part {
        Part::Ip => {
            if let Some(address) = party.address {
                let _ = write!(key, "{address}");
            }
        }
        Part::Pod => key.push_str(party.pod_name),
        Part::Namespace => key.push_str(party.namespace),
        Part::Workload => key.push_str(party.workload().map_or("", |(_, name)| name)),
        Part::WorkloadKind => key.push_str(party.workload().map_or("", |(kind, _)| kind)),
        Part::App => key.push_str(app(party)),
    }
}

fn write_in_namespace(key: &mut String, party: &Party<'_>, name: &str) {
    if !name.is_empty() {
        key.push_str(party.namespace);
        key.push('/');
        key.push_str(name);
    }
}

fn write_list(key: &mut String, list: &[String]) {
    for (position, label) in list.iter().enumerate() {
        if position > 0 {
            key.push(',');
        }
        key.push_str(label);
    }
}

fn app<'a>(party: &Party<'a>) -> &'a str {
    let value_of = |wanted: &str| {
        party.labels.iter().find_map(|label| {
            let label = label.strip_prefix("k8s:").unwrap_or(label);
            label.strip_prefix(wanted)?.strip_prefix('=')
        })
    };
    APP_LABELS.into_iter().find_map(value_of).unwrap_or("")
}

/// `reserved:world`; of several the API server, for it says most.
fn reserved<'a>(party: &Party<'a>) -> &'a str {
    let is_reserved = |label: &&String| label.starts_with("reserved:");
    let mut reserved = party.labels.iter().filter(is_reserved);
    let api = reserved.clone().find(|l| *l == "reserved:kube-apiserver");
    api.or_else(|| reserved.next()).map_or("", String::as_str)
}
