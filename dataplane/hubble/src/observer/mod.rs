//! `observer.Observer`: flows, events, nodes and namespaces.

mod agent_events;
mod filters;
mod flows;
mod losses;
mod namespaces;
mod window;

use crate::expression::read_expressions;
use crate::mask::Mask;
use crate::sources::Sources;
use crate::wire::flow::FlowFilter as WireFilter;
use crate::wire::observer::observer_server::Observer;
use crate::wire::observer::{
    GetAgentEventsRequest, GetAgentEventsResponse, GetDebugEventsRequest, GetDebugEventsResponse,
    GetFlowsRequest, GetFlowsResponse, GetNamespacesRequest, GetNamespacesResponse,
    GetNodesRequest, GetNodesResponse, Node, ServerStatusRequest, ServerStatusResponse, Tls,
};
use crate::wire::relay::NodeState;
use flows::Reading;
use jiff::Timestamp;
pub(crate) use losses::Losses;
use portcullis_observe::{FlowChoice, FlowFilter, Position};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use window::{Window, time};

/// The version of Hubble's API that is spoken: a client says so when it is older.
const API_VERSION: &str = "1.19.4";
/// Messages that wait for one client.
const WAITING_MAX: usize = 64;
/// Streams at one time.
const STREAMS_MAX: usize = 256;
/// Filters of one list: more is a mistake, or an attack.
const FILTERS_MAX: usize = 256;

/// Answers.
#[derive(Clone)]
pub(crate) struct ObserverService {
    sources: Sources,
    /// Where it is reached, and whether that speaks TLS.
    address: String,
    is_tls: bool,
    places: Arc<Semaphore>,
}

impl ObserverService {
    /// Answers from these sources.
    pub(crate) fn new(sources: Sources, address: String, is_tls: bool) -> Self {
        Self {
            sources,
            address,
            is_tls,
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{STREAMS_MAX} streams are open already"))
        })
    }

    fn uptime_ns(&self) -> u64 {
        let uptime = Timestamp::now().duration_since(self.sources.node.started);
        u64::try_from(uptime.as_nanos()).unwrap_or_default()
    }

    fn reading(&self, request: &GetFlowsRequest) -> Result<Reading, String> {
        let window = Window::of(request)?;
        let whitelist = filters("whitelist", &request.whitelist)?;
        let blacklist = filters("blacklist", &request.blacklist)?;
        let home = self.sources.node.home();
        let choice = FlowChoice::compile(&whitelist, &blacklist, &home, read_expressions)?;
        let mask = Mask::parse(request.field_mask.as_ref())?;
        Ok(Reading::new(&self.sources, window, choice, mask))
    }
}

fn filters(name: &str, from: &[WireFilter]) -> Result<Vec<FlowFilter>, String> {
    if from.len() > FILTERS_MAX {
        return Err(format!(
            "{name}: expected at most {FILTERS_MAX} filters, found {}",
            from.len()
        ));
    }
    let read = |(place, filter)| filters::read(filter).map_err(|e| format!("{name}[{place}].{e}"));
    from.iter().enumerate().map(read).collect()
}

/// What every answer begins with.
fn told<T>(message: T) -> Response<T> {
    let mut response = Response::new(message);
    let version = tonic::metadata::MetadataValue::from_static(API_VERSION);
    response
        .metadata_mut()
        .insert("hubble-server-version", version);
    response
}

type Stream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl Observer for ObserverService {
    type GetFlowsStream = Stream<GetFlowsResponse>;
    type GetAgentEventsStream = Stream<GetAgentEventsResponse>;
    type GetDebugEventsStream = Stream<GetDebugEventsResponse>;

    async fn get_flows(
        &self,
        request: Request<GetFlowsRequest>,
    ) -> Result<Response<Self::GetFlowsStream>, Status> {
        let place = self.place()?;
        let reading = self.reading(request.get_ref());
        let reading = reading.map_err(Status::invalid_argument)?;
        let (client, stream) = mpsc::channel(WAITING_MAX);
        let sources = self.sources.clone();
        // Now is when the request came, not when its turn does: a client that has its answer may
        // rely on what happens next.
        let now = sources.history.reader_at(Position::Newest);
        tokio::spawn(async move {
            reading.run(sources, now, client).await;
            drop(place);
        });
        Ok(told(ReceiverStream::new(stream)))
    }

    async fn get_agent_events(
        &self,
        request: Request<GetAgentEventsRequest>,
    ) -> Result<Response<Self::GetAgentEventsStream>, Status> {
        let place = self.place()?;
        let asked = request.get_ref();
        let window = time("since", asked.since.as_ref()).and_then(|since| {
            let until = time("until", asked.until.as_ref())?;
            Window::new(asked.number, asked.first, asked.follow, since, until)
        });
        let window = window.map_err(Status::invalid_argument)?;
        let (client, stream) = mpsc::channel(WAITING_MAX);
        let (log, node) = (Arc::clone(&self.sources.log), self.sources.node.absolute());
        tokio::spawn(async move {
            agent_events::run(log, node, window, client).await;
            drop(place);
        });
        Ok(told(ReceiverStream::new(stream)))
    }

    async fn get_debug_events(
        &self,
        _request: Request<GetDebugEventsRequest>,
    ) -> Result<Response<Self::GetDebugEventsStream>, Status> {
        // There are none: a stream that has ended says so better than an error.
        let (_, stream) = mpsc::channel(1);
        Ok(told(ReceiverStream::new(stream)))
    }

    async fn get_nodes(
        &self,
        _request: Request<GetNodesRequest>,
    ) -> Result<Response<GetNodesResponse>, Status> {
        let counts = self.sources.history.counts_all();
        let node = Node {
            name: self.sources.node.absolute(),
            version: version(),
            address: self.address.clone(),
            state: NodeState::NodeConnected as i32,
            tls: Some(Tls {
                enabled: self.is_tls,
                server_name: if self.is_tls {
                    crate::peer::server_name(&self.sources.node)
                } else {
                    String::new()
                },
            }),
            uptime_ns: self.uptime_ns(),
            num_flows: counts.kept as u64,
            max_flows: counts.kept_max as u64,
            seen_flows: counts.written,
        };
        Ok(told(GetNodesResponse { nodes: vec![node] }))
    }

    async fn get_namespaces(
        &self,
        _request: Request<GetNamespacesRequest>,
    ) -> Result<Response<GetNamespacesResponse>, Status> {
        let cluster = &self.sources.node.cluster;
        let history = &self.sources.history;
        let namespaces = namespaces::seen(history, cluster, Timestamp::now()).await;
        Ok(told(GetNamespacesResponse { namespaces }))
    }

    async fn server_status(
        &self,
        _request: Request<ServerStatusRequest>,
    ) -> Result<Response<ServerStatusResponse>, Status> {
        let counts = self.sources.history.counts_all();
        Ok(told(ServerStatusResponse {
            num_flows: counts.kept as u64,
            max_flows: counts.kept_max as u64,
            seen_flows: counts.written,
            uptime_ns: self.uptime_ns(),
            num_connected_nodes: Some(1),
            num_unavailable_nodes: Some(0),
            unavailable_nodes: Vec::new(),
            version: version(),
            flows_rate: self.sources.history.flows_rate(Timestamp::now()),
        }))
    }
}

fn version() -> String {
    format!("portcullis {}", env!("CARGO_PKG_VERSION"))
}
