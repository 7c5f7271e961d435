//! The daemon's end of the unix socket: a thread for each reader, all bounded.

use crate::ipc::{Answer, Request};
use crate::listing::{FlowEntry, ListFilter, Listing, NatSession, PortUse};
use crate::observe::{History, Home};
use crate::privileges;
use crate::recall;
use crate::review::{self, Reading};
use crate::status::{RuleStatus, Status};
use crate::worker::{Page, now};
use jiff::Timestamp;
use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// Readers at one time.
const READERS_MAX: usize = 64;
/// Bytes of one request: documents that are to be tried come along.
const REQUEST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long a reader may take nothing before its place is given to another: one that was stopped is
/// to go on where it was and be told what it missed.
const STALL_MAX: Duration = Duration::from_secs(600);

/// Moves a pod, `namespace/name`, to a worker, and says what was done.
pub type MovePod = Box<dyn Fn(String, u16) -> Result<String, String> + Send + Sync>;

/// What readers may see.
pub struct Views {
    /// Flows and drops.
    pub history: Arc<History>,
    /// The node and its cluster.
    pub home: Home,
    /// Makes the status of the moment.
    pub status: Box<dyn Fn() -> Status + Send + Sync>,
    /// The documents in force; None before the first were accepted.
    pub reading: Box<dyn Fn() -> Option<Arc<Reading>> + Send + Sync>,
    /// Every rule in force, and how often it decided.
    pub rules: Box<dyn Fn() -> Vec<RuleStatus> + Send + Sync>,
    /// The tables of the workers.
    pub listing: Listing,
    /// Moves a pod to another worker.
    pub move_pod: MovePod,
}

/// Listens until the process ends.
///
/// # Errors
/// When the socket cannot be made: its directory is missing, or another daemon listens on it.
pub fn listen(path: &Path, views: Arc<Views>) -> Result<(), String> {
    let fault = |e: io::Error| format!("{}: cannot listen: {e}", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(fault)?;
    }
    if UnixStream::connect(path).is_ok() {
        return Err(format!("{}: another daemon listens there", path.display()));
    }
    // What a daemon that was killed left behind.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(fault)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(fault)?;
    let readers = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        // Its readers' threads are as it is.
        privileges::stand_back();
        for stream in listener.incoming().flatten() {
            if readers.fetch_add(1, Relaxed) >= READERS_MAX {
                readers.fetch_sub(1, Relaxed);
                let text = format!("{READERS_MAX} readers are connected already");
                let _ = tell(&mut BufWriter::new(&stream), &Answer::Error(text));
                continue;
            }
            let (views, mine) = (Arc::clone(&views), Arc::clone(&readers));
            let serve = move || {
                // A reader that goes away ends its thread; nobody else minds.
                let _ = answer(&stream, &views);
                mine.fetch_sub(1, Relaxed);
            };
            if thread::Builder::new()
                .name("reader".into())
                .spawn(serve)
                .is_err()
            {
                readers.fetch_sub(1, Relaxed);
            }
        }
    };
    thread::Builder::new()
        .name("server".into())
        .spawn(accept)
        .map_err(fault)?;
    Ok(())
}

fn tell(stream: &mut impl Write, answer: &Answer) -> io::Result<()> {
    serde_json::to_writer(&mut *stream, answer)?;
    stream.write_all(b"\n")
}

fn tell_made<T>(
    stream: &mut impl Write,
    made: Result<T, String>,
    answer: impl FnOnce(T) -> Answer,
) -> io::Result<()> {
    tell(stream, &made.map_or_else(Answer::Error, answer))
}

fn in_force(views: &Views) -> Result<Arc<Reading>, String> {
    (views.reading)().ok_or_else(|| "no documents have been accepted yet".into())
}

/// Whether the reader has closed its end: a silent one would hold its place for ever.
fn has_left(mut stream: &UnixStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let has_left = matches!(stream.read(&mut [0; 1]), Ok(0));
    has_left || stream.set_nonblocking(false).is_err()
}

fn tell_missing(stream: &mut impl Write, missing: Vec<String>) -> io::Result<()> {
    missing
        .into_iter()
        .try_for_each(|text| tell(stream, &Answer::Missing(text)))
}

/// Tells translations, a page at a time.
fn tell_sessions(
    stream: &mut impl Write,
    listing: &Listing,
    filter: &ListFilter,
) -> io::Result<Vec<String>> {
    let names = (listing.names)(None);
    listing.read(Page::of_sessions, |page| {
        let Page::Sessions(page) = page else {
            return Ok(());
        };
        let moment = now();
        page.iter()
            .map(|view| NatSession::read(view, &names, moment))
            .filter(|session| session.is_wanted(filter))
            .try_for_each(|session| tell(stream, &Answer::Session(Box::new(session))))
    })
}

