//! The paths between two pods that are compared, each on a node of its own.

use crate::bare::Forwarder;
use crate::filters;
use crate::machine::{CLIENT_CORE, WORKER_CORE};
use crate::policies;
use crate::sink::Sink;
use crate::tc_bpf::{self, Redirection};
use netns_tests::{Lab, Place, Pod, SOCKET_FILE, WORLD_ADDRESSES};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};

/// The path's MTU. With a larger device MTU it is that of the pods' routes.
pub const PATH_MTU: u32 = 1500;
/// MTU of devices that take segments whole, and of routes where that is measured.
pub const LARGE_MTU: u32 = 65_535;

/// A way for packets from one pod to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// The kernel forwards; devices have an MTU of 1500.
    Kernel,
    /// The kernel forwards; devices have an MTU of 65535, as on all paths below.
    KernelLarge,
    /// The kernel forwards; nftables with connection tracking, every packet sees 10 rules.
    Nft10,
    /// As before, every packet sees 1000 rules.
    Nft1000,
    /// As before, one rule with a set of 1000 elements.
    NftSet,
    /// As before, iptables-legacy, every packet sees 1000 rules.
    Iptables1000,
    /// A hash-map policy and `bpf_redirect_peer` in tc.
    TcBpf,
    /// The daemon's rings without a daemon: rewrite the addresses, send on.
    Bare,
    /// One Portcullis worker, 10 policies.
    Policies10,
    /// One Portcullis worker, 1000 policies.
    Policies1000,
    /// As with 10 policies, masquerading to a host beyond the uplink.
    Nat,
    /// As with 10 policies, somebody follows what is observed.
    Observe,
}

impl Path {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Kernel,
        Self::KernelLarge,
        Self::Nft10,
        Self::Nft1000,
        Self::NftSet,
        Self::Iptables1000,
        Self::TcBpf,
        Self::Bare,
        Self::Policies10,
        Self::Policies1000,
        Self::Nat,
        Self::Observe,
    ];

    /// Its name in JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        self.facts().0
    }

    /// Its name in tables.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.facts().1
    }

    const fn facts(self) -> (&'static str, &'static str) {
        match self {
            Self::Kernel => ("kernel", "kernel forwarding, device MTU 1500"),
            Self::KernelLarge => ("kernel_large_mtu", "kernel forwarding"),
            Self::Nft10 => ("nft_10", "nftables stateful, 10 rules"),
            Self::Nft1000 => ("nft_1000", "nftables stateful, 1000 rules"),
            Self::NftSet => ("nft_set_1000", "nftables stateful, set of 1000"),
            Self::Iptables1000 => ("iptables_1000", "iptables-legacy stateful, 1000 rules"),
            Self::TcBpf => ("tc_bpf", "tc-BPF redirect_peer, hash policy"),
            Self::Bare => ("raw_afxdp", "bare AF_XDP forwarder, our rings"),
            Self::Policies10 => ("portcullis_10", "Portcullis, 10 policies"),
            Self::Policies1000 => ("portcullis_1000", "Portcullis, 1000 policies"),
            Self::Nat => ("portcullis_nat", "Portcullis + masquerade"),
            Self::Observe => ("portcullis_observe", "Portcullis + observe --follow"),
        }
    }

    /// Whether the daemon carries it.
    #[must_use]
    pub const fn has_daemon(self) -> bool {
        matches!(
            self,
            Self::Policies10 | Self::Policies1000 | Self::Nat | Self::Observe
        )
    }

    /// The tools that it cannot be made without.
    #[must_use]
    pub const fn tools(self) -> &'static [&'static str] {
        match self {
            Self::Nft10 | Self::Nft1000 | Self::NftSet => &["nft"],
            Self::Iptables1000 => &["iptables-legacy-restore"],
            Self::TcBpf => &["clang"],
            _ => &[],
        }
    }
}

