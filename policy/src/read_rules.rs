//! The oracle: what rules say of one connection, read plainly from the semantics, one rule after
//! the other, without identities and without tables. Slow, and only for tests.

use crate::label::pod_labels;
use crate::read_matches::{carried, carries_one, selects};
use crate::{
    Action, AllowLocalhost, Authentication, Cidr, Decision, Direction, Document, DocumentOrigin,
    EnforcementMode, Entity, Family, Groups, Half, Item, KnownNames, NodeFacts, Object, Order,
    Peer, Peers, Pod, PortMatch, Ports, Proof, Protocol, Section, Settings, Tier, Traffic,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A world to ask.
pub(crate) struct World<'a> {
    pub(crate) documents: &'a [Document],
    pub(crate) facts: &'a NodeFacts,
    pub(crate) settings: &'a Settings,
    pub(crate) names: &'a KnownNames,
}

/// Who has an address.
pub(crate) enum Who<'a> {
    Pod(&'a Pod),
    Host,
    RemoteNode,
    Outside,
    Nobody,
}

/// Where a rule was written.
pub(crate) type Place = (DocumentOrigin, Option<usize>, Section, usize);

/// A rule that matches, with what of its traffic does.
struct Hit<'a> {
    place: Place,
    item: &'a Item,
    matched: Vec<Option<&'a PortMatch>>,
}

impl Hit<'_> {
    /// The best precedence of a proxy; None when nothing is looked at on some of its traffic only.
    fn precedence(&self) -> Option<u8> {
        let inspections = self.matched.iter().flatten();
        inspections
            .filter_map(|one| Some(one.inspection.as_ref()?.precedence()))
            .min()
    }
}

