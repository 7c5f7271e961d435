//! The control loop: what documents and kernel say becomes endpoints, tables and a snapshot.

use super::documents::{Documents, settings_of};
use super::endpoints::{SlotKey, Slots, Wanted};
use super::heat::Heat;
use super::host_pair::NET_END;
use super::moving::{MoveRequest, Moving};
use super::publish::{self, KernelView};
use super::services::Services;
use super::source::{SourceError, SourceState};
use crate::config::Config;
use crate::netlink::Netlink;
use crate::rings::{FreeFrames, Umem};
use crate::status_view::StatusView;
use crate::worker::WorkerHandle;
use crate::xdp::{Redirect, XdpMode};
use portcullis_engine::{ExitPlan, MacAddress, Snapshot};
use portcullis_policy::{
    Cidr, Compiler, DocumentError, Generation, IdentityAllocator, KnownNames, NodeFacts, Object,
    Settings, Tables,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// The annotation that names the host end of a pod's veth pair.
pub const INTERFACE_ANNOTATION: &str = "portcullis.io/interface";
/// The annotation that names the pod's MAC address.
pub const MAC_ANNOTATION: &str = "portcullis.io/mac";

/// Replies of workers are looked for this often.
const TICK: Duration = Duration::from_millis(100);
/// Changes of the kernel that come within this time are looked at together.
const SETTLE: Duration = Duration::from_millis(10);

/// Something that control has to look at.
#[derive(Debug)]
pub enum Notice {
    /// The source has new documents, or cannot be read.
    Documents(Result<SourceState, SourceError>),
    /// Links, addresses, routes or neighbours changed.
    KernelChanged,
    /// Somebody asks to move a pod to another worker.
    Move(MoveRequest),
    /// End in order.
    Shutdown,
}

/// The control path of one daemon.
pub struct Control {
    /// Settings in force.
    pub config: Config,
    /// How the kernel program is attached.
    pub xdp_mode: XdpMode,
    /// The kernel program.
    pub redirect: Redirect,
    /// Packet memory.
    pub umem: Arc<Umem>,
    /// Free frames to arm new sockets with.
    pub free: FreeFrames,
    /// The workers, by number.
    pub workers: Vec<WorkerHandle>,
    /// Questions to the kernel.
    pub netlink: Netlink,
    /// What `status` shows.
    pub view: Arc<StatusView>,
    pub(super) slots: Slots,
    pub(super) documents: Documents,
    /// What the tables were worked out from, so that a change costs what it touches.
    pub(super) compiler: Compiler,
    pub(super) tables: Option<Arc<Tables>>,
    pub(super) services: Services,
    pub(super) exits: Arc<ExitPlan>,
    pub(super) kernel: KernelView,
    /// What the tables were compiled for.
    pub(super) facts: NodeFacts,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) generation: Generation,
    pub(super) sampled: Instant,
    /// Whether a reply of a worker changed something that has to be applied.
    pub(super) is_stale: bool,
    /// Interfaces that the kernel program is attached to, with or without an endpoint.
    pub(super) attached: BTreeSet<u32>,
    pub(super) heat: Heat,
    /// An endpoint on its way from one worker to another.
    pub(super) moving: Option<Moving>,
}

impl Control {
    /// Control over what was made at start.
    #[must_use]
    pub fn new(
        (config, xdp_mode): (Config, XdpMode),
        redirect: Redirect,
        umem: Arc<Umem>,
        workers: Vec<WorkerHandle>,
        netlink: Netlink,
        view: Arc<StatusView>,
    ) -> Self {
        let slots = Slots::new(config.workers.count);
        let kernel = KernelView::default();
        let compiler = Compiler::new(settings_of(&config), IdentityAllocator::new());
        let services = Services::default();
        let snapshot = Arc::new(publish::snapshot(
            Generation(0),
            None,
            &services.table,
            &Arc::default(),
            &slots,
            &kernel,
        ));
        Self {
            config,
            xdp_mode,
            redirect,
            free: FreeFrames::new(&umem),
            umem,
            workers,
            netlink,
            view,
            slots,
            documents: Documents::default(),
            compiler,
            tables: None,
            services,
            exits: Arc::default(),
            kernel,
            facts: NodeFacts::default(),
            snapshot,
            generation: Generation(0),
            sampled: Instant::now(),
            is_stale: false,
            attached: BTreeSet::new(),
            heat: Heat::default(),
            moving: None,
        }
    }

