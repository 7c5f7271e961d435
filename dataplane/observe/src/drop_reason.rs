//! Hubble's number and name for each of our drop reasons: its clients and dashboards know no others.

use portcullis_engine::Drop;

/// A reason as Cilium and Hubble tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropReason {
    /// The number of `flow.DropReason`, which is also the sub-type of a drop event.
    pub number: u8,
    /// The name of that value.
    pub name: &'static str,
    /// The words of `cilium monitor` and of `cilium_drop_count_total`.
    pub text: &'static str,
}

macro_rules! reasons {
    ($($name:ident, $number:literal, $text:literal;)*) => {
        $(const $name: DropReason = DropReason {
            number: $number,
            name: stringify!($name),
            text: $text,
        };)*
    };
}

reasons! {
    INVALID_SOURCE_MAC, 130, "Invalid source mac";
    INVALID_DESTINATION_MAC, 131, "Invalid destination mac";
    INVALID_SOURCE_IP, 132, "Invalid source ip";
    POLICY_DENIED, 133, "Policy denied";
    INVALID_PACKET_DROPPED, 134, "Invalid packet";
    CT_TRUNCATED_OR_INVALID_HEADER, 135, "CT: Truncated or invalid header";
    UNSUPPORTED_L3_PROTOCOL, 139, "Unsupported L3 protocol";
    ERROR_WRITING_TO_PACKET, 141, "Error writing to packet";
    UNKNOWN_L4_PROTOCOL, 142, "Unknown L4 protocol";
    UNKNOWN_L3_TARGET_ADDRESS, 150, "Unknown L3 target address";
    NO_MATCHING_LOCAL_CONTAINER_FOUND, 152, "No matching local container found";
    CT_MAP_INSERTION_FAILED, 155, "CT: Map insertion failed";
    IP_FRAGMENTATION_NOT_SUPPORTED, 157, "IP fragmentation not supported";
    SERVICE_BACKEND_NOT_FOUND, 158, "Service backend not found";
    NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT, 160, "No tunnel/encapsulation endpoint (datapath BUG!)";
    UNKNOWN_CONNECTION_TRACKING_STATE, 163, "Unknown connection tracking state";
    NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION, 165, "No configuration available to perform policy decision";
    UNSUPPORTED_L2_PROTOCOL, 166, "Unsupported L2 protocol";
    NO_MAPPING_FOR_NAT_MASQUERADE, 167, "No mapping for NAT masquerade";
    UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE, 168, "Unsupported protocol for NAT masquerade";
    FIB_LOOKUP_FAILED, 169, "FIB lookup failed";
    INVALID_IDENTITY, 171, "Invalid identity";
    FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND, 175, "First logical datagram fragment not found";
    FORBIDDEN_ICMPV6_MESSAGE, 176, "Forbidden ICMPv6 message";
    PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL, 180, "Proxy redirection not supported for protocol";
    POLICY_DENY, 181, "Policy denied by denylist";
    VLAN_FILTERED, 182, "VLAN traffic disallowed by VLAN filter";
    AUTH_REQUIRED, 189, "Authentication required";
    NO_EGRESS_GATEWAY, 194, "No egress gateway found";
    TTL_EXCEEDED, 196, "TTL exceeded";
    DROP_RATE_LIMITED, 198, "Rate limited";
    DROP_NO_EGRESS_IP, 204, "No Egress IP configured";
}

