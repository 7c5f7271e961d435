//! The oracle: what rules say of one connection, read plainly from the semantics, one rule after
//! the other, without identities and without tables. Slow, and only for tests.

use crate::label::pod_labels;
use crate::{
    AllowLocalhost, Cidr, Decision, Direction, Document, EnforcementMode, Entity, Family, Item,
    KeySource, NodeFacts, Object, Operator, Peer, Peers, Pod, PortMatch, PortProtocol, Ports,
    Protocol, Requirement, RuleId, Selector, Settings, Traffic, Verdict,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A world to ask.
pub(crate) struct World<'a> {
    pub(crate) documents: &'a [Document],
    pub(crate) facts: &'a NodeFacts,
    pub(crate) settings: &'a Settings,
}

/// Who has an address.
enum Who<'a> {
    Pod(&'a Pod),
    Host,
    RemoteNode,
    Outside,
    Nobody,
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
    ) -> Verdict {
        let who = self.who(peer);
        let say = |decision, rule| Verdict { decision, rule };
        if matches!(who, Who::Nobody) {
            return say(Decision::DenyDefault, None);
        }
        if self.settings.enforcement_mode == EnforcementMode::Never {
            return say(Decision::AllowUnpoliced, None);
        }
        let subject_labels = self.labels(&Who::Pod(subject), peer);
        let (mut next_id, mut selected, mut default_deny) = (0, false, false);
        let (mut first_deny, mut first_allow) = (None, None);
        for policy in self
            .documents
            .iter()
            .filter_map(|document| document.object.policy())
        {
            for rule in &policy.rules {
                for half in [Direction::Ingress, Direction::Egress] {
                    let Some(section) = rule.half(half) else {
                        continue;
                    };
                    let is_about = half == direction && selects(&rule.subject, &subject_labels);
                    selected |= is_about;
                    default_deny |= is_about && section.default_deny;
                    for item in &section.items {
                        let id = RuleId(next_id);
                        next_id += 1;
                        let is_hit = is_about
                            && self.means(item, &who, peer)
                            && carries(item, direction, subject, &who, protocol, port);
                        if is_hit && item.section.is_deny() {
                            first_deny = first_deny.or(Some(id));
                        } else if is_hit {
                            first_allow = first_allow.or(Some(id));
                        }
                    }
                }
            }
        }
        let always = self.settings.enforcement_mode == EnforcementMode::Always;
        if first_deny.is_some() {
            say(Decision::DenyRule, first_deny)
        } else if first_allow.is_some() {
            say(Decision::Allow, first_allow)
        } else if !selected && !always {
            say(Decision::AllowUnpoliced, None)
        } else if selected && !default_deny && !always {
            say(Decision::AllowDefault, None)
        } else if selected
            && direction == Direction::Ingress
            && matches!(who, Who::Host)
            && self.settings.allow_localhost == AllowLocalhost::Always
        {
            say(Decision::AllowLocalHost, None)
        } else {
            say(Decision::DenyDefault, None)
        }
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

fn selects(selector: &Selector, labels: &[String]) -> bool {
    selector
        .requirements
        .iter()
        .all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &Requirement, labels: &[String]) -> bool {
    let sources: &[&str] = match requirement.source {
        KeySource::Any => &["k8s", "reserved"],
        KeySource::K8s => &["k8s"],
        KeySource::Reserved => &["reserved"],
    };
    let has = |value: &str| {
        sources
            .iter()
            .any(|source| labels.contains(&format!("{source}:{}={value}", requirement.key)))
    };
    let has_key = sources.iter().any(|source| {
        let start = format!("{source}:{}=", requirement.key);
        labels.iter().any(|label| label.starts_with(&start))
    });
    match &requirement.operator {
        Operator::In(values) => values.iter().any(|value| has(value)),
        Operator::NotIn(values) => !values.iter().any(|value| has(value)),
        Operator::Exists => has_key,
        Operator::DoesNotExist => !has_key,
    }
}

fn carries(
    item: &Item,
    direction: Direction,
    subject: &Pod,
    who: &Who<'_>,
    protocol: Protocol,
    port: u16,
) -> bool {
    let Traffic::Of(matches) = &item.traffic else {
        return true;
    };
    let destination = match (direction, who) {
        (Direction::Ingress, _) => Some(subject),
        (Direction::Egress, Who::Pod(pod)) => Some(*pod),
        (Direction::Egress, _) => None,
    };
    matches
        .iter()
        .any(|one| carries_one(one, destination, protocol, port))
}

fn carries_one(one: &PortMatch, destination: Option<&Pod>, protocol: Protocol, port: u16) -> bool {
    let fits = |wanted: PortProtocol| {
        use PortProtocol as P;
        match protocol {
            Protocol::Tcp => matches!(wanted, P::Tcp | P::Any),
            Protocol::Udp => matches!(wanted, P::Udp | P::Any),
            Protocol::Sctp => matches!(wanted, P::Sctp | P::Any),
            Protocol::Icmp => wanted == P::Icmp,
            Protocol::Icmpv6 => wanted == P::Icmpv6,
            Protocol::Other(_) => false,
        }
    };
    match &one.ports {
        Ports::Range(first, last) => fits(one.protocol) && (*first..=*last).contains(&port),
        Ports::Named(name) => destination.is_some_and(|pod| {
            pod.named_ports.iter().any(|named| {
                named.name == *name
                    && named.port == port
                    && fits(one.protocol)
                    && fits(named.protocol)
            })
        }),
    }
}
