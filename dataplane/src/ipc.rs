//! What the command line asks of the daemon: one line of JSON there, lines of JSON back, over a unix
//! socket that only root may open.

use crate::listing::{FlowEntry, ListFilter, NatSession, PortUse, ServiceView};
use crate::recall::{Ask, Explained, Grouping, Ranked, SeenFlow, Wanted, Which};
use crate::review::{Candidate, Explanation, Matrix, Question, Replay, Suggestion, Unused, Wish};
use crate::status::Status;
use clap::ValueEnum;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Where the daemon listens unless told otherwise.
pub const SOCKET_PATH: &str = "/run/portcullis/portcullis.sock";

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// The state of the daemon.
    Status,
    /// Flows and drops.
    Observe(Box<Ask>),
    /// Why one flow passed or not, by the documents of its time.
    Why(Which),
    /// Who talks most.
    Rank(Box<RankingAsk>),
    /// Policies that allow what was recorded.
    Suggest {
        /// Which ones.
        wish: Wish,
        /// From what was recorded since.
        since: Option<Timestamp>,
    },
    /// What of what was recorded other documents would judge otherwise.
    Replay {
        /// The documents.
        candidate: Candidate,
        /// What was recorded since.
        since: Option<Timestamp>,
    },
    /// Why a connection passes or not, by the documents in force.
    Explain(Question),
    /// Who may talk to whom, by the documents in force.
    Matrix,
    /// Rules that decided nothing, policies that select nobody.
    Unused {
        /// For how many seconds; since they are in force when absent.
        span: Option<u64>,
    },
    /// Entries of flow tables, and the translations that may belong to them.
    Flows(ListFilter),
    /// Translations.
    Nat(ListFilter),
    /// Ports of egress addresses, by destination.
    Ports,
    /// Services.
    Services,
    /// Moves a pod to another worker.
    Move {
        /// `namespace/name`.
        pod: String,
        /// Where to.
        worker: u16,
    },
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The state of the daemon.
    Status(Box<Status>),
    /// A flow or a drop.
    Flow(Box<SeenFlow>),
    /// The same in Hubble's form: an object of JSON.
    Line(String),
    /// Events went by unseen.
    Lost(Lost),
    /// Why one flow passed or not.
    Why(Box<Explained>),
    /// Who talks most.
    Ranking(Box<RankedRows>),
    /// Policies that allow what was recorded.
    Suggestion(Box<Suggestion>),
    /// What other documents would judge otherwise.
    Replay(Box<Replay>),
    /// Why a connection passes or not.
    Explanation(Box<Explanation>),
    /// Who may talk to whom.
    Matrix(Box<Matrix>),
    /// What could go.
    Unused(Box<Unused>),
    /// An entry of a flow table.
    Entry(Box<FlowEntry>),
    /// A translation.
    Session(Box<NatSession>),
    /// Ports that a destination takes.
    PortUse(Box<PortUse>),
    /// A port of a service.
    Service(Box<ServiceView>),
    /// What was done.
    Done(String),
    /// The answer is not whole, and why.
    Missing(String),
    /// The question could not be answered.
    Error(String),
}

/// What went by unseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Events that the reader was too slow for.
    pub count: u64,
    /// When the first and the last of them were.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Records that a worker had no room for: nobody sees these.
    pub unwritten: u64,
}

/// What rows are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankingAsk {
    /// What they are made by; source, destination and port when empty.
    pub by: Vec<Grouping>,
    /// Which events count.
    pub wanted: Wanted,
    /// Not before.
    pub since: Option<Timestamp>,
    /// How many of the last.
    pub last: Option<usize>,
    /// What comes first.
    pub sort: SortBy,
    /// How many rows.
    pub limit: usize,
}

/// What rows are sorted by, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SortBy {
    /// Connections.
    #[default]
    Connections,
    /// Dropped packets.
    Drops,
    /// Packets that passed.
    Packets,
    /// Bytes that passed.
    Bytes,
}

/// Rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankedRows {
    /// What they are made by.
    pub by: Vec<Grouping>,
    /// The first of them.
    pub rows: Vec<Ranked>,
    /// How many there are.
    pub rows_all: usize,
    /// Events that were counted.
    pub events: u64,
    /// Events that went by unread.
    pub lost: u64,
    /// When the oldest event that is kept was.
    pub oldest: Option<Timestamp>,
}

/// Asks, and gives the lines of the answer as they come.
///
/// # Errors
/// When nobody listens, or the connection breaks.
pub fn ask(
    socket: &Path,
    request: &Request,
) -> Result<impl Iterator<Item = Result<Answer, String>> + use<>, String> {
    let place = socket.display();
    let mut stream = UnixStream::connect(socket).map_err(|e| {
        format!("{place}: cannot reach the daemon: {e}. Is `portcullis run` running? (--socket names another socket)")
    })?;
    let mut line = serde_json::to_string(request).map_err(|e| e.to_string())?;
    line.push('\n');
    stream
        .write_all(line.as_bytes())
        .map_err(|e| format!("{place}: {e}"))?;
    Ok(BufReader::new(stream).lines().map(|line| {
        let line = line.map_err(|e| format!("the daemon went away: {e}"))?;
        serde_json::from_str(&line).map_err(|e| format!("an answer that is not understood: {e}"))
    }))
}
