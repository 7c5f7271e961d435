//! Who was who in one generation.

use super::flow::FlowEnd;
use super::link::Link;
use super::names_extract::NamesExtract;
use portcullis_engine::{EndpointId, ExitPlan, Frontend, ServiceTable};
use portcullis_policy::{Identity, PolicyIndex, Protocol, Tables};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Who was who in one generation.
#[derive(Debug, Default)]
pub struct Names {
    /// Policy and identities, None before the first documents were accepted.
    pub tables: Option<Arc<Tables>>,
    /// Namespace, name and policy of each pod on this node.
    pub endpoints: HashMap<EndpointId, (String, String, Option<PolicyIndex>)>,
    /// The interface of each endpoint on this node, host and uplink among them.
    pub links: HashMap<EndpointId, Link>,
    /// Labels of this node, `key=value`, sorted.
    pub node_labels: Arc<[String]>,
    /// Namespace and name of every known pod by address.
    pub pods: HashMap<IpAddr, (String, String)>,
    /// Services.
    pub services: Arc<ServiceTable>,
    /// How packets leave.
    pub exits: Arc<ExitPlan>,
    /// What is left of tables that are gone, as text.
    pub extract: Option<Box<NamesExtract>>,
}

impl Names {
    /// Names one end of a flow.
    #[must_use]
    pub fn end(
        &self,
        identity: Identity,
        endpoint: Option<EndpointId>,
        address: Option<IpAddr>,
    ) -> FlowEnd {
        let by_endpoint = endpoint
            .and_then(|id| self.endpoints.get(&id))
            .map(|(namespace, name, _)| (namespace, name));
        let by_address = || {
            address
                .and_then(|address| self.pods.get(&address))
                .map(|(ns, name)| (ns, name))
        };
        let (namespace, pod_name) = by_endpoint.or_else(by_address).map_or_else(
            || (String::new(), String::new()),
            |(namespace, name)| (namespace.clone(), name.clone()),
        );
        FlowEnd {
            identity: identity.0,
            namespace,
            pod_name,
            labels: self.labels(identity).to_vec(),
        }
    }

    /// The labels of an identity, sorted, `k8s:app=web`; none for an unknown one.
    #[must_use]
    pub fn labels(&self, identity: Identity) -> &[String] {
        match (&self.tables, &self.extract) {
            (Some(tables), _) => tables.labels(identity),
            (None, Some(extract)) => extract.labels(identity),
            (None, None) => &[],
        }
    }

    /// Namespace and name of the service that is reached at an address.
    #[must_use]
    pub fn service(&self, address: IpAddr, protocol: Protocol, port: u16) -> Option<(&str, &str)> {
        if let Some(extract) = &self.extract {
            return extract.service(address, protocol, port);
        }
        let frontend = Frontend {
            address,
            protocol,
            port,
        };
        let (_, service, _) = self.services.find(frontend)?;
        Some((&service.namespace, &service.name))
    }

    /// Names who is at an address.
    #[must_use]
    pub fn end_at(&self, address: IpAddr) -> FlowEnd {
        let identity = self.tables.as_deref().map(|tables| {
            let pod = self.pods.get(&address);
            pod.and_then(|(namespace, name)| tables.identity_of_pod(namespace, name))
                .unwrap_or_else(|| tables.identity_of(address))
        });
        self.end(identity.unwrap_or_default(), None, Some(address))
    }

    /// The policy that a pod of this node had.
    #[must_use]
    pub fn policy_of(&self, endpoint: EndpointId) -> Option<PolicyIndex> {
        self.endpoints
            .get(&endpoint)
            .and_then(|(_, _, policy)| *policy)
    }
}
