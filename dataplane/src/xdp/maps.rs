//! What the daemon tells the kernel program, and what it asks of it.

use super::error::XdpError;
use super::redirect::{Redirect, errno};
use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, XskMap};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use xdp_redirect::{
    COUNTERS, Counter, EGRESS, EGRESS_MAX, FRONTENDS, FRONTENDS_MAX, Frontend, INTERFACES, OURS,
    OURS_V4, OURS_V6, PortRange, SOCKETS, address_key,
};

/// What the kernel program has done, on all interfaces together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedirectCounters {
    /// Frames given to a socket.
    pub redirected: u64,
    /// Frames that were ours, dropped for want of a socket.
    pub no_socket: u64,
    /// Frames on uplinks that are not ours, left to the host.
    pub passed: u64,
    /// Frames of interfaces that the program does not know, dropped.
    pub interface_unknown: u64,
    /// Frames on uplinks that end before their destination address, dropped.
    pub unreadable: u64,
}

impl Redirect {
    /// Gives the frames of a slot's interface to a socket.
    ///
    /// # Errors
    /// The slot is too large, or the descriptor is not an AF_XDP socket.
    pub fn set_socket(&mut self, slot: u32, socket: impl AsFd) -> Result<(), XdpError> {
        let socket = socket.as_fd().as_raw_fd();
        self.sockets()?
            .set(slot, socket, 0)
            .map_err(|error| XdpError::caused(format!("{SOCKETS}, slot {slot}"), &error))
    }

    /// Drops the frames of a slot's interface from now on. Nothing happens without a socket.
    ///
    /// # Errors
    /// The slot is too large.
    pub fn unset_socket(&mut self, slot: u32) -> Result<(), XdpError> {
        missing_is_fine(SOCKETS, self.sockets()?.unset(slot))
    }

    /// Takes frames for `network/prefix_length` from every uplink.
    ///
    /// # Errors
    /// The length does not fit the address; the map is full.
    pub fn add_prefix(&mut self, network: IpAddr, prefix_length: u8) -> Result<(), XdpError> {
        check_prefix(network, prefix_length)?;
        let length = u32::from(prefix_length);
        match network {
            IpAddr::V4(network) => {
                let mut ours: LpmTrie<_, [u8; 4], u32> = map(&mut self.kernel, OURS_V4)?;
                ours.insert(&Key::new(length, network.octets()), OURS, 0)
            }
            IpAddr::V6(network) => {
                let mut ours: LpmTrie<_, [u8; 16], u32> = map(&mut self.kernel, OURS_V6)?;
                ours.insert(&Key::new(length, network.octets()), OURS, 0)
            }
        }
        .map_err(|error| XdpError::caused(format!("{network}/{prefix_length}"), &error))
    }

    /// Leaves frames for `network/prefix_length` to the host again. Nothing happens when it was
    /// not ours.
    ///
    /// # Errors
    /// The length does not fit the address.
    pub fn remove_prefix(&mut self, network: IpAddr, prefix_length: u8) -> Result<(), XdpError> {
        check_prefix(network, prefix_length)?;
        let length = u32::from(prefix_length);
        let removed = match network {
            IpAddr::V4(network) => {
                let mut ours: LpmTrie<_, [u8; 4], u32> = map(&mut self.kernel, OURS_V4)?;
                ours.remove(&Key::new(length, network.octets()))
            }
            IpAddr::V6(network) => {
                let mut ours: LpmTrie<_, [u8; 16], u32> = map(&mut self.kernel, OURS_V6)?;
                ours.remove(&Key::new(length, network.octets()))
            }
        };
        missing_is_fine(&format!("{network}/{prefix_length}"), removed)
    }

