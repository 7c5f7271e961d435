//! Why a packet ends: one reason, one counter, one sentence.

macro_rules! drops {
    ($($name:ident, $key:literal, $sentence:literal;)*) => {
        /// Why a packet ended here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Drop {
            $(#[doc = $sentence] $name,)*
        }

        impl Drop {
            /// Whether policy gave it: a denial takes back what the packet opened elsewhere.
            #[must_use]
            pub const fn is_denial(self) -> bool {
                matches!(
                    self,
                    Self::PolicyDenied
                        | Self::PolicyDeniedByRule
                        | Self::ProxyMissing
                        | Self::AuthenticationMissing
                        | Self::PolicyConflict
                )
            }

            /// Whether the sender is told at once that what it asked for is not there.
            #[must_use]
            pub const fn is_told(self) -> bool {
                matches!(
                    self,
                    Self::ServiceWithoutBackend
                        | Self::ServicePortUnknown
                        | Self::ServiceBackendGone
                        | Self::FlowUnknown
                )
            }

            /// Every reason, in the order of its counter.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in metrics and JSON.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self { $(Self::$name => $key,)* }
            }

            /// The sentence for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

drops! {
    PolicyDenied, "policy_denied", "No policy that selects the pod allows it (default deny).";
    PolicyDeniedByRule, "policy_denied_by_rule", "A deny rule forbids it.";
    ProxyMissing, "proxy_missing", "A rule allows it only as far as HTTP, DNS or TLS rules do, and this node cannot look there yet.";
    AuthenticationMissing, "authentication_missing", "A rule allows it once both ends have proved who they are, and they have not.";
    PolicyConflict, "policy_conflict", "Rules ask for things that cannot be done together.";
    NoTables, "no_tables", "No policy has been loaded yet, so nothing passes.";
    IdentityUnknown, "identity_unknown", "The address lies among the pods but belongs to none that is known.";
    SourceAddressSpoofed, "source_address_spoofed", "The source address is not one of the endpoint's own.";
    SourceInvalid, "source_invalid", "A source that no packet on the wire may have (loopback, unspecified, multicast, reserved).";
    SourceRouted, "source_routed", "The packet names its own way (source routing), past the address that is judged.";
    DestinationMacForeign, "destination_mac_foreign", "The frame is addressed to another MAC address than the gateway's.";
    SourceMacSpoofed, "source_mac_spoofed", "The source MAC address is not the endpoint's own.";
    Truncated, "truncated", "The frame ends before its headers or before the length they state.";
    Malformed, "malformed", "A header contradicts itself or its protocol.";
    VlanTagged, "vlan_tagged", "Pods may not send 802.1Q or 802.1ad tagged frames.";
    EthertypeUnknown, "ethertype_unknown", "Neither IPv4, IPv6 nor ARP.";
    ProtocolUnknown, "protocol_unknown", "An IP protocol other than TCP, UDP, SCTP, ICMP and ICMPv6.";
    ArpInvalid, "arp_invalid", "An ARP packet that is not a plain Ethernet and IPv4 request, or claims a foreign address.";
    ArpUnanswered, "arp_unanswered", "An ARP packet that asks nothing of the gateway.";
    NeighbourDiscoveryInvalid, "neighbour_discovery_invalid", "A neighbour discovery message that breaks RFC 4861, or claims a foreign address.";
    NeighbourDiscoveryUnanswered, "neighbour_discovery_unanswered", "A neighbour or router discovery message that asks nothing of the gateway.";
    Multicast, "multicast", "Multicast and broadcast are not forwarded.";
    DestinationInvalid, "destination_invalid", "A destination that no packet on the wire may have (loopback, unspecified, link-local IPv6, reserved).";
    FragmentUnknown, "fragment_unknown", "A fragment whose datagram is not known: its first fragment did not come, or did not pass.";
    FragmentOverlap, "fragment_overlap", "A fragment that repeats or overlaps what came of its datagram, or contradicts where that ends.";
    FragmentTiny, "fragment_tiny", "A first fragment that ends inside of the headers, or a later one that begins there.";
    FragmentScattered, "fragment_scattered", "A fragment that leaves more gaps in its datagram than are kept in mind.";
    FragmentHoldFull, "fragment_hold_full", "A fragment ahead of its datagram's first, and no room to let it wait.";
    Dhcp, "dhcp", "Addresses are assigned by the node: DHCP is not answered.";
    TtlExceeded, "ttl_exceeded", "The time to live ran out here.";
    PacketTooBig, "packet_too_big", "Larger than the way out allows, and not to be cut up.";
    NoRoute, "no_route", "No way leads to the destination.";
    NeighbourUnknown, "neighbour_unknown", "The MAC address of the next hop is not known; it has been asked for, and did not come within a second, or too many packets wait for it.";
    EndpointGone, "endpoint_gone", "The endpoint was removed while the packet was on its way.";
    FlowTableFull, "flow_table_full", "Every entry of the flow table is in use.";
    FlowShareFull, "flow_share_full", "The pod has its whole share of the flow table in use.";
    HalfOpenFull, "half_open_full", "The places for connections that are being opened are in use: by others, or by this pod, which opens more than 2000 a second that nobody completes.";
    FlowUnknown, "flow_unknown", "A TCP segment in the middle of a connection that is not known; a pod that sends one is told by a reset.";
    FragmentUntranslatable, "fragment_untranslatable", "A first fragment of SCTP that would need another port: its checksum cannot be made anew.";
    ServiceWithoutBackend, "service_without_backend", "Nothing stands behind the service; the client is told so.";
    ServicePortUnknown, "service_port_unknown", "The address is a service's, the port is not; the client is told so.";
    ServiceBackendGone, "service_backend_gone", "The backend of the connection is gone; the client is told by a reset.";
    EgressGatewayMissing, "egress_gateway_missing", "An egress gateway policy is about the packet, but no node matches its gateway.";
    EgressGatewayElsewhere, "egress_gateway_elsewhere", "The egress gateway is another node, and packets cannot be carried there yet.";
    EgressAddressMissing, "egress_address_missing", "This node is the egress gateway, but does not have the address that the policy asks for.";
    EgressPolicyConflict, "egress_policy_conflict", "Two egress gateway policies say different things about the packet with the same right.";
    NatPortsExhausted, "nat_ports_exhausted", "Every port of the egress address is in use towards this destination; the pod is told so.";
    NatSessionUnknown, "nat_session_unknown", "It belongs to no translation that is known, and would pass with an address that is not meant to be seen.";
    NatUntranslatable, "nat_untranslatable", "It has to leave with another address, but has no port or identifier to find its answer by.";
    SessionTableFull, "session_table_full", "Every place for translations is in use.";
    SessionShareFull, "session_share_full", "The pod has its whole share of the translations in use.";
    IcmpRedirect, "icmp_redirect", "An ICMP redirect: the ways of pods are the node's to choose.";
    IcmpErrorUnrelated, "icmp_error_unrelated", "An ICMP error about a packet that no known flow sent.";
    HandoverFull, "handover_full", "The queue to the destination's worker is full.";
    TransmitFull, "transmit_full", "The transmit ring of the way out is full.";
    TransmitFailed, "transmit_failed", "The kernel refused the frame for transmission.";
    ChainTooLong, "chain_too_long", "The frame has more pieces than a packet can have.";
    NoFreeFrame, "no_free_frame", "No free memory for a frame to be made here.";
}
