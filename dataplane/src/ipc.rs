//! What the command line asks of the daemon: one line of JSON there, lines of JSON back, over a unix
//! socket that only root may open.

use crate::listing::{FlowEntry, ListFilter, NatSession, PortUse, ServiceView};
use crate::observe::{Filter, Flow};
use crate::review::{Explanation, Matrix, Question, Unused};
use crate::status::Status;
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
    Observe {
        /// Which ones.
        filter: Filter,
        /// How many of the past, counted from the last; all that are kept when absent.
        last: Option<usize>,
        /// Whether to stay and wait for more.
        follow: bool,
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
    Flow(Box<Flow>),
    /// The reader was too slow, and this many events went by unseen.
    Lost(u64),
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
