//! Kinds of addresses that are treated apart, whoever sends or receives.

use std::net::{IpAddr, Ipv6Addr};

/// Whether no packet on the wire may carry this address as a host's own: unspecified, loopback,
/// reserved, or IPv4 hidden in IPv6. [RFC 6890]
pub(crate) fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            first == 0 || first == 127 || first >= 240
        }
        IpAddr::V6(address) => {
            address.is_unspecified() || address.is_loopback() || is_hidden_ipv4(address)
        }
    }
}

/// IPv4-mapped and IPv4-compatible addresses. [RFC 4291 §2.5.5]
fn is_hidden_ipv4(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    segments[..5] == [0; 5] && (segments[5] == 0xffff || segments[5] == 0)
}

/// Whether more than one host is meant.
pub(crate) fn is_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// Whether the address counts only on its own link. [RFC 4291 §2.5.6]
pub(crate) fn is_link_local_v6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.segments()[0] & 0xffc0 == 0xfe80)
}