impl DropReason {
    /// Hubble's reason for ours: the nearest one, where it has none of its own. Ours goes along in
    /// the words of the flow.
    #[must_use]
    pub const fn of(drop: Drop) -> Self {
        match drop {
            Drop::PolicyDenied | Drop::PolicyConflict => POLICY_DENIED,
            Drop::PolicyDeniedByRule => POLICY_DENY,
            Drop::ProxyMissing => PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL,
            Drop::AuthenticationMissing => AUTH_REQUIRED,
            Drop::NoTables => NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION,
            Drop::IdentityUnknown => INVALID_IDENTITY,
            Drop::SourceAddressSpoofed | Drop::SourceInvalid => INVALID_SOURCE_IP,
            Drop::DestinationMacForeign => INVALID_DESTINATION_MAC,
            Drop::SourceMacSpoofed => INVALID_SOURCE_MAC,
            Drop::Truncated => CT_TRUNCATED_OR_INVALID_HEADER,
            Drop::Malformed
            | Drop::SourceRouted
            | Drop::ArpInvalid
            | Drop::FragmentOverlap
            | Drop::FragmentTiny
            | Drop::IcmpRedirect
            | Drop::ChainTooLong => INVALID_PACKET_DROPPED,
            Drop::VlanTagged => VLAN_FILTERED,
            Drop::EthertypeUnknown => UNSUPPORTED_L3_PROTOCOL,
            Drop::ArpUnanswered => UNSUPPORTED_L2_PROTOCOL,
            Drop::ProtocolUnknown => UNKNOWN_L4_PROTOCOL,
            Drop::NeighbourDiscoveryInvalid | Drop::NeighbourDiscoveryUnanswered => {
                FORBIDDEN_ICMPV6_MESSAGE
            }
            Drop::Multicast | Drop::DestinationInvalid | Drop::Dhcp => UNKNOWN_L3_TARGET_ADDRESS,
            Drop::FragmentUnknown | Drop::FragmentHoldFull => {
                FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND
            }
            Drop::FragmentScattered | Drop::PacketTooBig => IP_FRAGMENTATION_NOT_SUPPORTED,
            Drop::TtlExceeded => TTL_EXCEEDED,
            Drop::NoRoute | Drop::NeighbourUnknown => FIB_LOOKUP_FAILED,
            Drop::EndpointGone => NO_MATCHING_LOCAL_CONTAINER_FOUND,
            Drop::FlowTableFull | Drop::FlowShareFull | Drop::HalfOpenFull => {
                CT_MAP_INSERTION_FAILED
            }
            Drop::FlowUnknown | Drop::IcmpErrorUnrelated => UNKNOWN_CONNECTION_TRACKING_STATE,
            Drop::ServiceWithoutBackend | Drop::ServicePortUnknown | Drop::ServiceBackendGone => {
                SERVICE_BACKEND_NOT_FOUND
            }
            Drop::EgressGatewayMissing | Drop::EgressPolicyConflict => NO_EGRESS_GATEWAY,
            Drop::EgressGatewayElsewhere => NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT,
            Drop::EgressAddressMissing => DROP_NO_EGRESS_IP,
            Drop::NatPortsExhausted
            | Drop::NatSessionUnknown
            | Drop::SessionTableFull
            | Drop::SessionShareFull => NO_MAPPING_FOR_NAT_MASQUERADE,
            Drop::NatUntranslatable | Drop::FragmentUntranslatable => {
                UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE
            }
            Drop::TransmitFailed => ERROR_WRITING_TO_PACKET,
            // Load, not the packet, is to blame: the nearest that Hubble knows.
            Drop::HandoverFull | Drop::TransmitFull | Drop::NoFreeFrame => DROP_RATE_LIMITED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn every_drop_has_a_reason_that_hubble_knows() {
        let mut names = HashMap::new();
        for drop in Drop::ALL {
            let reason = DropReason::of(*drop);
            // Zero is "unknown", and lower numbers are no drops.
            assert!((130..=205).contains(&reason.number), "{drop:?}: {reason:?}");
            let other = names.insert(reason.number, reason.name);
            assert!(other.is_none_or(|other| other == reason.name), "{reason:?}");
        }
    }

    #[test]
    fn policy_has_the_reasons_that_dashboards_ask_for() {
        let named = [
            (Drop::PolicyDenied, (133, "POLICY_DENIED", "Policy denied")),
            (
                Drop::PolicyDeniedByRule,
                (181, "POLICY_DENY", "Policy denied by denylist"),
            ),
            (
                Drop::AuthenticationMissing,
                (189, "AUTH_REQUIRED", "Authentication required"),
            ),
        ];
        for (drop, (number, name, text)) in named {
            assert_eq!(DropReason::of(drop), DropReason { number, name, text });
        }
    }
}