impl World<'_> {
    /// What the rules say of traffic between the pod and whoever has the address.
    pub(crate) fn read_rules(
        &self,
        subject: &Pod,
        direction: Direction,
        peer: IpAddr,
        protocol: Protocol,
        port: u16,
    ) -> (Decision, Option<Place>) {
        let who = self.who(peer);
        if matches!(who, Who::Nobody) {
            return (Decision::DenyDefault, None);
        }
        if self.settings.enforcement_mode == EnforcementMode::Never {
            return (Decision::AllowUnpoliced, None);
        }
        let rules = self.selecting(subject, direction);
        let has_rules = !rules.is_empty();
        let default_deny = rules.iter().any(|(_, _, half)| half.default_deny);
        let mut hits: Vec<Hit<'_>> = Vec::new();
        let mut items: Vec<&Item> = Vec::new();
        for (origin, spec, half) in rules {
            for item in &half.items {
                if default_deny && item.order.tier == Tier::Baseline {
                    continue;
                }
                items.push(item);
                let matched = carried(item, direction, subject, &who, protocol, port);
                if !matched.is_empty() && self.means(item, &who, peer) {
                    let place = (origin.clone(), spec, item.section, item.index);
                    hits.push(Hit {
                        place,
                        item,
                        matched,
                    });
                }
            }
        }
        if let Some(said) = first_said(&hits, &items, protocol, port) {
            return said;
        }
        let always = self.settings.enforcement_mode == EnforcementMode::Always;
        let is_excepted = has_rules
            && direction == Direction::Ingress
            && matches!(who, Who::Host)
            && self.settings.allow_localhost == AllowLocalhost::Always;
        let decision = if !has_rules && !always {
            Decision::AllowUnpoliced
        } else if has_rules && !default_deny && !always {
            Decision::AllowDefault
        } else if is_excepted {
            Decision::AllowLocalHost
        } else {
            Decision::DenyDefault
        };
        (decision, None)
    }

    /// The halves of rules that select the pod, in document order.
    fn selecting(
        &self,
        subject: &Pod,
        direction: Direction,
    ) -> Vec<(DocumentOrigin, Option<usize>, &Half)> {
        let labels = self.labels(&Who::Pod(subject), IpAddr::from([0, 0, 0, 0]));
        let mut documents: Vec<_> = self.documents.iter().collect();
        documents.sort_by_key(|document| &document.origin);
        let mut found = Vec::new();
        for document in documents {
            let Some(policy) = document.object.policy().filter(|policy| !policy.is_audited) else {
                continue;
            };
            for rule in &policy.rules {
                if let Some(half) = rule.half(direction)
                    && !rule.is_about_nodes
                    && selects(&rule.subject, &labels)
                {
                    found.push((document.origin.clone(), rule.spec, half));
                }
            }
        }
        found
    }

    fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.documents
            .iter()
            .filter_map(|document| match &document.object {
                Object::Pod(pod) if !pod.host_network && !pod.has_finished => Some(pod),
                _ => None,
            })
    }

    fn who(&self, address: IpAddr) -> Who<'_> {
        let among_pods = |(network, length): &(IpAddr, u8)| {
            Cidr::new(*network, *length).is_some_and(|cidr| cidr.has_address(address))
        };
        if let Some(pod) = self.pods().find(|pod| pod.addresses.contains(&address)) {
            Who::Pod(pod)
        } else if self.facts.node_addresses.contains(&address) {
            Who::Host
        } else if self.facts.remote_node_addresses.contains(&address) {
            Who::RemoteNode
        } else if self.facts.pod_cidrs.iter().any(among_pods)
            || (!self.settings.ipv6 && address.is_ipv6())
        {
            Who::Nobody
        } else {
            Who::Outside
        }
    }

    /// Labels as text, without those of address blocks.
    fn labels(&self, who: &Who<'_>, address: IpAddr) -> Vec<String> {
        let api_server = |addresses: &[IpAddr]| {
            addresses
                .iter()
                .any(|address| self.facts.api_server_addresses.contains(address))
        };
        let mut labels = match who {
            Who::Pod(pod) => {
                let none = BTreeMap::new();
                let namespace = self
                    .documents
                    .iter()
                    .find_map(|document| match &document.object {
                        Object::Namespace(namespace) if namespace.name == pod.namespace => {
                            Some(&namespace.labels)
                        }
                        _ => None,
                    });
                let namespace = namespace.unwrap_or(&none);
                let account = pod.service_account.as_deref();
                let cluster = &self.settings.cluster_name;
                let labels = pod_labels(&pod.namespace, namespace, &pod.labels, account, cluster);
                return labels
                    .iter()
                    .map(|label| format!("k8s:{}={}", label.key, label.value))
                    .collect();
            }
            Who::Host => vec!["reserved:host="],
            Who::RemoteNode => vec!["reserved:remote-node="],
            Who::Outside if !self.settings.ipv6 => vec!["reserved:world="],
            Who::Outside if address.is_ipv4() => vec!["reserved:world-ipv4="],
            Who::Outside => vec!["reserved:world-ipv6="],
            Who::Nobody => Vec::new(),
        };
        let runs_api_server = match who {
            Who::Host => api_server(&self.facts.node_addresses),
            Who::RemoteNode | Who::Outside => api_server(&[address]),
            Who::Pod(_) | Who::Nobody => false,
        };
        if runs_api_server {
            labels.push("reserved:kube-apiserver=");
        }
        labels.into_iter().map(str::to_owned).collect()
    }

    /// Whether the address lies in a block that some document speaks of with these words.
    fn is_in_group(&self, groups: &Groups, address: IpAddr) -> bool {
        self.documents
            .iter()
            .any(|document| match &document.object {
                Object::CidrGroup(group) => {
                    let labels: Vec<_> = group
                        .labels
                        .iter()
                        .map(|(key, value)| format!("k8s:{key}={value}"))
                        .collect();
                    let is_meant = match groups {
                        Groups::Named(name) => group.name == *name,
                        Groups::Labelled(selector) => selects(selector, &labels),
                    };
                    is_meant && group.cidrs.iter().any(|cidr| cidr.has_address(address))
                }
                _ => false,
            })
    }

    fn means(&self, item: &Item, who: &Who<'_>, address: IpAddr) -> bool {
        let Peers::Of(peers) = &item.peers else {
            return true;
        };
        let labels = self.labels(who, address);
        let is = |name: &str| labels.contains(&format!("reserved:{name}="));
        let in_cluster = |who: &Who<'_>| {
            matches!(who, Who::Pod(_) | Who::Host | Who::RemoteNode) || is("kube-apiserver")
        };
        peers.iter().any(|peer| match peer {
            Peer::Labels(selector) => selects(selector, &labels),
            Peer::Block { cidr, except } => {
                matches!(who, Who::Outside)
                    && cidr.has_address(address)
                    && !except.iter().any(|hole| hole.has_address(address))
            }
            Peer::Group { groups, except } => {
                matches!(who, Who::Outside)
                    && self.is_in_group(groups, address)
                    && !except.iter().any(|hole| hole.has_address(address))
            }
            Peer::Name(pattern) => {
                let mut known = self.names.0.iter();
                matches!(who, Who::Outside)
                    && known.any(|(name, addresses)| {
                        pattern.matches(name) && addresses.contains(&address)
                    })
            }
            Peer::Service(_) => unreachable!("no random world has services"),
            Peer::Entity(Entity::All) => true,
            Peer::Entity(Entity::World) => matches!(who, Who::Outside),
            Peer::Entity(Entity::WorldIpv4) => {
                self.settings.ipv6
                    && matches!(who, Who::Outside)
                    && Family::of(address) == Family::V4
            }
            Peer::Entity(Entity::WorldIpv6) => {
                matches!(who, Who::Outside) && Family::of(address) == Family::V6
            }
            Peer::Entity(Entity::Host) => matches!(who, Who::Host),
            Peer::Entity(Entity::RemoteNode) => matches!(who, Who::RemoteNode),
            Peer::Entity(Entity::KubeApiserver) => is("kube-apiserver"),
            Peer::Entity(Entity::Cluster | Entity::ClusterMesh) => in_cluster(who),
            Peer::Entity(
                Entity::Init | Entity::Health | Entity::Ingress | Entity::Unmanaged | Entity::None,
            ) => false,
        })
    }
}