    /// Runs until it is told to end.
    pub fn run(mut self, notices: &Receiver<Notice>) {
        loop {
            match notices.recv_timeout(TICK) {
                Ok(notice) => {
                    if !self.take_notices(notice, notices) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.take_replies();
            if self.is_stale {
                self.take_kernel();
            }
            if self.sampled.elapsed() >= Duration::from_secs(1) {
                // What could not be attached may work now; the fault is in `status` meanwhile.
                self.is_stale |= !self.waiting().is_empty();
                self.take_heat();
            }
        }
    }

    /// Looks at a notice and all that wait behind it. False when it is time to end.
    ///
    /// One change of the kernel seldom comes alone, and all of its tables are read anyway; of
    /// several states of the documents only the last one counts.
    fn take_notices(&mut self, first: Notice, notices: &Receiver<Notice>) -> bool {
        let (mut documents, mut has_kernel_changed) = (None, false);
        let mut moves = Vec::new();
        let mut next = Some(first);
        while let Some(notice) = next {
            match notice {
                Notice::Documents(state) => documents = Some(state),
                Notice::KernelChanged => {
                    if !has_kernel_changed {
                        thread::sleep(SETTLE);
                    }
                    has_kernel_changed = true;
                }
                Notice::Move(request) => moves.push(request),
                Notice::Shutdown => return false,
            }
            next = notices.try_recv().ok();
        }
        // Documents that take effect have the kernel's tables read, too.
        if !documents.is_some_and(|state| self.take_documents(state)) {
            self.take_kernel();
        }
        moves.iter().for_each(|request| self.take_move(request));
        true
    }

    /// New documents: all of them take effect, or none. Says which.
    fn take_documents(&mut self, state: Result<SourceState, SourceError>) -> bool {
        let read = Instant::now();
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                self.view.refuse(vec![error.to_string()]);
                return false;
            }
        };
        let config = match &state.config {
            Some(file) => match Config::parse(&file.name, &file.text) {
                Ok(config) => config,
                Err(errors) => return self.refuse(&errors),
            },
            None => Config::default(),
        };
        let settings = settings_of(&config);
        let documents = match self.documents.parse(&state, &settings) {
            Ok(documents) => documents,
            Err(errors) => return self.refuse(&errors),
        };
        // What is refused below must not hide from `take_kernel` what the kernel has changed.
        self.is_stale |= self.look_at_kernel();
        let facts = self.node_facts();
        let tables = match self.compile(&documents, &facts, &settings) {
            Ok(tables) => tables,
            Err(errors) => return self.refuse(&errors),
        };
        let restart = self.config.restart_needed_for(&config);
        self.config.take_live(&config);
        let mut warnings: Vec<String> = documents
            .all()
            .iter()
            .flat_map(|document| &document.warnings)
            .map(ToString::to_string)
            .collect();
        warnings.extend(self.unrouted(&documents));
        let nodes = self.kernel.node_addresses();
        self.services
            .update(documents.shared(), self.config.serving(nodes));
        warnings.extend_from_slice(&self.services.conflicts);
        if !restart.is_empty() {
            warnings.push(format!(
                "config.yaml: needs a restart for {}",
                restart.join(", ")
            ));
        }
        self.documents = documents;
        self.facts = facts;
        self.tables = Some(Arc::new(tables));
        self.view
            .accept(&self.config, self.documents.counts(), warnings, read);
        self.is_stale = false;
        self.apply();
        true
    }

