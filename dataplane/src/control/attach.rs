//! Makes endpoints what documents and kernel ask for: attaches, publishes, takes sockets back.

use super::documents::settings_of;
use super::endpoints::{Slot, SlotKey};
use super::exits;
use super::publish;
use super::reconcile::Control;
use crate::review::Reading;
use crate::rings::Socket;
use crate::worker::{Command, Reply};
use crate::xdp::InterfaceKind;
use portcullis_engine::{EndpointIndex, EndpointKind, MacAddress};
use portcullis_policy::Generation;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A worker that has not answered by then is reported.
const WORKER_PATIENCE: Duration = Duration::from_secs(5);

impl Control {
    /// Makes endpoints and snapshot what they should be now.
    ///
    /// The order is the guarantee: an endpoint that ended leaves the snapshot before its socket is
    /// closed, and a new one is in the snapshot before the kernel sends its first frame.
    pub(super) fn apply(&mut self) {
        let retired = self.slots.reconcile(&self.wanted(), &self.kernel.links);
        for (_, slot) in &retired {
            self.forget_addresses(slot);
        }
        self.publish();
        for (index, slot) in retired {
            self.close(index, &slot);
        }
        self.forget_links();
        // A socket that is still bound would keep its interface from the next one.
        if !self.wait_until(|control| !control.slots.is_draining()) {
            self.view
                .fault("a worker did not give a socket back in time".into());
        }
        for index in self.waiting() {
            let attached = self.attach(index);
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            slot.is_attached = attached.is_ok();
            slot.fault = attached.err();
        }
        self.view.show_endpoints(&self.slots, &self.snapshot);
    }

    /// Slots whose interface is there and not yet ours.
    pub(super) fn waiting(&self) -> Vec<EndpointIndex> {
        self.slots
            .iter()
            .filter(|(_, slot)| !slot.is_attached && slot.link.is_some())
            .map(|(index, _)| index)
            .collect()
    }

    /// Forgets the attachments of interfaces that are gone: their numbers may be used again.
    fn forget_links(&mut self) {
        let links = &self.kernel.links;
        let gone: Vec<u32> = self
            .attached
            .iter()
            .copied()
            .filter(|attached| !links.iter().any(|link| link.index == *attached))
            .collect();
        for link in gone {
            self.attached.remove(&link);
            if let Err(error) = self.redirect.detach(link) {
                self.view.fault(error.to_string());
            }
        }
    }

    /// Hands the workers a new snapshot, where anything in it is new, and waits until all use it.
    pub(super) fn publish(&mut self) {
        let next = Generation(self.generation.0 + 1);
        let nodes = self.kernel.node_addresses();
        self.services
            .update(self.documents.shared(), self.config.serving(nodes));
        self.plan_exits();
        let snapshot = publish::snapshot(
            next,
            self.tables.as_ref(),
            &self.services.table,
            &self.exits,
            &self.slots,
            &self.kernel,
        );
        if publish::is_same(&self.snapshot, &snapshot) {
            return;
        }
        self.generation = next;
        self.snapshot = Arc::new(snapshot);
        self.resolve_gateways();
        let names = publish::names(&self.snapshot, &self.slots, self.documents.all());
        self.view.publish(next, names);
        if let Some(tables) = &self.tables {
            self.view.read(Arc::new(Reading {
                documents: self.documents.shared(),
                settings: settings_of(&self.config),
                facts: self.facts.clone(),
                tables: Arc::clone(tables),
            }));
        }
        let hits = self.view.count_rules(self.tables.as_ref());
        for (worker, hits) in self.workers.iter().zip(hits) {
            worker.send(Command::Adopt(Arc::clone(&self.snapshot), hits));
        }
        let adopted = |control: &Self| {
            control
                .workers
                .iter()
                .all(|worker| worker.counters.generation.get() >= next.0)
        };
        if !self.wait_until(adopted) {
            self.view.fault(format!(
                "a worker did not adopt generation {} in time",
                next.0
            ));
        }
    }

    /// Works out how packets leave. The kernel program has to know before the first one does: its
    /// answer would reach the host, which would end the connection.
    fn plan_exits(&mut self) {
        let services = &self.services.table;
        let plan = exits::exit_plan(self.tables.as_deref(), services, &self.config, &self.kernel);
        if *self.exits != plan {
            self.exits = Arc::new(plan);
        }
        let ports = exits::egress_ports(&self.exits, &self.config);
        let frontends = exits::frontends(services);
        let taken = self.redirect.set_egress(&ports);
        for error in [taken, self.redirect.set_frontends(&frontends)] {
            if let Err(error) = error {
                self.view.fault(error.to_string());
            }
        }
    }

