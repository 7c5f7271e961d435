//! The last flows and drops, for any number of readers at their own pace.

use super::flow::FlowEnd;
use jiff::Timestamp;
use portcullis_engine::{EndpointId, ExitPlan, Record, ServiceTable};
use portcullis_policy::{Identity, PolicyIndex, Tables};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A record with its wall-clock time and the names of its generation.
#[derive(Debug, Clone)]
pub struct Event {
    /// When the worker saw it.
    pub time: Timestamp,
    /// What it saw.
    pub record: Record,
    /// Who was who then.
    pub names: Arc<Names>,
}

/// Who was who in one generation.
#[derive(Debug, Default)]
pub struct Names {
    /// Policy and identities, None before the first documents were accepted.
    pub tables: Option<Arc<Tables>>,
    /// Namespace, name and policy of each pod on this node.
    pub endpoints: HashMap<EndpointId, (String, String, Option<PolicyIndex>)>,
    /// Namespace and name of every known pod by address.
    pub pods: HashMap<IpAddr, (String, String)>,
    /// Services.
    pub services: Arc<ServiceTable>,
    /// How packets leave.
    pub exits: Arc<ExitPlan>,
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
        let labels = match &self.tables {
            Some(tables) => tables.labels(identity).to_vec(),
            None => Vec::new(),
        };
        FlowEnd {
            identity: identity.0,
            namespace,
            pod_name,
            labels,
        }
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

/// A bounded history: old events make room for new ones, and a reader that is too slow is told how
/// many it missed.
#[derive(Debug)]
pub struct History {
    inner: Mutex<Inner>,
    arrived: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Event>,
    /// Number of the event that will come next; numbers never repeat.
    next: u64,
    is_closed: bool,
}

/// Where one reader stands.
#[derive(Debug)]
pub struct Reader {
    history: Arc<History>,
    next: u64,
}

impl History {
    /// A history of the last `capacity` events.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            inner: Mutex::default(),
            arrived: Condvar::new(),
            capacity,
        }
    }

    /// Adds events, and lets readers know.
    pub fn extend(&self, events: impl IntoIterator<Item = Event>) {
        let mut inner = self.lock();
        for event in events {
            if inner.events.len() == self.capacity {
                inner.events.pop_front();
            }
            inner.events.push_back(event);
            inner.next += 1;
        }
        drop(inner);
        self.arrived.notify_all();
    }

    /// Ends every reader that waits.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_all();
    }

    /// Events that are kept now, and all there ever were.
    #[must_use]
    pub fn counts(&self) -> (usize, u64) {
        let inner = self.lock();
        (inner.events.len(), inner.next)
    }

    /// A reader that begins with the oldest event that is kept.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Reader {
        let inner = self.lock();
        Reader {
            history: Arc::clone(self),
            next: inner.next - inner.events.len() as u64,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// The events that came since the last call, at most `max`, and how many were missed before
    /// them. Empty when there is nothing new yet.
    pub fn read(&mut self, max: usize) -> (u64, Vec<Event>) {
        let inner = self.history.lock();
        let oldest = inner.next - inner.events.len() as u64;
        let missed = oldest.saturating_sub(self.next);
        self.next = self.next.max(oldest);
        let skip = usize::try_from(self.next - oldest).unwrap_or(usize::MAX);
        let events: Vec<Event> = inner.events.iter().skip(skip).take(max).cloned().collect();
        self.next += events.len() as u64;
        (missed, events)
    }

    /// Waits for something new. False when the history was closed.
    pub fn wait(&self, longest: Duration) -> bool {
        let inner = self.history.lock();
        if inner.is_closed {
            return false;
        }
        if inner.next > self.next {
            return true;
        }
        let (inner, _) = self
            .history
            .arrived
            .wait_timeout(inner, longest)
            .unwrap_or_else(PoisonError::into_inner);
        !inner.is_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_engine::{Drop, RecordKind};

    fn event(length: u32) -> Event {
        let record = Record {
            kind: RecordKind::Drop(Drop::Truncated),
            length,
            ..Record::BLANK
        };
        Event {
            time: Timestamp::UNIX_EPOCH,
            record,
            names: Arc::default(),
        }
    }

    fn lengths(events: &[Event]) -> Vec<u32> {
        events.iter().map(|event| event.record.length).collect()
    }

    #[test]
    fn a_slow_reader_is_told_how_many_it_missed() {
        let history = Arc::new(History::new(3));
        history.extend([event(1), event(2)]);
        let mut reader = history.reader();
        let (missed, events) = reader.read(10);
        assert_eq!((missed, lengths(&events)), (0, vec![1, 2]));
        history.extend((3..=7).map(event));
        let (missed, events) = reader.read(2);
        assert_eq!((missed, lengths(&events)), (2, vec![5, 6]));
        let (missed, events) = reader.read(10);
        assert_eq!((missed, lengths(&events)), (0, vec![7]));
        assert_eq!(history.counts(), (3, 7));
    }

    #[test]
    fn closing_ends_a_reader_that_waits() {
        let history = Arc::new(History::new(3));
        let reader = history.reader();
        let waiting = std::thread::spawn(move || reader.wait(Duration::from_secs(60)));
        history.close();
        assert!(!waiting.join().unwrap());
    }
}
