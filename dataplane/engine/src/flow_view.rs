//! What is shown of the flow table: one entry after the other, copied out between two batches.

use crate::flow::{Flow, Side};
use crate::flow_table::FlowTable;
use crate::flow_timeouts::Lives;
use crate::tcp_state::FlowState;
use crate::{EndpointId, Now};
use portcullis_policy::{Generation, Protocol, RuleId};
use std::net::IpAddr;
use std::time::Duration;

/// Places that one call of `list` looks at.
const LIST_PLACES_MAX: usize = 4096;

/// One entry of the flow table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowView {
    /// The pod that keeps the entry: its own side is the local one.
    pub endpoint: EndpointId,
    /// The protocol.
    pub protocol: Protocol,
    /// The pod's address and port; the port of an echo is its identifier at the side that asked.
    pub local: (IpAddr, u16),
    /// Its peer's address and port.
    pub remote: (IpAddr, u16),
    /// Who began it.
    pub initiator: Side,
    /// How far it has come.
    pub state: FlowState,
    /// When it began, to a tenth of a second.
    pub opened: Now,
    /// When its last packet came.
    pub seen: Now,
    /// How long it lives unless another comes.
    pub time_left: Duration,
    /// Packets and bytes of IP that the pod has sent.
    pub sent: (u32, u64),
    /// Packets and bytes of IP that its peer has sent.
    pub received: (u32, u64),
    /// The snapshot under which it was last judged.
    pub generation: Generation,
    /// The rule of that snapshot's tables that allowed it, where one did.
    pub rule: Option<RuleId>,
    /// Whether a translation of a service or of addresses belongs to it.
    pub is_translated: bool,
}

impl FlowView {
    fn of(flow: &Flow, lives: &Lives, now: Now) -> Self {
        let (addresses, ports) = (flow.key.addresses(), flow.key.ports());
        let left = flow.deadline(lives).saturating_sub(now.0);
        Self {
            endpoint: flow.key.endpoint(),
            protocol: flow.key.protocol(),
            local: (addresses.0, ports.0),
            remote: (addresses.1, ports.1),
            initiator: flow.initiator(),
            state: flow.state(),
            opened: flow.opened(),
            seen: flow.seen,
            time_left: Duration::from_nanos(left),
            sent: flow.sent(Side::Local),
            received: flow.sent(Side::Remote),
            generation: flow.generation(),
            rule: flow.rule(),
            is_translated: flow.is_translated(),
        }
    }
}

impl FlowTable {
    /// Writes the entries from a cursor on into what room `out` has, a bounded piece in each call.
    /// Returns where to go on; None at the end. A walk from zero meets each entry that lives
    /// throughout exactly once.
    pub fn list(&self, cursor: u32, out: &mut Vec<FlowView>) -> Option<u32> {
        let end = self.places_used().min(cursor as usize + LIST_PLACES_MAX);
        for place in cursor as usize..end {
            if out.len() == out.capacity() {
                return Some(place as u32);
            }
            if let Some(flow) = self.live_at(place) {
                out.push(FlowView::of(flow, self.lives(), self.now()));
            }
        }
        (end < self.places_used()).then_some(end as u32)
    }
}
