//! Services: which address and port stands for which backends, as one immutable table.

use crate::backend_set::unified;
use crate::{Backend, BackendSet};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use portcullis_policy::Protocol;
use siphasher::sip::SipHasher13;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The key of service names' hashes; no secret.
const ID_KEY: (u64, u64) = (0x706f_7274_6375_6c6c, 0x7365_7276_6963_6500);

/// Where a service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The address.
    pub address: IpAddr,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// What sort of address a service is reached at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendKind {
    /// An address of its own inside the cluster.
    ClusterIp,
    /// An address of its own that comes from outside: external or of a load balancer.
    External,
    /// An address of the node, whose other ports are the node's.
    NodePort,
}

/// What a table is built from: one port of one service, in one family of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceSpec {
    /// Namespace of the service.
    pub namespace: String,
    /// Name of the service.
    pub name: String,
    /// Name of the port; empty when it is the only one.
    pub port_name: String,
    /// Where it is reached.
    pub frontends: Vec<(Frontend, FrontendKind)>,
    /// What stands behind it, in any order.
    pub backends: Vec<Backend>,
    /// How long a client keeps its backend after its last connection; None when it does not.
    pub affinity: Option<Duration>,
    /// Whether only pods of this node serve what comes from outside the cluster.
    pub is_external_local: bool,
    /// Whether only pods of this node serve what comes from inside the cluster.
    pub is_internal_local: bool,
}

/// The place of a port of a service in one table: another table has others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceIndex(pub u32);

/// Names a port of a service in all tables, on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u64);

/// One port of one service, in one family of addresses.
#[derive(Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Namespace of the service.
    pub namespace: String,
    /// Name of the service.
    pub name: String,
    /// Name of the port; empty when it is the only one.
    pub port_name: String,
    /// Its name for memories that outlive a table.
    pub id: ServiceId,
    /// Where it is reached: what no other service had before it.
    pub frontends: Vec<(Frontend, FrontendKind)>,
    /// How long a client keeps its backend after its last connection; None when it does not.
    pub affinity: Option<Duration>,
    is_external_local: bool,
    is_internal_local: bool,
    all: Arc<BackendSet>,
    /// Those on this node, where they are asked for.
    local: Option<Arc<BackendSet>>,
}

/// A frontend that two services claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontendConflict {
    /// What both want.
    pub frontend: Frontend,
    /// Namespace and name of the service that has it.
    pub holder: (String, String),
    /// Namespace and name of the service that does not get it.
    pub refused: (String, String),
}

/// All services: shared by all workers, never changed.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct ServiceTable {
    services: Vec<ServicePort>,
    frontends: HashMap<Frontend, (ServiceIndex, FrontendKind)>,
    /// Every address of a frontend, and whether it belongs to services alone.
    addresses: HashMap<IpAddr, bool>,
    by_id: HashMap<ServiceId, ServiceIndex>,
}

impl ServiceTable {
    /// A table of these services, and the frontends that more than one of them claims: the first
    /// by namespace and name has it.
    ///
    /// What did not change since `previous` is not built again.
    #[must_use]
    pub fn new(services: &[ServiceSpec], previous: Option<&Self>) -> (Self, Vec<FrontendConflict>) {
        let mut sorted: Vec<&ServiceSpec> = services.iter().collect();
        sorted.sort_by_key(|spec| (&spec.namespace, &spec.name, &spec.port_name, family(spec)));
        let mut table = Self::default();
        let mut conflicts = Vec::new();
        for spec in sorted {
            let index = ServiceIndex(u32::try_from(table.services.len()).expect("fewer services"));
            let mut service = ServicePort::new(spec, previous);
            for (frontend, kind) in &spec.frontends {
                match table.frontends.entry(*frontend) {
                    Entry::Vacant(place) => {
                        place.insert((index, *kind));
                        service.frontends.push((*frontend, *kind));
                    }
                    Entry::Occupied(place) if place.get().0 == index => {}
                    Entry::Occupied(place) => {
                        let holder = &table.services[place.get().0.0 as usize];
                        conflicts.push(FrontendConflict {
                            frontend: *frontend,
                            holder: (holder.namespace.clone(), holder.name.clone()),
                            refused: (spec.namespace.clone(), spec.name.clone()),
                        });
                    }
                }
            }
            for (frontend, kind) in &service.frontends {
                let is_alone = *kind != FrontendKind::NodePort;
                let known = table.addresses.entry(frontend.address).or_insert(is_alone);
                *known &= is_alone;
            }
            table.by_id.insert(service.id, index);
            table.services.push(service);
        }
        (table, conflicts)
    }

