//! A million events in ten seconds through the path of records: a worker's ring, the observer, the
//! history, and a client that follows the API in a process of its own.

#[path = "../../dataplane/hubble/tests/world/mod.rs"]
mod world;

use crossbeam::queue::ArrayQueue;
use portcullis::observer::{self, Source};
use portcullis::worker::{Observed, now};
use portcullis_engine::{Ending, Record, RecordKind, Totals};
use portcullis_hubble::wire::observer::get_flows_response::ResponseTypes;
use portcullis_hubble::wire::observer::{GetFlowsRequest, observer_client::ObserverClient};
use portcullis_hubble::{ApiSettings, Servers};
use std::env::{args, current_exe};
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tonic::transport::Endpoint;
use world::World;

/// Events, and how many are made in each millisecond.
const EVENTS: u64 = 1_000_000;
const EVENTS_A_STEP: u64 = 100;
const STEP: Duration = Duration::from_millis(1);
/// The default history, and a worker's ring.
const HISTORY: usize = 1_000_000;
const RING: usize = 16 * 1024;
/// How long the client may lag behind.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = args().collect();
    match arguments.iter().position(|argument| argument == "--follow") {
        Some(place) => follow(&arguments[place + 1]),
        None => load(),
    }
}

/// Makes the events, and tells what they cost here.
fn load() -> Result<(), Box<dyn Error>> {
    let world = World::new(HISTORY);
    let socket = std::env::temp_dir().join(format!("hubble-load-{}.sock", std::process::id()));
    let settings = ApiSettings {
        socket,
        listen: Some("127.0.0.1:0".parse()?),
        tls: None,
    };
    let servers = Servers::new(|| {})?;
    let address = servers.start(&settings, &world.sources())?;
    let source = Source {
        records: Arc::new(ArrayQueue::new(RING)),
        counters: Arc::default(),
    };
    let (sources, names) = ([source.clone()], Arc::clone(world.names()));
    let history = Arc::clone(&world.history);
    let observing = thread::Builder::new().name("observer".into());
    observing.spawn(move || observer::run(&sources, |_| Arc::clone(&names), &history))?;
    let address = format!("http://{}", address.ok_or("not served")?);
    let mut client = Command::new(current_exe()?)
        .args(["--follow", &address])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut told = BufReader::new(client.stdout.take().ok_or("no output")?);
    line(&mut told)?;

    let before = [spent("observer")?, spent("hubble")?];
    let began = Instant::now();
    tell(&source, &records(&world));
    let lasted = began.elapsed();
    let came = line(&mut told)?;
    client.wait()?;
    let after = [spent("observer")?, spent("hubble")?];

    let came: Vec<u64> = came.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [flows, read, lost] = came[..] else {
        return Err(format!("the client said {came:?}").into());
    };
    assert_eq!(read + lost, EVENTS, "written = read + lost");
    let unwritten = source.counters.records_lost.get();
    println!(
        "written {EVENTS} in {:.1} s, read {read}, lost {lost} (of them {unwritten} in the worker's ring)",
        lasted.as_secs_f64()
    );
    let [observer, server] = [0, 1].map(|of| (after[of] - before[of]).as_secs_f64() * 1e6);
    println!(
        "observer: {:.2} us of processor an event; server: {:.2} us a streamed flow, of {flows}",
        observer / EVENTS as f64,
        server / flows as f64
    );
    drop(servers);
    // The observer's thread has no end.
    std::process::exit(0)
}

/// A flow that begins, one that has ended, and two of which the second is denied.
fn records(world: &World) -> [Record; 4] {
    let begun = world.allowed(0).record;
    let ended = Record {
        kind: RecordKind::End(Ending::Finished),
        totals: Totals {
            packets: [6, 4],
            bytes: [900, 4000],
            ..Totals::default()
        },
        ..begun
    };
    [begun, ended, begun, world.denied(0).record]
}

/// What a worker does, at a steady rate. Each event has another source port than the one before.
fn tell(source: &Source, records: &[Record; 4]) {
    let began = Instant::now();
    for event in 0..EVENTS {
        let mut record = records[(event % 4) as usize];
        record.ports.0 = 1024 + (event % 60_000) as u16;
        let time = now();
        if source.records.push(Observed { time, record }).is_err() {
            source.counters.records_lost.add(1);
        }
        if event % EVENTS_A_STEP == EVENTS_A_STEP - 1 {
            let due = STEP * u32::try_from(event / EVENTS_A_STEP).unwrap_or(u32::MAX);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
}

/// Processor time of this process's threads of a name.
fn spent(name: &str) -> Result<Duration, Box<dyn Error>> {
    let mut spent = Duration::ZERO;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let directory = thread?.path();
        if std::fs::read_to_string(directory.join("comm"))?.trim() != name {
            continue;
        }
        let times = std::fs::read_to_string(directory.join("schedstat"))?;
        let running = times.split(' ').next().ok_or("no times")?;
        spent += Duration::from_nanos(running.parse()?);
    }
    Ok(spent)
}

fn line(from: &mut BufReader<ChildStdout>) -> Result<String, Box<dyn Error>> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// The client: reads until it knows of all events, and says of how many flows, events and losses.
#[tokio::main(flavor = "current_thread")]
async fn follow(address: &str) -> Result<(), Box<dyn Error>> {
    let channel = Endpoint::from_shared(address.to_owned())?.connect().await?;
    let mut client = ObserverClient::new(channel);
    let request = GetFlowsRequest {
        follow: true,
        ..GetFlowsRequest::default()
    };
    let mut stream = client.get_flows(request).await?.into_inner();
    println!("ready");
    let (mut flows, mut read, mut lost, mut last) = (0_u64, 0_u64, 0_u64, None);
    while read + lost < EVENTS {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await??;
        match next.and_then(|answer| answer.response_types) {
            Some(ResponseTypes::Flow(flow)) => {
                flows += 1;
                let port = flow.l4.map(|l4| l4.protocol);
                read += u64::from(port != last);
                last = port;
            }
            Some(ResponseTypes::LostEvents(event)) => lost += event.num_events_lost,
            other => return Err(format!("unexpected: {other:?}").into()),
        }
    }
    // The last event is several flows; what is left of it is of no consequence.
    println!("{flows} {read} {lost}");
    Ok(())
}
