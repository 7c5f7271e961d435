//! A node with an uplink, the world beyond it, pods, and a state directory.

use crate::binary::portcullis;
use crate::daemon::Daemon;
use crate::place::{Place, Ran};
use crate::pod::Pod;
use crate::status::Status;
use nix::unistd::geteuid;
use std::fs;
use std::sync::Mutex;

/// The daemon's state directory, in the node's mount namespace.
pub const STATE_DIRECTORY: &str = "/run/state";
/// The daemon's socket, in the node's mount namespace.
pub const SOCKET_FILE: &str = "/run/portcullis.sock";
/// What the daemon prints, in the node's mount namespace.
pub const LOG_FILE: &str = "/run/daemon.log";
/// Where the daemon may pin, in the node's mount namespace.
pub const BPFFS_DIRECTORY: &str = "/sys/fs/bpf/portcullis";
/// The networks of this node's pods.
pub const POD_CIDRS: [&str; 2] = ["10.0.1.0/24", "fd00:10:1::/64"];
/// The node's addresses on its uplink. [RFC 5737, RFC 3849]
pub const NODE_ADDRESSES: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// The addresses of the host at the other end of the uplink.
pub const WORLD_ADDRESSES: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// A node, its uplink, the world beyond it. Everything ends with it.
#[derive(Debug)]
pub struct Lab {
    /// The node: where the daemon runs.
    pub node: Place,
    /// A host at the other end of the uplink that routes the pods' networks to the node.
    pub world: Place,
    pub(crate) daemon: Mutex<Option<Daemon>>,
}