/// What the rules that match say, tier by tier; None when none of them decides.
fn first_said(
    hits: &[Hit<'_>],
    items: &[&Item],
    protocol: Protocol,
    port: u16,
) -> Option<(Decision, Option<Place>)> {
    let mut orders: Vec<Order> = hits.iter().map(|hit| hit.item.order).collect();
    orders.sort_unstable();
    orders.dedup();
    let mut passed = None;
    for order in orders {
        if passed == Some(order.tier) {
            continue;
        }
        let of = |action| {
            let hits = hits.iter();
            hits.filter(move |hit| hit.item.order == order && hit.item.action == action)
        };
        if let Some(deny) = of(Action::Deny).next() {
            return Some((Decision::DenyRule, Some(deny.place.clone())));
        }
        if of(Action::Allow).next().is_some() {
            let allows: Vec<&Hit<'_>> = of(Action::Allow).collect();
            return Some(allow(&allows, items, protocol, port));
        }
        if of(Action::Pass).next().is_some() {
            passed = Some(order.tier);
        }
    }
    None
}

/// What several allows of one order say: proxies before plain ones, the first of those is named.
fn allow(
    allows: &[&Hit<'_>],
    items: &[&Item],
    protocol: Protocol,
    port: u16,
) -> (Decision, Option<Place>) {
    let best = allows.iter().filter_map(|hit| hit.precedence()).min();
    let mut winners = Vec::new();
    for hit in allows {
        for matched in &hit.matched {
            let precedence = matched.and_then(|one| Some(one.inspection.as_ref()?.precedence()));
            if precedence == best {
                winners.push((*hit, *matched));
            }
        }
    }
    let first = winners.first().expect("one of them is best");
    let place = Some(first.0.place.clone());
    let is_contradicted = winners.iter().any(|(hit, matched)| {
        let rivals = items.iter().filter(|other| {
            other.order == hit.item.order
                && other.action == Action::Allow
                && other.peers == hit.item.peers
        });
        matched.is_some_and(|matched| {
            rivals.into_iter().any(|other| {
                let Traffic::Of(theirs) = &other.traffic else {
                    return false;
                };
                theirs.iter().any(|their| {
                    their.ports == matched.ports
                        && carries_one(their, None, protocol, port)
                        && want_different_things((hit.item, matched), (other, their))
                })
            })
        })
    });
    if is_contradicted {
        return (Decision::Conflict, place);
    }
    let says = winners.iter().filter_map(|(hit, matched)| {
        let width = match matched.map(|one| &one.ports) {
            None => u32::MAX,
            Some(Ports::Range(first, last)) => u32::from(last - first),
            Some(Ports::Named(_)) => 0,
        };
        let is_broad = hit.item.peers == Peers::Any;
        Some((width, is_broad, std::cmp::Reverse(hit.item.authentication?)))
    });
    let proof = match says.min().map(|says| says.2.0) {
        None | Some(Authentication::Disabled) => None,
        Some(Authentication::Required) => Some(Proof::Mutual),
        Some(Authentication::AlwaysFails) => Some(Proof::Impossible),
    };
    let proxy = first
        .1
        .and_then(|one| Some(one.inspection.as_ref()?.proxy()));
    let decision = match (proxy, proof) {
        (Some(proxy), proof) => Decision::Redirect(proxy, proof),
        (None, Some(proof)) => Decision::Authenticate(proof),
        (None, None) => Decision::Allow,
    };
    (decision, place)
}

/// Whether two descriptions of the same traffic cannot both be followed. [policy-semantics §7.3]
fn want_different_things(one: (&Item, &PortMatch), their: (&Item, &PortMatch)) -> bool {
    let proofs = match (one.0.authentication, their.0.authentication) {
        (Some(left), Some(right)) => left != right,
        _ => false,
    };
    let proxies = match (&one.1.inspection, &their.1.inspection) {
        (Some(left), Some(right)) => !left.agrees_with(right),
        _ => false,
    };
    proofs || proxies
}
