//! GetFlows: reads history at the pace of one client.

use super::losses::Losses;
use super::window::{Start, Window};
use crate::flow::{Teller, timestamp};
use crate::mask::Mask;
use crate::sources::Sources;
use crate::wire::flow::LostEvent;
use crate::wire::observer::GetFlowsResponse;
use crate::wire::observer::get_flows_response::ResponseTypes;
use jiff::Timestamp;
use portcullis_observe::{Event, FlowChoice, Reader, Sighting};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;
use tonic::Status;

/// Events that are read at one time: what a client that stops reading keeps from being lost is
/// this and the messages that wait for it, and no more.
const BATCH: usize = 256;
/// How long news waits for a follower: as long as the observer lets it wait anyway.
const PERIOD: Duration = Duration::from_millis(25);

/// Events of several workers come in the order of their times but for this.
const DISORDER: Duration = Duration::from_secs(1);

/// What a client is told.
pub(crate) type Answer = Result<GetFlowsResponse, Status>;

/// One client's way through history.
#[derive(Debug)]
pub(crate) struct Reading {
    pub window: Window,
    pub choice: FlowChoice,
    pub mask: Mask,
    teller: Teller,
    node: String,
    losses: Losses,
    /// Of those that are wanted, still to be passed over.
    skip: u64,
    /// Still to be told; None for no bound.
    left: Option<u64>,
}

impl Reading {
    /// A client that asks for this.
    pub(crate) fn new(sources: &Sources, window: Window, choice: FlowChoice, mask: Mask) -> Self {
        Self {
            left: window.number,
            window,
            choice,
            mask,
            teller: Teller::new(&sources.node),
            node: sources.node.absolute(),
            losses: Losses::default(),
            skip: 0,
        }
    }

    /// Tells all that is asked for. Ends with it, or when the client goes.
    pub(crate) async fn run(mut self, sources: Sources, now: Reader, client: Sender<Answer>) {
        let history = sources.history;
        // Who does not follow gets what there is now, however fast more comes.
        let newest = history.events_before(u64::MAX, 1);
        let end = newest.first().map_or(0, |event| event.number + 1);
        let is_gone = || client.is_closed();
        let found = Start::find(&history, &self.window, &self.choice, now, is_gone);
        let Some(start) = found.await else {
            return;
        };
        self.skip = start.skip;
        let mut reader = start.reader;
        loop {
            let batch = reader.read(BATCH);
            self.losses.note(&batch);
            let is_empty = batch.events.is_empty();
            if self.tell_losses(&client, false).await.is_none() {
                return;
            }
            for event in &batch.events {
                let is_over = !self.window.follow && event.number >= end;
                if is_over || self.window.is_past(event.time - DISORDER) {
                    return self.end(&client).await;
                }
                if self.window.is_past(event.time) {
                    continue;
                }
                if self.choice.has_expressions() {
                    // Other readers are not to wait for what they cost.
                    tokio::task::yield_now().await;
                }
                match self.tell(event, &client).await {
                    None => return,
                    Some(false) => return self.end(&client).await,
                    Some(true) => {}
                }
            }
            if !is_empty {
                continue;
            }
            if !self.window.follow || self.window.is_past(Timestamp::now() - DISORDER) {
                return self.end(&client).await;
            }
            tokio::select! {
                () = client.closed() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// Tells what of an event is wanted. Some(false) when that was enough, None when nobody listens.
    async fn tell(&mut self, event: &Event, client: &Sender<Answer>) -> Option<bool> {
        for sighting in Sighting::all(event) {
            if !self.choice.wants(&sighting) {
                continue;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            let flow = self.mask.apply(self.teller.flow(&sighting));
            let answer = GetFlowsResponse {
                response_types: Some(ResponseTypes::Flow(flow)),
                node_name: self.node.clone(),
                time: Some(timestamp(event.time)),
            };
            client.send(Ok(answer)).await.ok()?;
            if let Some(left) = &mut self.left {
                *left -= 1;
                if *left == 0 {
                    return Some(false);
                }
            }
        }
        Some(true)
    }

    /// Tells what was lost, in time.
    async fn tell_losses(&mut self, client: &Sender<Answer>, is_end: bool) -> Option<()> {
        for lost in self.losses.due(Instant::now(), is_end) {
            client.send(Ok(self.lost(lost))).await.ok()?;
        }
        Some(())
    }

    fn lost(&self, lost: LostEvent) -> GetFlowsResponse {
        GetFlowsResponse {
            response_types: Some(ResponseTypes::LostEvents(lost)),
            node_name: self.node.clone(),
            time: Some(timestamp(Timestamp::now())),
        }
    }

    async fn end(mut self, client: &Sender<Answer>) {
        // Whether anybody listens does not matter any more.
        let _ = self.tell_losses(client, true).await;
    }
}
