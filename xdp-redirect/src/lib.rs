//! The contract between the kernel program and the daemon: map names, sizes and value layouts.
//!
//! The kernel program (`ebpf/`) asks one question of a frame: is it ours? Pod and host interfaces
//! are ours whole; on the uplink the destination decides ([`owner`]). What is ours goes to the
//! AF_XDP socket of the interface's slot, or ends there. Nothing else is decided in the kernel.
#![no_std]

mod owner;
mod shared;

pub use owner::{ETHERNET_LENGTH, Frame, Ours, Owner, owner};
pub use shared::{Datagram, Frontend, PortRange, Transport, address_key};

/// The program that is attached to every interface.
pub const PROGRAM: &str = "redirect";

/// Map: interface index (u32) to [`InterfaceSlot`]. Filled before the program is attached: an
/// interface that is missing here loses every frame.
pub const INTERFACES: &str = "INTERFACES";
/// Map: slot (u32) to AF_XDP socket. A slot without one loses every frame.
pub const SOCKETS: &str = "SOCKETS";
/// Map: IPv4 prefixes that are ours on the uplink, longest match, to [`OURS`].
pub const OURS_V4: &str = "OURS_V4";
/// Map: IPv6 prefixes that are ours on the uplink, longest match, to [`OURS`].
pub const OURS_V6: &str = "OURS_V6";
/// Map: [`Frontend`]s that are ours on the uplink, to [`OURS`].
pub const FRONTENDS: &str = "FRONTENDS";
/// Map: egress addresses ([`address_key`]) to the [`PortRange`] of each that is ours on the uplink.
pub const EGRESS: &str = "EGRESS";
/// Map: [`Datagram`]s in fragments whose first one was ours, to [`OURS`]; the oldest are forgotten.
/// Only the program reads and writes it.
pub const DATAGRAMS: &str = "DATAGRAMS";
/// Map: frames per [`Counter`], for each CPU (u64).
pub const COUNTERS: &str = "COUNTERS";

/// Interfaces and sockets that one node can have; slots are below it.
pub const SLOTS_MAX: u32 = 4096;
/// Prefixes of one IP version that one node can own.
pub const PREFIXES_MAX: u32 = 65_536;
/// Frontends that one node can have.
pub const FRONTENDS_MAX: u32 = 16_384;
/// Egress addresses that one node can have.
pub const EGRESS_MAX: u32 = 4096;
/// Datagrams in fragments that are remembered: those on their way at one moment.
pub const DATAGRAMS_MAX: u32 = 8192;

/// The value of a prefix, frontend or datagram that is ours.
pub const OURS: u32 = 1;
/// The value of a prefix that is not, within a shorter one that is.
pub const NOT_OURS: u32 = 0;

/// Which frames of an interface are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum InterfaceKind {
    /// Every frame is ours: the host end of a pod's veth, or of the pair to this node's own stack.
    Whole = 0,
    /// IP packets to our prefixes, frontends and egress ports are ours, the host's stack keeps the
    /// rest.
    Uplink = 1,
}

/// What the kernel program knows of an interface.
///
/// Two native 32-bit words: the daemon reads and writes them as `[u32; 2]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct InterfaceSlot {
    /// Key of its socket in [`SOCKETS`].
    pub slot: u32,
    /// An [`InterfaceKind`]; a number, because a map may hold anything.
    pub kind: u32,
}

const _: () = assert!(size_of::<InterfaceSlot>() == 8 && align_of::<InterfaceSlot>() == 4);

impl InterfaceSlot {
    /// The map value for an interface.
    #[must_use]
    pub const fn new(slot: u32, kind: InterfaceKind) -> Self {
        Self {
            slot,
            kind: kind as u32,
        }
    }

    /// The map value as the words that the daemon writes.
    #[must_use]
    pub const fn words(self) -> [u32; 2] {
        [self.slot, self.kind]
    }
}

/// What happened to a frame in the kernel: an index into [`COUNTERS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Counter {
    /// Given to the interface's socket.
    Redirected = 0,
    /// Ours, but dropped: the slot has no socket (the daemon is down, or not that far yet).
    NoSocket = 1,
    /// Not ours: left to the host's stack.
    Passed = 2,
    /// Dropped: the interface is not in [`INTERFACES`].
    InterfaceUnknown = 3,
    /// Dropped on the uplink: says it is IP, but ends before its destination address.
    Unreadable = 4,
}

impl Counter {
    /// Every counter, in the order of the map.
    pub const ALL: [Self; 5] = [
        Self::Redirected,
        Self::NoSocket,
        Self::Passed,
        Self::InterfaceUnknown,
        Self::Unreadable,
    ];
    /// Entries of [`COUNTERS`].
    pub const COUNT: usize = Self::ALL.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stand_in_the_order_of_the_map() {
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, index);
        }
    }

    #[test]
    fn a_slot_is_written_as_its_words() {
        assert_eq!(InterfaceSlot::new(7, InterfaceKind::Uplink).words(), [7, 1]);
        assert_eq!(InterfaceSlot::new(9, InterfaceKind::Whole).words(), [9, 0]);
    }
}
