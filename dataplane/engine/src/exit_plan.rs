//! How packets leave the cluster at this node's uplink: as they are, or with another source.

use crate::{Drop, Endpoint, PortRange};
use hashbrown::HashMap;
use portcullis_policy::{Cidr, ExitChoice, Tables};
use std::net::IpAddr;

/// One gateway of a policy, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayPlace {
    /// It is this node, and packets get one of these addresses.
    Here(Vec<IpAddr>),
    /// It is this node, but the address that the policy asks for is not there.
    NoAddress,
    /// It is another node, at this address.
    Elsewhere(IpAddr),
}

/// Everything about leaving that is known before a packet comes. Part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExitPlan {
    /// By policy, then by gateway: the numbers of `ExitChoice`.
    pub gateways: Vec<Vec<GatewayPlace>>,
    /// What traffic that no policy is about gets; none of a family leaves it as it is.
    pub masquerade: Vec<IpAddr>,
    /// Destinations that are reached with pods' own addresses in spite of `masquerade`.
    pub unmasked: Vec<Cidr>,
    /// This node's own addresses, for connections to backends on other nodes.
    pub node: Vec<IpAddr>,
    /// The ports that each address may use.
    pub ports: HashMap<IpAddr, PortRange>,
    /// Addresses that the node's own stack uses, too.
    pub shared: Vec<IpAddr>,
}

/// Which rule gave a packet its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitReason {
    /// An egress gateway policy, by its number.
    Policy(u32),
    /// The node's setting.
    Masquerade,
}

/// How a packet leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave<'a> {
    /// With the pod's own address.
    Unchanged,
    /// With one of these addresses.
    As(&'a [IpAddr], ExitReason),
}

impl ExitPlan {
    /// How a pod's packet leaves for a destination. Doubt never ends in the pod's own address.
    ///
    /// # Errors
    /// `EgressGatewayMissing`, `EgressGatewayElsewhere`, `EgressAddressMissing` or
    /// `EgressPolicyConflict`.
    pub(crate) fn leave(
        &self,
        tables: &Tables,
        from: &Endpoint,
        destination: IpAddr,
    ) -> Result<Leave<'_>, Drop> {
        let choice = from.exits.map_or(ExitChoice::Usual, |place| {
            tables.exit_choice(place, destination)
        });
        match choice {
            ExitChoice::Usual | ExitChoice::Excluded(_) => Ok(self.usually(tables, destination)),
            ExitChoice::NoGateway(_) => Err(Drop::EgressGatewayMissing),
            ExitChoice::Conflict(..) => Err(Drop::EgressPolicyConflict),
            ExitChoice::Through { policy, gateway } => {
                let places = self.gateways.get(policy as usize);
                match places.and_then(|places| places.get(gateway as usize)) {
                    None => Err(Drop::EgressGatewayMissing),
                    Some(GatewayPlace::Elsewhere(_)) => Err(Drop::EgressGatewayElsewhere),
                    Some(GatewayPlace::NoAddress) => Err(Drop::EgressAddressMissing),
                    Some(GatewayPlace::Here(addresses)) => {
                        if has_family(addresses, destination) {
                            Ok(Leave::As(addresses, ExitReason::Policy(policy)))
                        } else {
                            Err(Drop::EgressAddressMissing)
                        }
                    }
                }
            }
        }
    }

    fn usually(&self, tables: &Tables, destination: IpAddr) -> Leave<'_> {
        let is_masked = has_family(&self.masquerade, destination)
            && tables.is_outside_cluster(destination)
            && !self
                .unmasked
                .iter()
                .any(|block| block.has_address(destination));
        if is_masked {
            Leave::As(&self.masquerade, ExitReason::Masquerade)
        } else {
            Leave::Unchanged
        }
    }

    /// Whether the node's own stack uses the address, too.
    pub(crate) fn is_shared(&self, address: IpAddr) -> bool {
        self.shared.contains(&address)
    }

    /// Whether the address is one that packets leave with.
    pub(crate) fn is_egress_address(&self, address: IpAddr) -> bool {
        self.ports.contains_key(&address)
    }
}

fn has_family(addresses: &[IpAddr], like: IpAddr) -> bool {
    addresses
        .iter()
        .any(|address| address.is_ipv4() == like.is_ipv4())
}
