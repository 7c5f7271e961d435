//! The question that the daemon sends to learn the MAC address of an endpoint.

use crate::{Endpoint, arp, neighbour_discovery};
use std::net::IpAddr;

/// Bytes of the longest frame that `solicit` makes.
pub const SOLICITATION_LENGTH_MAX: usize = neighbour_discovery::FRAME_LENGTH;

/// Writes the frame that asks behind this endpoint who has `target`: an ARP request, or a
/// neighbour solicitation. Returns its length; zero when `out` has less room than
/// `SOLICITATION_LENGTH_MAX`. The answer comes back through `Engine::take_learned`.
#[must_use]
pub fn solicit(endpoint: &Endpoint, target: IpAddr, out: &mut [u8]) -> usize {
    let length = match target {
        IpAddr::V4(target) => arp::solicit(endpoint.own_mac, target, out),
        IpAddr::V6(target) => neighbour_discovery::solicit(endpoint.own_mac, target, out),
    };
    length.unwrap_or(0)
}