/// What runs on a node beside the kernel and the daemon, until the pair ends.
#[derive(Debug)]
enum Helper {
    Nobody,
    Tc(#[expect(dead_code, reason = "attached for as long as it is held")] Redirection),
    Bare(#[expect(dead_code, reason = "runs for as long as it is held")] Forwarder),
    Reader(Child),
}

/// Two pods and what connects them.
#[derive(Debug)]
pub struct Pair {
    /// How packets go.
    pub path: Path,
    helper: Helper,
    /// Sends and asks.
    pub client: Pod,
    /// Counts and drops the flood where it enters the server; without one a UDP socket does.
    pub sink: Option<Sink>,
    /// Receives and answers; idle where the server is in the world.
    pub server_pod: Pod,
    /// The node. After the pods, because their namespaces are in it.
    pub lab: Lab,
}

impl Pair {
    /// Makes a path and its pods. None without the rights of root.
    ///
    /// # Errors
    /// What the path needs and this machine cannot do.
    ///
    /// # Panics
    /// When a command fails that every path needs, or the daemon does not get ready.
    pub fn new(path: Path, xdp_mode: &str, workers: u16) -> Result<Option<Self>, String> {
        let cores = match workers {
            1 => WORKER_CORE.to_string(),
            _ => format!("{WORKER_CORE}, {CLIENT_CORE}"),
        };
        let settings = format!(
            "xdpMode: {xdp_mode}\nworkers: {{count: {workers}, cores: [{cores}]}}\n{}",
            if path == Path::Nat {
                "masquerade: true\n"
            } else {
                ""
            }
        );
        let Some(lab) = Lab::new(&settings) else {
            return Ok(None);
        };
        for place in [&lab.node, &lab.world] {
            place.must(&format!("ip link set eth0 mtu {LARGE_MTU}"));
        }
        let client = lab.pod("bench/client", &["app=client"], &["10.0.1.10"]);
        let server_pod = lab.pod("bench/server", &["app=server"], &["10.0.1.20"]);
        // A second of connections must not leave a port shortage to the next.
        for place in [&client.place, &server_pod.place] {
            for (key, value) in [
                ("ip_local_port_range", "10000 65000"),
                ("tcp_tw_reuse", "1"),
            ] {
                place.write(&format!("/proc/sys/net/ipv4/{key}"), value);
            }
        }
        let mut pair = Self {
            path,
            helper: Helper::Nobody,
            sink: None,
            client,
            server_pod,
            lab,
        };
        pair.helper = pair.connect(xdp_mode)?;
        // Without clang the flood ends at a socket, as `has_sink` tells.
        pair.sink = Sink::attach(pair.server()).ok();
        Ok(Some(pair))
    }

    fn connect(&self, xdp_mode: &str) -> Result<Helper, String> {
        let (lab, pods) = (&self.lab, [&self.client, &self.server_pod]);
        match self.path {
            Path::Bare => {
                let forwarder = Forwarder::start(lab, pods, xdp_mode)?;
                return Ok(Helper::Bare(forwarder));
            }
            Path::Policies10 => self.start_daemon(10),
            Path::Policies1000 => self.start_daemon(1000),
            Path::Nat => {
                lab.apply("world.yaml", &policies::allow_world());
                self.start_daemon(9);
            }
            Path::Observe => {
                self.start_daemon(10);
                let binary = netns_tests::portcullis()
                    .to_str()
                    .expect("the path is text");
                let words = [binary, "observe", "--follow", "--socket", SOCKET_FILE];
                let reader = lab
                    .node
                    .spawn_words(&words, Stdio::null(), Stdio::inherit());
                return Ok(Helper::Reader(reader));
            }
            _ => lab.forward_by_kernel(&pods),
        }
        match self.path {
            Path::Kernel => {
                for pod in pods {
                    let interface = &pod.interface;
                    lab.node
                        .must(&format!("ip link set {interface} mtu {PATH_MTU}"));
                    pod.place.must(&format!("ip link set eth0 mtu {PATH_MTU}"));
                }
            }
            Path::Nft10 => filters::nft(&lab.node, &filters::nft_rules(10))?,
            Path::Nft1000 => filters::nft(&lab.node, &filters::nft_rules(1000))?,
            Path::NftSet => filters::nft(&lab.node, &filters::nft_set(1000))?,
            Path::Iptables1000 => filters::iptables(&lab.node, &filters::iptables_rules(1000))?,
            Path::TcBpf => return tc_bpf::attach(&lab.node, pods).map(Helper::Tc),
            _ => {}
        }
        Ok(Helper::Nobody)
    }

    fn start_daemon(&self, policies: usize) {
        let count = policies - policies::OF_ALLOW_CLIENT;
        self.lab
            .apply("unrelated.yaml", &policies::unrelated(count));
        self.lab.apply("allow.yaml", &policies::allow_client());
        self.lab.start_daemon();
    }

    /// The server's place.
    #[must_use]
    pub fn server(&self) -> &Place {
        match self.path {
            Path::Nat => &self.lab.world,
            _ => &self.server_pod.place,
        }
    }

    /// A port of the server.
    #[must_use]
    pub fn server_at(&self, port: u16) -> SocketAddr {
        let address: IpAddr = match self.path {
            Path::Nat => WORLD_ADDRESSES[0].parse().expect("an address"),
            _ => self.server_pod.addresses[0],
        };
        SocketAddr::new(address, port)
    }

    /// The process that reads what the daemon observes, where there is one.
    #[must_use]
    pub fn reader_pid(&self) -> Option<u32> {
        match &self.helper {
            Helper::Reader(child) => Some(child.id()),
            _ => None,
        }
    }

    /// Gives the pods' routes an MTU: senders' segments follow it.
    ///
    /// # Panics
    /// When a command fails.
    pub fn set_route_mtu(&self, mtu: u32) {
        for pod in [&self.client, &self.server_pod] {
            pod.place.must(&format!(
                "ip route change default via 169.254.1.1 dev eth0 mtu {mtu}"
            ));
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Helper::Reader(child) = &mut self.helper {
            // It may have ended by itself; waiting for it is then all that is left.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
