//! One end of a connection, as metrics name it: borrowed, for it is asked about each event.

use super::context::{Naming, Part};
use super::workload::{self, Workload};
use portcullis_engine::{EndpointId, Record};
use portcullis_observe::Names;
use portcullis_policy::Identity;
use std::fmt::Write;
use std::net::IpAddr;

/// Labels that name the application, the first one present counts.
const APP_LABELS: [&str; 3] = ["app.kubernetes.io/name", "k8s-app", "app"];

/// An end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Party<'a> {
    /// Namespace and name, for a pod.
    pub pod: Option<(&'a str, &'a str)>,
    identity: Identity,
    labels: &'a [String],
    address: Option<IpAddr>,
}

impl<'a> Party<'a> {
    /// Source and destination of a record.
    pub fn both(record: &Record, names: &'a Names) -> (Self, Self) {
        let (from, to) = record.addresses.unzip();
        (
            Self::of(record.source_identity, record.from, from, names),
            Self::of(record.destination_identity, record.to, to, names),
        )
    }

    fn of(
        identity: Identity,
        endpoint: Option<EndpointId>,
        address: Option<IpAddr>,
        names: &'a Names,
    ) -> Self {
        let here = endpoint
            .and_then(|id| names.endpoints.get(&id))
            .map(|(namespace, name, _)| (namespace.as_str(), name.as_str()));
        let known = || {
            let pod = names.pods.get(&address?)?;
            Some((pod.0.as_str(), pod.1.as_str()))
        };
        let tables = names.tables.as_deref();
        Self {
            pod: here.or_else(known),
            identity,
            labels: tables.map_or(&[], |tables| tables.labels(identity)),
            address,
        }
    }

    /// Whether policy knows it as the node itself.
    pub fn is_host(&self) -> bool {
        self.identity == Identity::HOST
    }

    /// Writes a name, and says whether there is one.
    pub fn write(&self, key: &mut String, naming: Naming) -> bool {
        let before = key.len();
        match naming {
            Naming::Identity => self.write_labels(key),
            Naming::Namespace => self.write_part(key, Part::Namespace),
            Naming::PodName => self.write_part(key, Part::Pod),
            Naming::Ip => self.write_part(key, Part::Ip),
            Naming::WorkloadName => self.write_part(key, Part::Workload),
            Naming::App => self.write_part(key, Part::App),
            Naming::Pod => {
                if let Some((namespace, name)) = self.pod {
                    let _ = write!(key, "{namespace}/{name}");
                }
            }
            Naming::Workload => {
                if let (Some((namespace, _)), Some(workload)) = (self.pod, self.workload()) {
                    let _ = write!(key, "{namespace}/{}", workload.name);
                }
            }
            Naming::ReservedIdentity => key.push_str(self.reserved()),
            // No proxy sees names yet, so no address has one.
            Naming::Dns => {}
        }
        key.len() > before
    }

    /// Writes one part of a name; nothing where there is none.
    pub fn write_part(&self, key: &mut String, part: Part) {
        match part {
            Part::Ip => {
                if let Some(address) = self.address {
                    let _ = write!(key, "{address}");
                }
            }
            Part::Pod => key.push_str(self.pod.map_or("", |(_, name)| name)),
            Part::Namespace => key.push_str(self.pod.map_or("", |(namespace, _)| namespace)),
            Part::Workload => key.push_str(self.workload().map_or("", |workload| workload.name)),
            Part::WorkloadKind => {
                key.push_str(self.workload().map_or("", |workload| workload.kind));
            }
            Part::App => key.push_str(self.app()),
        }
    }

    fn workload(&self) -> Option<Workload<'a>> {
        self.pod.map(|(_, name)| workload::of_pod(name))
    }

    fn app(&self) -> &'a str {
        let value_of = |wanted: &str| {
            self.labels.iter().find_map(|label| {
                let label = label.strip_prefix("k8s:").unwrap_or(label);
                label.strip_prefix(wanted)?.strip_prefix('=')
            })
        };
        APP_LABELS.into_iter().find_map(value_of).unwrap_or("")
    }

    /// `reserved:world`; of several the API server, for it says most.
    fn reserved(&self) -> &'a str {
        let mut reserved = self.labels.iter().filter(|l| l.starts_with("reserved:"));
        let api = "reserved:kube-apiserver";
        let first = reserved.clone().find(|label| *label == api);
        first.or_else(|| reserved.next()).map_or("", String::as_str)
    }

    fn write_labels(&self, key: &mut String) {
        for (position, label) in self.labels.iter().enumerate() {
            if position > 0 {
                key.push(',');
            }
            key.push_str(label);
        }
    }
}
