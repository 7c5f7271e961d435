//! Clients and servers of our own, where iperf3 has none: threads inside the pods.

use crate::figure::quantile;
use crate::machine::{CLIENT_CORE, WORKER_CORE, pin};
use crate::path::Pair;
use crate::policies::{ANSWER_PORT, CONNECTION_PORT, FLOOD_PORT};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Payload of a datagram that makes a frame of 64 bytes: 14 Ethernet, 20 IPv4, 8 UDP.
pub const SMALL_PAYLOAD: usize = 22;
/// Datagrams of one `send`. [linux/udp.h: UDP_MAX_SEGMENTS is 64 or 128]
const DATAGRAMS_PER_SEND: usize = 64;
/// Bytes of a request, and of its response.
const REQUEST: usize = 16;
/// How long a client waits for its server before the sample is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Senders of small datagrams, until it is ended; the receiving socket drops nearly all, counted.
///
/// One `send` gives the kernel 64 datagrams, which it separates before the pod's interface: so a
/// sender is faster than any path.
#[derive(Debug)]
pub struct Flood {
    is_over: Arc<AtomicBool>,
    senders: Vec<JoinHandle<io::Result<u64>>>,
    _receiver: UdpSocket,
}

impl Flood {
    /// Starts one sender on each of `cores`, which takes turns among `flows` flows.
    ///
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn start(pair: &Pair, flows: usize, cores: &[usize]) -> Self {
        let to = pair.server_at(FLOOD_PORT);
        let receiver = pair.server().call(move || UdpSocket::bind(to));
        let receiver = receiver.expect("the port is free");
        // As small as the kernel lets it be: what is not read takes the shortest way out.
        setsockopt(&receiver, sockopt::RcvBuf, &1).expect("a socket has a buffer");
        let is_over = Arc::new(AtomicBool::new(false));
        let start = |&core: &usize| {
            let until = is_over.clone();
            let flows = flows.div_ceil(cores.len());
            pair.client.place.thread(move || {
                pin(core);
                send_flood(to, flows, &until)
            })
        };
        let senders = cores.iter().map(start).collect();
        Self {
            is_over,
            senders,
            _receiver: receiver,
        }
    }

    /// Ends it, and gives how many datagrams the kernel took from the senders.
    ///
    /// # Panics
    /// When a socket failed.
    #[must_use]
    pub fn end(self) -> u64 {
        self.is_over.store(true, Relaxed);
        let sent = self
            .senders
            .into_iter()
            .map(|sender| sender.join().expect("it does not panic").expect("it sends"))
            .sum();
        // The last ones may still be on their way.
        std::thread::sleep(Duration::from_millis(30));
        sent
    }
}

fn send_flood(to: SocketAddr, flows: usize, is_over: &AtomicBool) -> io::Result<u64> {
    let mut sockets = Vec::with_capacity(flows);
    for _ in 0..flows {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(to)?;
        setsockopt(&socket, sockopt::UdpGsoSegment, &(SMALL_PAYLOAD as i32))?;
        sockets.push(socket);
    }
    let bytes = [0x55; SMALL_PAYLOAD * DATAGRAMS_PER_SEND];
    let mut sent = 0;
    for socket in sockets.iter().cycle() {
        if is_over.load(Relaxed) {
            break;
        }
        sent += match socket.send(&bytes) {
            Ok(_) => DATAGRAMS_PER_SEND as u64,
            // The interface's queue is full, so nothing of this was sent.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(sent)
}

/// Round trips of a request and its response over one connection, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundTrips {
    /// Half were faster.
    pub p50: f64,
    /// One in a hundred was slower.
    pub p99: f64,
    /// One in a thousand was slower.
    pub p999: f64,
}

/// Asks and waits for the answer, again and again.
///
/// # Errors
/// The connection fails.
///
/// # Panics
/// When the port is taken.
pub fn round_trips(pair: &Pair, span: Duration) -> io::Result<RoundTrips> {
    let to = pair.server_at(ANSWER_PORT);
    let listener = pair.server().call(move || TcpListener::bind(to));
    let listener = listener.expect("the port is free");
    let answering = pair.server().thread(move || {
        pin(WORKER_CORE);
        answer(&listener)
    });
    let asking = pair.client.place.thread(move || {
        pin(WORKER_CORE);
        ask(to, span)
    });
    let asked = asking.join().expect("it does not panic");
    if asked.is_err() {
        // Wakes one that was never connected to; no path can keep this from it.
        drop(netns_tests::connect(pair.server(), to));
    }
    let answered = answering.join().expect("it does not panic");
    let mut micros = asked?;
    answered?;
    micros.sort_by(f64::total_cmp);
    assert!(!micros.is_empty(), "no round trip in {span:?}");
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| quantile(&micros, share));
    Ok(RoundTrips { p50, p99, p999 })
}

fn answer(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = [0; REQUEST];
    loop {
        match stream.read_exact(&mut bytes) {
            Ok(()) => stream.write_all(&bytes)?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn ask(to: SocketAddr, span: Duration) -> io::Result<Vec<f64>> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = [0x55; REQUEST];
    let mut micros = Vec::with_capacity(1 << 17);
    let since = Instant::now();
    while since.elapsed() < span {
        let asked = Instant::now();
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes)?;
        micros.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    Ok(micros)
}

/// Connects and waits until the server closes, again and again; gives the number of connections a
/// second.
///
/// # Errors
/// A connection fails.
///
/// # Panics
/// When the port is taken.
pub fn connections(pair: &Pair, span: Duration) -> io::Result<f64> {
    let to = pair.server_at(CONNECTION_PORT);
    let listener = pair.server().call(move || TcpListener::bind(to));
    let listener = listener.expect("the port is free");
    let is_over = Arc::new(AtomicBool::new(false));
    let accepting = accept_until(pair, listener, is_over.clone());
    let connecting = pair.client.place.thread(move || {
        pin(CLIENT_CORE);
        connect_for(to, span)
    });
    let rate = connecting.join().expect("it does not panic");
    is_over.store(true, Relaxed);
    // One more wakes the acceptor, unless it has seen already that it is over: one that no path can
    // keep from it.
    drop(netns_tests::connect(pair.server(), to));
    accepting.join().expect("it does not panic")?;
    rate
}

fn accept_until(
    pair: &Pair,
    listener: TcpListener,
    is_over: Arc<AtomicBool>,
) -> JoinHandle<io::Result<()>> {
    pair.server().thread(move || {
        pin(WORKER_CORE);
        while !is_over.load(Relaxed) {
            drop(listener.accept()?);
        }
        Ok(())
    })
}

fn connect_for(to: SocketAddr, span: Duration) -> io::Result<f64> {
    let since = Instant::now();
    let mut count = 0_u32;
    while since.elapsed() < span {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // Until the server has closed it: else its queue fills, and what overflows waits a second.
        let length = stream.read(&mut [0])?;
        assert_eq!(length, 0, "the server only closes");
        count += 1;
    }
    Ok(f64::from(count) / since.elapsed().as_secs_f64())
}
