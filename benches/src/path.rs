//! The paths between two pods that are compared, each on a node of its own.

use crate::policies;
use netns_tests::{Lab, Pod};
use std::net::{IpAddr, SocketAddr};

/// Policies that are loaded beside the one that allows the traffic.
pub const UNRELATED_POLICIES: usize = 100;
/// The path's MTU. With a larger device MTU it is that of the pods' routes.
pub const PATH_MTU: u32 = 1500;

/// A way for packets from one pod to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// The kernel forwards; devices have an MTU of 1500.
    Kernel,
    /// The kernel forwards; devices have an MTU of 65535, routes 1500, as `endpoint add` makes them.
    KernelLarge,
    /// One Portcullis worker forwards what a policy allows; devices and routes as before.
    Portcullis,
}

impl Path {
    /// All of them. The first is what the others are compared with.
    pub const ALL: [Self; 3] = [Self::Kernel, Self::KernelLarge, Self::Portcullis];

    /// Its name in JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::KernelLarge => "kernel_large_mtu",
            Self::Portcullis => "portcullis",
        }
    }

    /// Its name in tables.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::KernelLarge => "kernel, MTU 65535",
            Self::Portcullis => "portcullis",
        }
    }
}

/// Two pods and what connects them.
#[derive(Debug)]
pub struct Pair {
    /// How packets go.
    pub path: Path,
    /// Sends and asks.
    pub client: Pod,
    /// Receives and answers.
    pub server: Pod,
    /// The node. After the pods, because their namespaces are in it.
    pub lab: Lab,
}

impl Pair {
    /// Makes a path and its pods, and starts the iperf3 server. None without the rights of root.
    ///
    /// # Panics
    /// When a command fails, or the daemon does not get ready.
    #[must_use]
    pub fn new(path: Path, settings: &str) -> Option<Self> {
        let lab = Lab::new(settings)?;
        let client = lab.pod("bench/client", &["app=client"], &["10.0.1.10"]);
        let server = lab.pod("bench/server", &["app=server"], &["10.0.1.20"]);
        // A second of connections must not leave a port shortage to the next.
        for pod in [&client, &server] {
            for (key, value) in [
                ("ip_local_port_range", "10000 65000"),
                ("tcp_tw_reuse", "1"),
            ] {
                pod.place.write(&format!("/proc/sys/net/ipv4/{key}"), value);
            }
        }
        match path {
            Path::Kernel | Path::KernelLarge => lab.forward_by_kernel(&[&client, &server]),
            Path::Portcullis => {
                lab.apply("unrelated.yaml", &policies::unrelated(UNRELATED_POLICIES));
                lab.apply("allow.yaml", &policies::allow_client());
                lab.start_daemon();
            }
        }
        if path == Path::Kernel {
            for pod in [&client, &server] {
                let interface = &pod.interface;
                lab.node
                    .must(&format!("ip link set {interface} mtu {PATH_MTU}"));
                pod.place.must(&format!("ip link set eth0 mtu {PATH_MTU}"));
            }
        }
        let port = policies::IPERF_PORT.to_string();
        server.place.serve(&format!(
            "iperf3 --server --port {port} --logfile /dev/null"
        ));
        let pair = Self {
            path,
            client,
            server,
            lab,
        };
        netns_tests::eventually("iperf3 listens", || {
            pair.is_listened_at(policies::IPERF_PORT)
        });
        Some(pair)
    }

    /// The server's address.
    #[must_use]
    pub fn server_address(&self) -> IpAddr {
        self.server.addresses[0]
    }

    /// A port of the server.
    #[must_use]
    pub fn server_at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.server_address(), port)
    }

    /// Whether something listens at a TCP port of the server; asked without a connection, which
    /// iperf3 would take for a client.
    fn is_listened_at(&self, port: u16) -> bool {
        // State 0A is LISTEN. [include/net/tcp_states.h]
        let entry = format!(":{port:04X} ");
        ["tcp", "tcp6"].iter().any(|table| {
            let text = self
                .server
                .place
                .read(&format!("/proc/thread-self/net/{table}"));
            text.lines()
                .any(|line| line.contains(&entry) && line.contains(" 0A "))
        })
    }
}