/// Tells entries of flow tables, a page at a time.
fn tell_entries(
    stream: &mut impl Write,
    listing: &Listing,
    filter: &ListFilter,
) -> io::Result<Vec<String>> {
    // Rules have numbers of their generation; most entries of a page have the same.
    let mut names = (Default::default(), (listing.names)(None));
    listing.read(Page::of_flows, |page| {
        let Page::Flows(page) = page else {
            return Ok(());
        };
        let moment = now();
        for view in page {
            if names.0 != Some(view.generation) {
                names = (
                    Some(view.generation),
                    (listing.names)(Some(view.generation)),
                );
            }
            let entry = FlowEntry::read(view, &names.1, moment);
            if entry.is_wanted(filter) {
                tell(stream, &Answer::Entry(Box::new(entry)))?;
            }
        }
        Ok(())
    })
}

fn answer(stream: &UnixStream, views: &Views) -> io::Result<()> {
    stream.set_write_timeout(Some(STALL_MAX))?;
    let mut line = String::new();
    BufReader::new(stream.take(REQUEST_BYTES_MAX)).read_line(&mut line)?;
    let mut out = BufWriter::new(stream);
    match serde_json::from_str(&line) {
        Ok(Request::Status) => tell(&mut out, &Answer::Status(Box::new((views.status)())))?,
        Ok(Request::Explain(question)) => {
            let made = in_force(views).and_then(|reading| review::explain(&reading, &question));
            tell_made(&mut out, made, |made| Answer::Explanation(Box::new(made)))?;
        }
        Ok(Request::Matrix) => {
            let made = in_force(views).and_then(|reading| review::matrix(&reading));
            tell_made(&mut out, made, |made| Answer::Matrix(Box::new(made)))?;
        }
        Ok(Request::Unused { span }) => {
            let made = in_force(views)
                .map(|reading| review::unused(&reading, (views.rules)(), span, Timestamp::now()));
            tell_made(&mut out, made, |made| Answer::Unused(Box::new(made)))?;
        }
        Ok(Request::Flows(filter)) => {
            // Translations first: when one ends meanwhile, its flow ends, too.
            let mut missing = tell_sessions(&mut out, &views.listing, &filter)?;
            missing.extend(tell_entries(&mut out, &views.listing, &filter)?);
            missing.dedup();
            tell_missing(&mut out, missing)?;
        }
        Ok(Request::Nat(filter)) => {
            let missing = tell_sessions(&mut out, &views.listing, &filter)?;
            tell_missing(&mut out, missing)?;
        }
        Ok(Request::Ports) => {
            let names = (views.listing.names)(None);
            let missing = views.listing.read(Page::of_destinations, |page| {
                let Page::Destinations(page) = page else {
                    return Ok(());
                };
                page.iter().try_for_each(|of| {
                    let of = PortUse::read(of, &names);
                    tell(&mut out, &Answer::PortUse(Box::new(of)))
                })
            })?;
            tell_missing(&mut out, missing)?;
        }
        Ok(Request::Services) => {
            let (services, missing) = views.listing.services();
            for service in services {
                tell(&mut out, &Answer::Service(Box::new(service)))?;
            }
            tell_missing(&mut out, missing)?;
        }
        Ok(Request::Move { pod, worker }) => {
            tell_made(&mut out, (views.move_pod)(pod, worker), Answer::Done)?;
        }
        Ok(Request::Observe(ask)) => {
            let mut tell_or_flush = |answer: Option<Answer>| match answer {
                Some(answer) => tell(&mut out, &answer),
                None => out.flush(),
            };
            recall::observe(
                &views.history,
                &views.home,
                &ask,
                &mut tell_or_flush,
                &|| has_left(stream),
            )?;
        }
        Ok(Request::Why(which)) => {
            let made = recall::why(&views.history, &views.home, &which);
            tell_made(&mut out, made, |made| Answer::Why(Box::new(made)))?;
        }
        Ok(Request::Rank(ask)) => {
            let made = recall::rank(&views.history, &views.home, &ask);
            tell_made(&mut out, made, |made| Answer::Ranking(Box::new(made)))?;
        }
        Ok(Request::Suggest { wish, since }) => {
            let made = in_force(views)
                .map(|reading| recall::suggest(&views.history, &reading, &wish, since));
            tell_made(&mut out, made, |made| Answer::Suggestion(Box::new(made)))?;
        }
        Ok(Request::Replay { candidate, since }) => {
            let made = in_force(views)
                .and_then(|reading| recall::replay(&views.history, &reading, &candidate, since));
            tell_made(&mut out, made, |made| Answer::Replay(Box::new(made)))?;
        }
        Err(e) => tell(
            &mut out,
            &Answer::Error(format!("a question that is not understood: {e}")),
        )?,
    }
    out.flush()
}