    /// Has the kernel find the gateways of the uplink before the first packet needs them.
    fn resolve_gateways(&mut self) {
        let snapshot = Arc::clone(&self.snapshot);
        let Some(uplink) = snapshot.uplink else {
            return;
        };
        let gateways = snapshot.routes.iter().filter_map(|route| route.gateway);
        for gateway in gateways.filter(|gateway| !snapshot.neighbours.contains_key(gateway)) {
            self.resolve(uplink, gateway);
        }
    }

    pub(super) fn wait_until(&mut self, is_done: impl Fn(&Self) -> bool) -> bool {
        let until = Instant::now() + WORKER_PATIENCE;
        while !is_done(self) {
            if Instant::now() > until {
                return false;
            }
            self.take_replies();
            thread::sleep(Duration::from_micros(200));
        }
        true
    }

    /// Makes the socket of an endpoint, gives it to its worker, and has the kernel send to it.
    fn attach(&mut self, index: EndpointIndex) -> Result<(), String> {
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(());
        };
        let slot = slot.clone();
        let link = slot.link.ok_or("no interface")?;
        let interface = &slot.wanted.interface;
        let kind = match slot.wanted.key.kind() {
            EndpointKind::Uplink => InterfaceKind::Uplink,
            EndpointKind::Pod | EndpointKind::Host => InterfaceKind::Whole,
        };
        self.redirect
            .attach(interface, link, u32::from(index.0), kind, self.xdp_mode)
            .map_err(|e| e.to_string())?;
        let mut socket =
            Socket::open(&self.umem, interface, u32::from(index.0)).map_err(|e| e.to_string())?;
        socket.refill(&mut self.free);
        self.redirect
            .set_socket(u32::from(index.0), &socket)
            .map_err(|e| e.to_string())?;
        for address in &slot.wanted.addresses {
            let bits = address_bits(*address);
            self.redirect
                .add_prefix(*address, bits)
                .map_err(|e| e.to_string())?;
        }
        self.workers[usize::from(slot.worker)].send(Command::Add {
            index,
            socket: Box::new(socket),
            is_moved: false,
        });
        // Up only now: before, frames of the pod would have met no policy.
        self.netlink.set_up(link).map_err(|e| e.to_string())
    }

    fn forget_addresses(&mut self, slot: &Slot) {
        for address in &slot.wanted.addresses {
            // Nothing to forget is what was wanted.
            let _ = self
                .redirect
                .remove_prefix(*address, address_bits(*address));
        }
    }

    /// Takes the socket of an ended endpoint back from its worker.
    ///
    /// The kernel program stays: without a socket it drops, so the pod is cut off, not opened.
    fn close(&mut self, index: EndpointIndex, slot: &Slot) {
        if !slot.is_attached {
            self.slots.release(index);
            return;
        }
        let _ = self.redirect.unset_socket(u32::from(index.0));
        self.workers[usize::from(slot.worker)].send(Command::Remove { index });
    }

    pub(super) fn take_replies(&mut self) {
        for number in 0..self.workers.len() {
            while let Some(reply) = self.workers[number].replies.pop() {
                match reply {
                    // Dropped here: workers never free memory.
                    Reply::Replaced(snapshot, hits) => drop((snapshot, hits)),
                    Reply::Removed { index, socket } => {
                        if let Some(socket) = self.take_moving(index, socket) {
                            drop(socket);
                            self.slots.release(index);
                            self.is_stale = true;
                        }
                    }
                    Reply::Learned { index, mac } => self.learn(index, mac),
                    Reply::NeighbourWanted { index, address } => self.resolve(index, address),
                    Reply::Crowded(crowded) => self.view.crowd(crowded),
                }
            }
        }
    }

    fn learn(&mut self, index: EndpointIndex, mac: MacAddress) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        // The first one stays: a pod that changes its MAC address is a pod that pretends.
        if slot.wanted.mac.is_none() && slot.learned_mac.is_none() {
            slot.learned_mac = Some(mac);
            self.is_stale = true;
        }
    }

    /// Has the kernel ask for a next hop; behind pods the worker asks by itself.
    fn resolve(&mut self, index: EndpointIndex, address: IpAddr) {
        let slot = self
            .slots
            .get_mut(index)
            .filter(|slot| slot.wanted.key == SlotKey::Uplink);
        if let Some(link) = slot.and_then(|slot| slot.link) {
            // The answer comes as a change of the neighbour table.
            let _ = self.netlink.resolve(link, address);
        }
    }
}

fn address_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