    /// Takes frames for these frontends, and no others, from every uplink.
    ///
    /// Only differences are written: first what is new, then what is gone, so that nothing that
    /// stays is ever missing.
    ///
    /// # Errors
    /// More than the map has room for, which changes nothing; the kernel refuses an entry. The
    /// next call begins where this one ended.
    pub fn set_frontends(&mut self, wanted: &BTreeSet<Frontend>) -> Result<(), XdpError> {
        check_room(FRONTENDS, wanted.len(), FRONTENDS_MAX)?;
        let mut map: HashMap<_, [u8; 20], u32> = map(&mut self.kernel, FRONTENDS)?;
        let held = &mut self.frontends;
        let new: Vec<_> = wanted.difference(held).copied().collect();
        let gone: Vec<_> = held.difference(wanted).copied().collect();
        let has_room = held.len() + new.len() <= FRONTENDS_MAX as usize;
        for step in Step::in_order(has_room) {
            match step {
                Step::Add => {
                    for frontend in &new {
                        map.insert(frontend.bytes(), OURS, 0)
                            .map_err(|error| XdpError::caused(place_of(frontend), &error))?;
                        held.insert(*frontend);
                    }
                }
                Step::Remove => {
                    for frontend in &gone {
                        let removed = map.remove(&frontend.bytes());
                        missing_is_fine(&place_of(frontend), removed)?;
                        held.remove(frontend);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes frames for these ports of these egress addresses, and no others, from every uplink.
    /// Of an address with [`PortRange::ALL`] every frame is taken, whatever it carries, except
    /// neighbour discovery: as with ARP the host answers for the address.
    ///
    /// Only differences are written, in the order of [`set_frontends`](Self::set_frontends); the
    /// range of an address that stays is replaced in one step.
    ///
    /// # Errors
    /// More than the map has room for, which changes nothing; the kernel refuses an entry. The
    /// next call begins where this one ended.
    pub fn set_egress(&mut self, wanted: &BTreeMap<IpAddr, PortRange>) -> Result<(), XdpError> {
        check_room(EGRESS, wanted.len(), EGRESS_MAX)?;
        let mut map: HashMap<_, [u8; 16], [u16; 2]> = map(&mut self.kernel, EGRESS)?;
        let held = &mut self.egress;
        let place = |address: &IpAddr| format!("{EGRESS}, {address}");
        let mut new = wanted.clone();
        new.retain(|address, ports| held.get(address) != Some(ports));
        let mut gone: Vec<IpAddr> = held.keys().copied().collect();
        gone.retain(|address| !wanted.contains_key(address));
        let has_room = gone.len() + wanted.len() <= EGRESS_MAX as usize;
        for step in Step::in_order(has_room) {
            match step {
                Step::Add => {
                    for (address, ports) in &new {
                        map.insert(address_key(*address), ports.words(), 0)
                            .map_err(|error| XdpError::caused(place(address), &error))?;
                        held.insert(*address, *ports);
                    }
                }
                Step::Remove => {
                    for address in &gone {
                        let removed = map.remove(&address_key(*address));
                        missing_is_fine(&place(address), removed)?;
                        held.remove(address);
                    }
                }
            }
        }
        Ok(())
    }

    /// What the program has done since it was loaded, summed over the CPUs.
    ///
    /// # Errors
    /// None in practice: only mistakes of ours.
    pub fn counters(&self) -> Result<RedirectCounters, XdpError> {
        let failed = |error: MapError| XdpError::caused(COUNTERS, &error);
        let map = self.kernel.map(COUNTERS).ok_or_else(|| missing(COUNTERS))?;
        let counters = PerCpuArray::<_, u64>::try_from(map).map_err(failed)?;
        let mut sums = [0; Counter::COUNT];
        for (sum, counter) in sums.iter_mut().zip(Counter::ALL) {
            *sum = counters
                .get(&(counter as u32), 0)
                .map_err(failed)?
                .iter()
                .sum();
        }
        let [redirected, no_socket, passed, interface_unknown, unreadable] = sums;
        Ok(RedirectCounters {
            redirected,
            no_socket,
            passed,
            interface_unknown,
            unreadable,
        })
    }

    pub(super) fn interfaces(&mut self) -> Result<HashMap<&mut MapData, u32, [u32; 2]>, XdpError> {
        map(&mut self.kernel, INTERFACES)
    }

    fn sockets(&mut self) -> Result<XskMap<&mut MapData>, XdpError> {
        map(&mut self.kernel, SOCKETS)
    }
}

/// The two halves of making a map hold what is wanted.
#[derive(Debug, Clone, Copy)]
enum Step {
    Add,
    Remove,
}

impl Step {
    /// What stays must never be missing, so what is new comes first, unless old and new together
    /// would not fit.
    fn in_order(has_room: bool) -> [Self; 2] {
        if has_room {
            [Self::Add, Self::Remove]
        } else {
            [Self::Remove, Self::Add]
        }
    }
}

fn place_of(frontend: &Frontend) -> String {
    let address = SocketAddr::from((frontend.address(), frontend.port()));
    format!("{FRONTENDS}, {address} protocol {}", frontend.protocol())
}

fn check_room(map: &str, wanted: usize, most: u32) -> Result<(), XdpError> {
    if wanted > most as usize {
        return Err(XdpError::new(
            map,
            format!("expected at most {most} entries, found {wanted}"),
        ));
    }
    Ok(())
}

fn map<'a, M>(kernel: &'a mut Ebpf, name: &str) -> Result<M, XdpError>
where
    M: TryFrom<&'a mut Map, Error = MapError>,
{
    let map = kernel.map_mut(name).ok_or_else(|| missing(name))?;
    M::try_from(map).map_err(|error| XdpError::caused(name, &error))
}

pub(super) fn missing(name: &str) -> XdpError {
    XdpError::new(
        "kernel program",
        format!("expected {name} in it, found none"),
    )
}

/// Takes the removal of what is not there for done.
pub(super) fn missing_is_fine(place: &str, result: Result<(), MapError>) -> Result<(), XdpError> {
    match result {
        Err(error)
            if !matches!(error, MapError::KeyNotFound | MapError::ElementNotFound)
                && errno(&error) != Some(Errno::NOENT) =>
        {
            Err(XdpError::caused(place, &error))
        }
        _ => Ok(()),
    }
}

fn check_prefix(network: IpAddr, prefix_length: u8) -> Result<(), XdpError> {
    let most = if network.is_ipv4() { 32 } else { 128 };
    if prefix_length > most {
        return Err(XdpError::new(
            format!("{network}/{prefix_length}"),
            format!("expected a prefix length up to {most}, found {prefix_length}"),
        ));
    }
    Ok(())
}
