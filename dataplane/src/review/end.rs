//! One end of a question: a pod, labels that some pod could have, an address, a reserved identity.

use super::Reading;
use portcullis_policy::{Identity, NamedPort, Pod, PolicyIndex, Tables};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The label that says which namespace a pod lives in.
const NAMESPACE_KEY: &str = "io.kubernetes.pod.namespace";
/// Labels of the namespace, as a pod has them.
const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";
const SERVICE_ACCOUNT_KEY: &str = "io.cilium.k8s.policy.serviceaccount";

/// One end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// `namespace/pod`, `host`, a block, an address.
    pub name: String,
    /// Who it is.
    pub identity: Identity,
    /// The policy it is bound by; None where no policy of ours binds: the node, the world.
    pub policy: Option<PolicyIndex>,
    /// Names it has for ports.
    pub named_ports: Vec<NamedPort>,
}

/// One end as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EndView {
    /// `namespace/pod`, `host`, a block, an address.
    pub name: String,
    /// Number of its identity; zero for nobody's.
    pub identity: u32,
    /// Its labels.
    pub labels: Vec<String>,
}

impl End {
    /// A pod.
    #[must_use]
    pub fn of_pod(tables: &Tables, pod: &Pod) -> Self {
        let (namespace, name) = (pod.namespace.as_str(), pod.name.as_str());
        Self {
            name: format!("{namespace}/{name}"),
            identity: tables
                .identity_of_pod(namespace, name)
                .unwrap_or(Identity::UNKNOWN),
            policy: tables.policy_of(namespace, name),
            named_ports: pod.named_ports.clone(),
        }
    }

    /// Who is no pod: the node, the world, a block.
    #[must_use]
    pub fn of_identity(tables: &Tables, identity: Identity) -> Self {
        let labels = tables.labels(identity);
        let named = |prefix: &str| labels.iter().find_map(|label| label.strip_prefix(prefix));
        let name = named("cidr:")
            .or_else(|| named("reserved:"))
            .map_or_else(|| identity.0.to_string(), str::to_owned);
        Self {
            name,
            identity,
            policy: None,
            named_ports: Vec::new(),
        }
    }

    /// As it is shown.
    #[must_use]
    pub fn view(&self, tables: &Tables) -> EndView {
        EndView {
            name: self.name.clone(),
            identity: self.identity.0,
            labels: tables.labels(self.identity).to_vec(),
        }
    }
}

/// What was asked for, before it is looked up.
enum Named {
    Address(IpAddr),
    Reserved(String),
    Labels(Box<Pod>),
    Pod(String),
}

/// Finds both ends of a question. Where one is given by its labels, the reading that is returned
/// has a pod with them.
///
/// # Errors
/// What was expected and what was found.
pub fn find_ends<'a>(
    reading: &'a Reading,
    from: &str,
    to: &str,
) -> Result<(Cow<'a, Reading>, End, End), String> {
    let from = read("from", from)?;
    let to = read("to", to)?;
    let asked: Vec<Pod> = [&from, &to]
        .into_iter()
        .filter_map(|named| match named {
            Named::Labels(pod) => Some((**pod).clone()),
            _ => None,
        })
        .collect();
    let reading = if asked.is_empty() {
        Cow::Borrowed(reading)
    } else {
        Cow::Owned(reading.with_pods(&asked)?)
    };
    let from = look_up(&reading, &from)?;
    let to = look_up(&reading, &to)?;
    Ok((reading, from, to))
}

fn read(which: &str, text: &str) -> Result<Named, String> {
    if let Ok(address) = text.parse() {
        return Ok(Named::Address(address));
    }
    if text.starts_with("reserved:") {
        return Ok(Named::Reserved(text.to_owned()));
    }
    if text.contains('=') {
        return read_labels(which, text).map(|pod| Named::Labels(Box::new(pod)));
    }
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err(format!(
            "{which}: expected a pod, labels, an address or reserved:NAME, found \"{text}\""
        ));
    }
    Ok(Named::Pod(text.to_owned()))
}

/// `app=web,k8s:io.kubernetes.pod.namespace=shop` as a pod that has these labels.
fn read_labels(which: &str, text: &str) -> Result<Pod, String> {
    let mut pod = Pod {
        namespace: "default".into(),
        // No Kubernetes name: it is never taken for a pod of the documents.
        name: format!("({text})"),
        ..Pod::default()
    };
    let mut labels = BTreeMap::new();
    for label in text.split(',') {
        let (key, value) = label.trim().split_once('=').ok_or_else(|| {
            format!("{which}: expected labels such as app=web,tier=front, found \"{label}\"")
        })?;
        let key = key.strip_prefix("k8s:").unwrap_or(key);
        if key.starts_with(NAMESPACE_LABELS) {
            return Err(format!(
                "{which}: expected labels of a pod; those of a namespace come from its document, \
                 found \"{label}\""
            ));
        }
        match key {
            NAMESPACE_KEY => pod.namespace = value.to_owned(),
            SERVICE_ACCOUNT_KEY => pod.service_account = Some(value.to_owned()),
            _ => {
                labels.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    pod.labels = labels;
    Ok(pod)
}

fn look_up(reading: &Reading, named: &Named) -> Result<End, String> {
    let tables = &reading.tables;
    match named {
        Named::Labels(pod) => {
            let mut end = End::of_pod(tables, pod);
            end.name.clone_from(&pod.name);
            Ok(end)
        }
        Named::Pod(name) => find_pod(reading, name).map(|pod| End::of_pod(tables, pod)),
        Named::Address(address) => {
            if let Some(pod) = reading.pods().find(|pod| pod.addresses.contains(address)) {
                return Ok(End::of_pod(tables, pod));
            }
            let mut end = End::of_identity(tables, tables.identity_of(*address));
            end.name = match end.identity {
                Identity::UNKNOWN => address.to_string(),
                _ => format!("{address} ({})", end.name),
            };
            Ok(end)
        }
        Named::Reserved(label) => tables
            .identities()
            .find(|(identity, labels)| identity.is_reserved() && labels.contains(label))
            .map(|(identity, _)| End {
                policy: tables.policy_of_reserved(identity),
                ..End::of_identity(tables, identity)
            })
            .ok_or_else(|| {
                let known: Vec<_> = tables
                    .identities()
                    .filter(|(identity, _)| identity.is_reserved())
                    .filter_map(|(_, labels)| labels.first().map(String::as_str))
                    .collect();
                format!("expected one of {}, found \"{label}\"", known.join(", "))
            }),
    }
}

fn find_pod<'a>(reading: &'a Reading, wanted: &str) -> Result<&'a Pod, String> {
    let found: Vec<&Pod> = match wanted.split_once('/') {
        Some((namespace, name)) => reading
            .pods()
            .filter(|pod| pod.namespace == namespace && pod.name == name)
            .collect(),
        None => reading.pods().filter(|pod| pod.name == wanted).collect(),
    };
    match found[..] {
        [pod] => Ok(pod),
        [] => Err(format!(
            "expected a pod of these documents (NAMESPACE/NAME), labels (app=web), an address or \
             reserved:NAME, found \"{wanted}\""
        )),
        _ => Err(format!(
            "expected a pod with its namespace ({} have this name), found \"{wanted}\"",
            found.len()
        )),
    }
}
