//! A pod: a place with addresses, clients and servers.

use crate::lab::Lab;
use crate::place::{Place, Ran};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

/// How long a client waits for what shall come: on a busy machine it may take its time.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client waits for what shall not come.
const SILENCE: Duration = Duration::from_millis(800);

/// A pod that `portcullis endpoint add` made.
#[derive(Debug)]
pub struct Pod {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Addresses, in the order in which they were given.
    pub addresses: Vec<IpAddr>,
    /// Host end of its veth pair, on the node.
    pub interface: String,
    /// MAC address of its own end.
    pub mac: [u8; 6],
    /// Its network namespace.
    pub place: Place,
}

impl Pod {
    pub(crate) fn new(lab: &Lab, namespace: &str, name: &str, addresses: &[&str]) -> Self {
        let manifest = lab
            .node
            .read(&format!("/run/state/pod-{namespace}-{name}.yaml"));
        let annotation = |key: &str| {
            let value = |line: &'_ str| {
                Some(
                    line.trim()
                        .strip_prefix(key)?
                        .strip_prefix(": ")?
                        .to_owned(),
                )
            };
            let value = manifest.lines().find_map(value);
            value
                .unwrap_or_else(|| panic!("expected {key} in {manifest}"))
                .replace('"', "")
        };
        let mac = annotation("portcullis.io/mac");
        let mac = mac
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).expect("a byte"));
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            addresses: addresses
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
            interface: annotation("portcullis.io/interface"),
            mac: mac.collect::<Vec<u8>>().try_into().expect("six bytes"),
            place: Place::inside(&lab.node, &annotation("portcullis.io/netns")),
        }
    }

    /// NAMESPACE/NAME.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Runs a command of words without quotes in the pod.
    pub fn run(&self, line: &str) -> Ran {
        self.place.run(line)
    }

    /// Fetches a page with curl; None when there is none.
    #[must_use]
    pub fn fetch(&self, url: &str) -> Option<String> {
        fetch(&self.place, url)
    }

    /// Whether curl gets no page within a short time.
    #[must_use]
    pub fn gets_nothing(&self, url: &str) -> bool {
        gets_nothing(&self.place, url)
    }

    /// Whether a ping comes back.
    #[must_use]
    pub fn can_ping(&self, address: &str) -> bool {
        let seconds = CLIENT_PATIENCE.as_secs();
        self.run(&format!("ping -n -c 1 -i 0.2 -w {seconds} {address}"))
            .is_success
    }

    /// Whether no ping comes back within a short time.
    #[must_use]
    pub fn cannot_ping(&self, address: &str) -> bool {
        let seconds = SILENCE.as_secs_f32();
        !self
            .run(&format!("ping -n -c 1 -W {seconds} {address}"))
            .is_success
    }

    /// Starts nginx on port 80 of both families: `/` says whose page it is, `/who` which address
    /// asks, `/big` is 16 MiB of [`Pod::big_page`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn serve_pages(&self) {
        serve_pages(&self.place, &self.key(), 80);
    }

    /// As `serve_pages`, on another port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn serve_pages_on(&self, port: u16) {
        serve_pages(&self.place, &self.key(), port);
    }

    /// Opens a TCP connection from the pod.
    ///
    /// # Errors
    /// Refused or not answered in time.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        connect(&self.place, to)
    }

    /// Sends a datagram and gives the answer; None when there is none.
    #[must_use]
    pub fn ask_by_udp(&self, to: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
        ask_by_udp(&self.place, to, question, CLIENT_PATIENCE)
    }

    /// Whether a datagram finds no answer within a short time.
    #[must_use]
    pub fn gets_no_answer(&self, to: SocketAddr, question: &[u8]) -> bool {
        ask_by_udp(&self.place, to, question, SILENCE).is_none()
    }

    /// Whether no TCP connection comes about within a short time.
    #[must_use]
    pub fn cannot_connect(&self, to: SocketAddr) -> bool {
        let connecting = self
            .place
            .thread(move || TcpStream::connect_timeout(&to, SILENCE));
        connecting
            .join()
            .expect("connecting does not panic")
            .is_err()
    }

    /// Answers every datagram to this port with its own bytes, in both families.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn echo_by_udp(&self, port: u16) {
        echo_by_udp(&self.place, port);
    }

    /// Answers every TCP connection to this port with its own bytes, in both families.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn echo_by_tcp(&self, port: u16) {
        echo_by_tcp(&self.place, port);
    }

    /// The page `/big`: no two places in it look alike, so that a lost or doubled piece shows.
    #[must_use]
    pub fn big_page() -> Vec<u8> {
        (0..4_u32 << 20)
            .flat_map(|n| n.wrapping_mul(0x9e37_79b1).to_be_bytes())
            .collect()
    }

    /// A counter of the pod's own network stack, as `nstat` names it.
    ///
    /// # Panics
    /// When there is no such counter.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        counter(&self.place, name)
    }
}