impl Lab {
    /// A node without pods and without a running daemon. `settings` are added to its config.yaml.
    /// None without the rights of root, said on standard error: the test is then skipped.
    ///
    /// # Panics
    /// Without the rights of root where nothing may be skipped (`CI` is set), or when a command
    /// fails.
    #[must_use]
    pub fn new(settings: &str) -> Option<Self> {
        if !geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "edge tests need root");
            eprintln!("SKIPPED: edge tests make network namespaces, which needs root");
            return None;
        }
        let node = Place::isolated("node");
        node.call(|| fs::create_dir(STATE_DIRECTORY).expect("the new /run is empty"));
        for line in [
            "ip link set lo up",
            "ip netns add world",
            "ip link add eth0 type veth peer name eth0 netns world",
        ] {
            node.must(line);
        }
        let world = Place::inside(&node, "world");
        world.must("ip link set lo up");
        for (place, [v4, v6]) in [(&node, NODE_ADDRESSES), (&world, WORLD_ADDRESSES)] {
            place.must("sysctl -q -w net.ipv6.conf.eth0.accept_dad=0");
            place.must("ip link set eth0 up");
            place.must(&format!("ip address add {v4}/24 dev eth0"));
            place.must(&format!("ip address add {v6}/64 dev eth0 nodad"));
        }
        for (pods, node_address) in POD_CIDRS.iter().zip(NODE_ADDRESSES) {
            world.must(&format!("ip route add {pods} via {node_address}"));
        }
        let lab = Self {
            node,
            world,
            daemon: Mutex::new(None),
        };
        lab.apply("config.yaml", &base_config(settings));
        Some(lab)
    }

    /// Adds a pod, as a person would: `portcullis endpoint add`. `pod` is NAMESPACE/NAME. Under a
    /// running daemon it is there for packets when this returns.
    ///
    /// # Panics
    /// When the command fails.
    #[track_caller]
    pub fn pod(&self, pod: &str, labels: &[&str], addresses: &[&str]) -> Pod {
        self.pod_with(pod, labels, addresses, &[])
    }

    /// As `pod`, with further arguments of `endpoint add`.
    ///
    /// # Panics
    /// When the command fails.
    #[track_caller]
    pub fn pod_with(&self, pod: &str, labels: &[&str], addresses: &[&str], more: &[&str]) -> Pod {
        let (namespace, name) = pod.split_once('/').expect("NAMESPACE/NAME");
        let mut words = vec!["endpoint", "add", name, "--namespace", namespace];
        words.extend(["--state", STATE_DIRECTORY]);
        words.extend(labels.iter().flat_map(|label| ["--label", label]));
        words.extend(addresses.iter().flat_map(|address| ["--ip", address]));
        words.extend(more);
        self.changing(|| {
            let ran = self.portcullis(&words);
            assert!(
                ran.is_success,
                "portcullis {}: {}",
                words.join(" "),
                ran.stderr
            );
        });
        let pod = Pod::new(self, namespace, name, addresses);
        if self.is_daemon_running() {
            self.await_link(pod.place.name());
        }
        pod
    }

    /// Takes a pod away: `portcullis endpoint del`.
    ///
    /// # Panics
    /// When the command fails.
    #[track_caller]
    pub fn remove_pod(&self, pod: Pod) {
        let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
        // Its thread would keep the namespace alive.
        drop(pod);
        self.changing(|| {
            let words = [
                "endpoint",
                "del",
                &name,
                "--namespace",
                &namespace,
                "--state",
                STATE_DIRECTORY,
            ];
            let ran = self.portcullis(&words);
            assert!(
                ran.is_success,
                "portcullis {}: {}",
                words.join(" "),
                ran.stderr
            );
        });
    }

    /// Runs `portcullis` on the node.
    pub fn portcullis(&self, words: &[&str]) -> Ran {
        let binary = portcullis().to_str().expect("the path is text");
        let mut all = vec![binary];
        all.extend(words);
        self.node.run_words(&all)
    }

    /// Puts a file into the state directory, at once as a whole, and waits until the daemon, if it
    /// runs, has put it into force or refused it. The file must be new to it, or differ.
    #[track_caller]
    pub fn apply(&self, file: &str, text: &str) {
        let (temporary, path) = (hidden(file), in_state(file));
        self.changing(|| {
            self.node.write(&temporary, text);
            self.node
                .call(move || fs::rename(temporary, path))
                .expect("renamed");
        });
    }

    /// Changes a file of the state directory, as `apply` does.
    ///
    /// # Panics
    /// When the change changes nothing.
    #[track_caller]
    pub fn edit(&self, file: &str, change: impl FnOnce(&str) -> String) {
        let before = self.node.read(&in_state(file));
        let after = change(&before);
        assert_ne!(before, after, "{file} is changed");
        self.apply(file, &after);
    }

    /// Takes a file out of the state directory, and waits as `apply` does.
    ///
    /// # Panics
    /// When it is not there.
    #[track_caller]
    pub fn remove(&self, file: &str) {
        let path = in_state(file);
        self.changing(|| {
            self.node
                .call(move || fs::remove_file(path))
                .expect("it is there");
        });
    }

    /// Lets the kernel forward between the pods, the node and the world, without the daemon: for
    /// comparison, and to test the Lab itself.
    ///
    /// # Panics
    /// When a command fails.
    pub fn forward_by_kernel(&self, pods: &[&Pod]) {
        self.node
            .must("sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        for pod in pods {
            let interface = &pod.interface;
            let conf = format!("net.ipv6.conf.{interface}");
            self.node.must(&format!(
                "sysctl -q -w {conf}.disable_ipv6=0 {conf}.accept_dad=0"
            ));
            self.node
                .must(&format!("ip address add 169.254.1.1/32 dev {interface}"));
            self.node.must(&format!("ip link set {interface} up"));
            self.node
                .must(&format!("ip address add fe80::1/64 dev {interface} nodad"));
            for address in &pod.addresses {
                self.node
                    .must(&format!("ip route add {address} dev {interface}"));
            }
            self.await_link(pod.place.name());
        }
    }

    /// Waits until the kernel passes packets through `eth0` of a namespace: it does so up to a second
    /// after the other end came up.
    #[track_caller]
    pub(crate) fn await_link(&self, netns: &str) {
        let line = format!("ip -n {netns} -o link show dev eth0");
        crate::eventually(&format!("eth0 of {netns} is up"), || {
            self.node.must(&line).contains(" state UP ")
        });
    }

    /// What `portcullis observe` prints with these arguments.
    ///
    /// # Panics
    /// When the command fails.
    #[track_caller]
    pub fn observe(&self, arguments: &str) -> String {
        let mut words = vec!["observe", "--socket", SOCKET_FILE];
        words.extend(arguments.split_whitespace());
        let ran = self.portcullis(&words);
        assert!(
            ran.is_success,
            "portcullis {}: {}",
            words.join(" "),
            ran.stderr
        );
        ran.stdout
    }

    /// What `portcullis status` says.
    ///
    /// # Panics
    /// When there is no daemon to ask.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> Status {
        self.try_status()
            .unwrap_or_else(|why| panic!("no status: {why}"))
    }

    pub(crate) fn try_status(&self) -> Result<Status, String> {
        let ran = self.portcullis(&["status", "-o", "json", "--socket", SOCKET_FILE]);
        // A daemon that is not ready says so by its exit status, and answers all the same.
        Status::parse(&ran.stdout).map_err(|why| format!("{why}; {}", ran.stderr))
    }

    /// Waits until the daemon says that all is in place.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn await_ready(&self) {
        crate::eventually("the daemon is ready", || {
            self.try_status().is_ok_and(|status| status.is_ready())
        });
    }

    /// Makes a change of the state directory and waits until the daemon, if it runs, has put it
    /// into force or refused it.
    #[track_caller]
    fn changing(&self, change: impl FnOnce()) {
        if !self.is_daemon_running() {
            return change();
        }
        let before = self.status().revision();
        change();
        crate::eventually(
            "the daemon takes note of a change in its state directory",
            || self.status().revision() > before,
        );
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let daemon = self.daemon.get_mut().ok().and_then(Option::take);
        if std::thread::panicking() && daemon.is_some() {
            eprintln!("--- {LOG_FILE}\n{}---", self.node.read(LOG_FILE));
            for words in [["status", "--socket"], ["observe", "--socket"]] {
                let ran = self.portcullis(&[&words[..], &[SOCKET_FILE]].concat());
                eprintln!(
                    "--- portcullis {}\n{}{}---",
                    words[0], ran.stdout, ran.stderr
                );
            }
        }
        if let Some(daemon) = daemon {
            daemon.end();
        }
    }
}

fn base_config(settings: &str) -> String {
    format!(
        "uplink: eth0\npodCIDRs: [{}]\n{settings}",
        POD_CIDRS.join(", ")
    )
}

fn in_state(file: &str) -> String {
    format!("{STATE_DIRECTORY}/{file}")
}

fn hidden(file: &str) -> String {
    format!("{STATE_DIRECTORY}/.{file}.new")
}
