//! What names stand for: groups, services and DNS names become labels and address blocks.

use crate::label::{Label, LabelSource, NAMESPACE_KEY};
use crate::{
    Backends, Cidr, CidrGroup, Compat, Document, Groups, Item, KeySource, NamePattern, Object,
    Operator, Peer, Peers, Requirement, Selector, Service, ServiceChoice, Services, Settings,
    Traffic,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The names that pods of this node have resolved, with their addresses.
///
/// [policy-semantics §9.2]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownNames(pub BTreeMap<String, BTreeSet<IpAddr>>);

/// What names can stand for.
pub(crate) struct Meanings<'a> {
    groups: Vec<&'a CidrGroup>,
    services: Vec<&'a Service>,
    backends: Vec<&'a Backends>,
    names: &'a KnownNames,
    compat: Compat,
}

/// Whether what the peers mean can change without the rule.
pub(crate) fn is_by_name(peers: &Peers) -> bool {
    let Peers::Of(peers) = peers else {
        return false;
    };
    peers
        .iter()
        .any(|peer| matches!(peer, Peer::Group { .. } | Peer::Service(_) | Peer::Name(_)))
}

impl<'a> Meanings<'a> {
    pub(crate) fn new(
        documents: impl Iterator<Item = &'a Document>,
        names: &'a KnownNames,
        settings: &Settings,
    ) -> Self {
        let mut meanings = Self {
            groups: Vec::new(),
            services: Vec::new(),
            backends: Vec::new(),
            names,
            compat: settings.compat,
        };
        for document in documents {
            match &document.object {
                Object::CidrGroup(group) => meanings.groups.push(group),
                Object::Service(service) => meanings.services.push(service),
                Object::Backends(backends) => meanings.backends.push(backends),
                _ => {}
            }
        }
        meanings
    }

    /// The peers of an item, without names.
    pub(crate) fn resolve(&self, item: &Item) -> Peers {
        let Peers::Of(peers) = &item.peers else {
            return Peers::Any;
        };
        let mut resolved = Vec::new();
        for peer in peers {
            match peer {
                Peer::Group { groups, except } => self.group(groups, except, &mut resolved),
                Peer::Service(services) => self.service(services, &mut resolved),
                Peer::Name(pattern) => self.name(pattern, &mut resolved),
                Peer::Labels(_) | Peer::Block { .. } | Peer::Entity(_) => {
                    resolved.push(peer.clone())
                }
            }
        }
        let is_of_services = matches!(peers.first(), Some(Peer::Service(_)));
        let has_ports = matches!(item.traffic, Traffic::Of(_));
        // The reference engine takes services that are not there, with ports, for everyone.
        // [policy-semantics §15.5]
        if is_of_services && resolved.is_empty() && has_ports && self.compat == Compat::Cilium {
            return Peers::Any;
        }
        Peers::Of(resolved)
    }

    fn group(&self, wanted: &Groups, except: &[Cidr], resolved: &mut Vec<Peer>) {
        let is_meant = |group: &&&CidrGroup| match wanted {
            Groups::Named(name) => group.name == *name,
            Groups::Labelled(selector) => selector.selects(&labels(&group.labels)),
        };
        for group in self.groups.iter().filter(is_meant) {
            resolved.extend(group.cidrs.iter().map(|cidr| Peer::Block {
                cidr: *cidr,
                except: except.to_vec(),
            }));
        }
    }

    fn service(&self, wanted: &Services, resolved: &mut Vec<Peer>) {
        let is_meant = |service: &&&Service| {
            wanted
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == service.namespace)
                && match &wanted.which {
                    ServiceChoice::Named(name) => service.name == *name,
                    ServiceChoice::Labelled(selector) => selector.selects(&labels(&service.labels)),
                }
        };
        for service in self.services.iter().filter(is_meant) {
            if let Some(selector) = &service.selector {
                let mut requirements = selector.requirements.clone();
                requirements.push(Requirement {
                    source: KeySource::K8s,
                    key: NAMESPACE_KEY.to_owned(),
                    operator: Operator::In(vec![service.namespace.clone()]),
                });
                resolved.push(Peer::Labels(Selector { requirements }));
                continue;
            }
            let behind = self.backends.iter().filter(|backends| {
                backends.namespace == service.namespace && backends.service == service.name
            });
            resolved.extend(
                behind
                    .flat_map(|backends| &backends.addresses)
                    .map(|a| host(*a)),
            );
        }
    }

    fn name(&self, pattern: &NamePattern, resolved: &mut Vec<Peer>) {
        let known = self
            .names
            .0
            .iter()
            .filter(|(name, _)| pattern.matches(name));
        let addresses: BTreeSet<IpAddr> = known
            .flat_map(|(_, addresses)| addresses)
            .copied()
            .collect();
        resolved.extend(addresses.into_iter().map(host));
    }
}

fn host(address: IpAddr) -> Peer {
    Peer::Block {
        cidr: Cidr::host(address),
        except: Vec::new(),
    }
}

fn labels(labels: &BTreeMap<String, String>) -> Vec<Label> {
    labels
        .iter()
        .map(|(key, value)| Label::new(LabelSource::K8s, key, value))
        .collect()
}