    /// Whether any service is reached at this address.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains_key(&address)
    }

    /// Whether the address belongs to services alone: what `find` does not know there is nobody's,
    /// and dropped.
    #[must_use]
    pub fn is_virtual(&self, address: IpAddr) -> bool {
        self.addresses.get(&address).copied().unwrap_or(false)
    }

    /// The service that is reached there.
    #[must_use]
    pub fn find(&self, frontend: Frontend) -> Option<(ServiceIndex, &ServicePort, FrontendKind)> {
        let (index, kind) = *self.frontends.get(&frontend)?;
        Some((index, self.service(index)?, kind))
    }

    /// The service at this place.
    #[must_use]
    pub fn service(&self, index: ServiceIndex) -> Option<&ServicePort> {
        self.services.get(index.0 as usize)
    }

    /// The service of this name in all tables.
    #[must_use]
    pub fn service_of(&self, id: ServiceId) -> Option<&ServicePort> {
        self.service(*self.by_id.get(&id)?)
    }

    /// All services, sorted by namespace, name and port.
    pub fn iter(&self) -> impl Iterator<Item = &ServicePort> {
        self.services.iter()
    }

    /// Whether there are no services.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }
}

impl ServicePort {
    fn new(spec: &ServiceSpec, previous: Option<&ServiceTable>) -> Self {
        let id = id_of(spec);
        let old = previous.and_then(|previous| previous.service_of(id));
        let backends = || unified(spec.backends.iter().copied());
        let needs_local = spec.is_external_local || spec.is_internal_local;
        let local = needs_local.then(|| {
            let local = backends().into_iter().filter(|backend| backend.is_local);
            built(local.collect(), old.and_then(|old| old.local.as_ref()))
        });
        Self {
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            port_name: spec.port_name.clone(),
            id,
            frontends: Vec::with_capacity(spec.frontends.len()),
            affinity: spec.affinity,
            is_external_local: spec.is_external_local,
            is_internal_local: spec.is_internal_local,
            all: built(backends(), old.map(|old| &old.all)),
            local,
        }
    }

    /// The backends that serve what comes to a frontend of this kind.
    #[must_use]
    pub fn backends(&self, kind: FrontendKind) -> &BackendSet {
        let is_local = match kind {
            FrontendKind::ClusterIp => self.is_internal_local,
            FrontendKind::External | FrontendKind::NodePort => self.is_external_local,
        };
        match &self.local {
            Some(local) if is_local => local,
            _ => &self.all,
        }
    }

    /// All backends, wherever they are.
    #[must_use]
    pub fn all_backends(&self) -> &BackendSet {
        &self.all
    }
}

/// The set of these backends: the old one when it has the same.
fn built(backends: Vec<Backend>, old: Option<&Arc<BackendSet>>) -> Arc<BackendSet> {
    match old {
        Some(old) if *old.all() == *backends => Arc::clone(old),
        _ => Arc::new(BackendSet::new(backends)),
    }
}

/// Whether it is reached over IPv6.
fn family(spec: &ServiceSpec) -> bool {
    let first = spec.frontends.first();
    first.is_some_and(|(frontend, _)| frontend.address.is_ipv6())
}

fn id_of(spec: &ServiceSpec) -> ServiceId {
    let hasher = SipHasher13::new_with_keys(ID_KEY.0, ID_KEY.1);
    let family = if family(spec) { 6 } else { 4 };
    // No namespace and no name has a slash in it.
    let name = format!(
        "{}/{}/{family}/{}",
        spec.namespace, spec.name, spec.port_name
    );
    ServiceId(hasher.hash(name.as_bytes()))
}

#[cfg(test)]
mod tests;