    /// Pods of this node that the node itself cannot reach, for want of a route.
    fn unrouted(&self, documents: &Documents) -> Vec<String> {
        let blocks: Vec<Cidr> = self
            .config
            .pod_cidrs
            .iter()
            .filter_map(|block| Cidr::new(block.address, block.prefix_length))
            .collect();
        let mut warnings = Vec::new();
        for document in documents.all() {
            let Object::Pod(pod) = &document.object else {
                continue;
            };
            if !pod.annotations.contains_key(INTERFACE_ANNOTATION) {
                continue;
            }
            for address in &pod.addresses {
                if !blocks.iter().any(|block| block.has_address(*address)) {
                    warnings.push(format!(
                        "config.yaml, podCIDRs: no block holds {address} of pod {}/{}, so this node \
                         has no route to it",
                        pod.namespace, pod.name
                    ));
                }
            }
        }
        warnings
    }

    /// The documents do not take effect.
    fn refuse(&self, errors: &[DocumentError]) -> bool {
        self.view
            .refuse(errors.iter().map(ToString::to_string).collect());
        false
    }

    /// Tables of what there is now. Refused documents leave the compiler as it was.
    fn compile(
        &mut self,
        documents: &Documents,
        facts: &NodeFacts,
        settings: &Settings,
    ) -> Result<Tables, Vec<DocumentError>> {
        let generation = Generation(self.generation.0 + 1);
        let names = KnownNames::default();
        let all = documents.all();
        self.compiler
            .replace(all, facts, &names, settings, generation)
    }

    /// Links, addresses, routes or neighbours changed.
    fn take_kernel(&mut self) {
        let is_same = !self.look_at_kernel();
        if is_same && !std::mem::take(&mut self.is_stale) {
            return;
        }
        let facts = self.node_facts();
        if facts != self.facts && self.tables.is_some() {
            let documents = self.documents.clone();
            // The same documents were compiled before; only addresses of the node are new.
            match self.compile(&documents, &facts, &settings_of(&self.config)) {
                Ok(tables) => {
                    self.tables = Some(Arc::new(tables));
                    self.facts = facts;
                }
                Err(errors) => errors
                    .iter()
                    .for_each(|error| self.view.fault(error.to_string())),
            }
        }
        self.apply();
    }

    /// Reads the kernel's tables. Says whether they differ from before.
    fn look_at_kernel(&mut self) -> bool {
        match KernelView::read(&mut self.netlink) {
            Ok(kernel) => {
                let is_new = kernel != self.kernel;
                self.kernel = kernel;
                is_new
            }
            Err(error) => {
                self.view.fault(error.to_string());
                false
            }
        }
    }

    fn node_facts(&self) -> NodeFacts {
        NodeFacts {
            node_addresses: self.kernel.node_addresses(),
            pod_cidrs: self
                .config
                .pod_cidrs
                .iter()
                .map(|block| (block.address, block.prefix_length))
                .collect(),
            ..NodeFacts::default()
        }
    }

    /// What settings and documents ask to be policed.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let mut wanted = vec![Wanted {
            key: SlotKey::Host,
            interface: NET_END.into(),
            addresses: Vec::new(),
            mac: None,
        }];
        if let Some(uplink) = &self.config.uplink {
            wanted.push(Wanted {
                key: SlotKey::Uplink,
                interface: uplink.clone(),
                addresses: Vec::new(),
                mac: None,
            });
        }
        for document in self.documents.all() {
            let Object::Pod(pod) = &document.object else {
                continue;
            };
            let Some(interface) = pod.annotations.get(INTERFACE_ANNOTATION) else {
                continue;
            };
            wanted.push(Wanted {
                key: SlotKey::Pod {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                },
                interface: interface.clone(),
                addresses: pod.addresses.clone(),
                mac: pod
                    .annotations
                    .get(MAC_ANNOTATION)
                    .and_then(|text| parse_mac(text)),
            });
        }
        wanted
    }
}

/// Reads `02:00:00:00:00:01`.
#[must_use]
pub fn parse_mac(text: &str) -> Option<MacAddress> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(MacAddress(mac))
}