/// Starts nginx in any place, as `Pod::serve_pages`.
///
/// # Panics
/// When it does not start.
pub fn serve_pages(place: &Place, whose: &str, port: u16) {
    let directory = format!("/run/nginx-{}-{port}", place.name());
    for made in [&directory, &format!("{directory}/pages")] {
        place.must(&format!("mkdir -p {made}"));
    }
    place.write(&format!("{directory}/pages/big"), Pod::big_page());
    // One process: a master's workers would outlive it when it is killed.
    let config = format!(
        "daemon off; master_process off; pid {directory}/pid; error_log stderr warn;
        events {{ worker_connections 1024; }}
        http {{
          access_log off; sendfile on; keepalive_timeout 600;
          client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
          uwsgi_temp_path {directory}; scgi_temp_path {directory};
          server {{
            listen {port}; listen [::]:{port};
            location / {{ return 200 \"page of {whose}\\n\"; }}
            location /who {{ return 200 \"$remote_addr\"; }}
            location /big {{ root {directory}/pages; }}
          }}
        }}"
    );
    let file = format!("{directory}/nginx.conf");
    place.write(&file, config);
    place.serve(&format!("nginx -e stderr -c {file}"));
    crate::eventually("nginx listens", || {
        connect(place, SocketAddr::from(([127, 0, 0, 1], port))).is_ok()
    });
}

/// Opens a TCP connection from any place.
///
/// # Errors
/// Refused or not answered in time.
///
/// # Panics
/// Never: the thread only connects.
pub fn connect(place: &Place, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = place
        .thread(move || TcpStream::connect_timeout(&to, CLIENT_PATIENCE))
        .join()
        .expect("connecting does not panic")?;
    stream.set_read_timeout(Some(CLIENT_PATIENCE))?;
    stream.set_write_timeout(Some(CLIENT_PATIENCE))?;
    Ok(stream)
}

/// Fetches a page with curl from any place; None when there is none.
#[must_use]
pub fn fetch(place: &Place, url: &str) -> Option<String> {
    curl(place, url, CLIENT_PATIENCE)
}

/// Whether curl gets no page in any place within a short time.
#[must_use]
pub fn gets_nothing(place: &Place, url: &str) -> bool {
    curl(place, url, SILENCE).is_none()
}

fn curl(place: &Place, url: &str, patience: Duration) -> Option<String> {
    let ran = place.run(&format!(
        "curl --silent --show-error --globoff --noproxy * --max-time {} {url}",
        patience.as_secs_f32()
    ));
    ran.is_success.then_some(ran.stdout)
}

/// Sends a datagram from any place and gives the answer; None when there is none in time.
///
/// # Panics
/// When the place has no socket to give.
#[must_use]
pub fn ask_by_udp(
    place: &Place,
    to: SocketAddr,
    question: &[u8],
    patience: Duration,
) -> Option<Vec<u8>> {
    let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = place.call(move || UdpSocket::bind(any)).expect("a socket");
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    // A connected socket takes answers of this peer only.
    socket.connect(to).ok()?;
    socket.send(question).ok()?;
    let mut answer = vec![0; 65_536];
    let length = socket.recv(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

/// Answers every datagram to this port of any place with its own bytes.
///
/// # Panics
/// When the port is taken.
pub fn echo_by_udp(place: &Place, port: u16) {
    let socket = place
        .call(move || UdpSocket::bind(("::", port)))
        .expect("the port is free");
    // The thread ends with the test process; its socket is all that it holds.
    thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            // A peer that is gone, or may not be answered, is the client's to notice.
            let _ = socket.send_to(&bytes[..length], from);
        }
    });
}

/// Answers every datagram to this address of any place with the address that it came from.
///
/// # Panics
/// When the port is taken.
pub fn tell_peer_by_udp(place: &Place, at: SocketAddr) {
    let socket = place
        .call(move || UdpSocket::bind(at))
        .expect("the port is free");
    thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok((_, from)) = socket.recv_from(&mut bytes) {
            let peer = from.ip().to_canonical().to_string();
            // A peer that is gone, or may not be answered, is the client's to notice.
            let _ = socket.send_to(peer.as_bytes(), from);
        }
    });
}

/// Answers every TCP connection to this port of any place with its own bytes.
///
/// # Panics
/// When the port is taken.
pub fn echo_by_tcp(place: &Place, port: u16) {
    let listener = place
        .call(move || TcpListener::bind(("::", port)))
        .expect("the port is free");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || echo(stream));
        }
    });
}

fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 65_536];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}

/// A counter of any place's network stack, as `nstat` names it.
///
/// # Panics
/// When there is no such counter.
pub fn counter(place: &Place, name: &str) -> u64 {
    let all = place.must("nstat --json --zeros --noupdate --ignore");
    let all: serde_json::Value = serde_json::from_str(&all).expect("nstat prints JSON");
    all["kernel"][name]
        .as_u64()
        .unwrap_or_else(|| panic!("no counter {name} in {all}"))
}
