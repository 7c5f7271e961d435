//! The command line: what people type, and what they see.

mod endpoint;
mod filter_args;
mod filter_fields;
mod filters;
mod flow_file;
mod flow_format;
mod flow_object;
mod flows;
mod moment;
mod nat;
mod observe;
mod policy;
mod service;
mod status;
mod top;
mod why;

use crate::ipc::SOCKET_PATH;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use policy::recorded;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Zero-trust networking for the pods of this node, in userspace, on AF_XDP.
///
/// Nothing passes between pods unless a policy allows it, and every verdict can be seen.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    after_help = "\
Ten minutes by hand:
  portcullis endpoint add web --namespace frontend --label app=frontend --ip 10.0.1.10 --state ./state
  portcullis endpoint add api --namespace backend --label app=backend --ip 10.0.1.20 --state ./state
  portcullis run --state ./state &
  ip netns exec frontend-web ping -c1 10.0.1.20
  portcullis observe --last 5
  portcullis flows

Exit codes: 0 done; 1 it failed; 2 the command line was wrong; 3 `status`: the daemon is not ready;
4 `policy explain`: the connection is dropped, `policy diff`: a verdict changes."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the daemon: polices the pods of a state directory until it is told to stop.
    #[command(after_help = "\
The directory holds Kubernetes manifests (*.yaml, *.yml, *.json): Namespace, Pod,
CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, NetworkPolicy. It is watched: a change takes
effect at once, all of it or nothing. `config.yaml` in it holds the settings of the node:

  uplink: eth0                     # way out; without one pods reach each other and the node
  podCIDRs: [10.0.1.0/24]          # addresses of this node's pods, routed to the daemon
  policyEnforcementMode: default   # default, always, never
  policyAuditMode: false           # true: enforce nothing, report what would be denied (AUDIT)
  allowLocalhost: always           # always: kubelet probes pass default deny; policy
  compat: portcullis               # portcullis, cilium: whose reading where the two differ
  workers:                         # threads of the packet path, where they are pinned (chosen
    {count: 1, cores: [], rehome: false} # unless named), whether pods that starve others move
  xdpMode: auto                    # tried at the start; generic: 64 KB segments cross whole; native
  umemFrames: 16384                # chunks of 4 KiB of packet memory
  masquerade: false                # true: pods' traffic to outside has the uplink's address
  masqueradeExcludedCIDRs: []      # blocks outside that see pods' own addresses all the same
  natPorts: 61000-65535            # our ports and ping identifiers on the node's own addresses
  egressPorts: 1024-65535          # ports of egress addresses that are ours alone
  natSessionsMax: 65536            # translations remembered
  timeouts:                        # forgotten after, without a packet: 60, 60s, 2h13m20s
    {tcpOpening: 60s, tcpEstablished: 8000s, tcpClosing: 10s, udp: 60s, icmp: 60s, other: 60s}
  nodePortAddresses: []            # blocks of node addresses that serve NodePorts; empty: all")]
    Run(RunArgs),
    /// Shows endpoints, identities, generations, counters and faults of the daemon.
    Status(StatusArgs),
    /// Shows flows and drops with the policy that decided, one a line.
    #[command(after_help = observe::EXAMPLES)]
    Observe(Box<observe::ObserveArgs>),
    /// Explains one recorded flow: who, which policies select whom, which rule decided or nearly did.
    #[command(after_help = "\
  portcullis observe --verdict DROPPED --last 5      # the number stands at the end of each line
  portcullis why 4711
  portcullis why 8a1c0b                              # the first digits of a uuid
  portcullis why --last-denied -o json

It is explained by the documents of its time, not by those in force now: for those ask
`portcullis policy explain`. Exit codes: 0 explained; 1 it is not kept, or not alone.")]
    Why(why::WhyArgs),
    /// Shows who talks most, or is denied most: connections, drops, packets, bytes.
    #[command(after_help = top::EXAMPLES)]
    Top(Box<top::TopArgs>),
    /// Shows the flows that are open now, one a line: who, state, traffic, translation, policy.
    #[command(after_help = "\
SENT and RECEIVED are packets/bytes of IP, from the source's view. Addresses are those that policy
judges: behind a service its backend's, before the pod gets another address its own; TRANSLATED
tells the rest. LEFT is how long the flow is remembered unless another packet comes.

  portcullis flows --pod frontend/web                 # all of one pod
  portcullis flows --sort bytes --limit 10            # who moves most
  portcullis flows --state opening                    # what nobody has answered
  portcullis flows --translated --protocol tcp        # through a service, or under another address
  portcullis flows -o json | jq .translations         # one object a line

Exit codes: 0 shown, also when there is none; 1 the daemon or one of its workers did not answer.")]
    Flows(flows::FlowsArgs),
    /// Shows translations: of services, node ports, masquerade and egress gateways.
    #[command(after_help = "\
BEFORE is the packet that opened the translation as it came, AFTER as it went on; an echo has its
identifier as the source's port.

  portcullis nat --pod frontend/web                   # all of one pod
  portcullis nat --egress 192.0.2.7                   # all that leaves under one address
  portcullis nat --usage                              # which destination takes most ports
  portcullis nat --usage -o json | jq 'select(.state != \"ok\")'

Exit codes: 0 shown, also when there is none; 1 the daemon or one of its workers did not answer.")]
    Nat(nat::NatArgs),
    /// Shows services: where they are reached, what stands behind them, connections now.
    #[command(after_help = "\
A backend is active, terminating (keeps the connections that it has) or gone (in no EndpointSlice
any more, with connections left). CONNECTIONS are those that began at this node.

  portcullis service                                  # or: portcullis service list
  portcullis service --service shop/web
  portcullis service -o json | jq .backends

Exit codes: 0 shown, also when there is none; 1 the daemon or one of its workers did not answer.")]
    Service(service::ServiceArgs),
    /// Works on policy documents.
    Policy {
        /// What to do with them.
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Makes, removes and lists pods of this node by hand.
    Endpoint {
        /// What to do with it.
        #[command(subcommand)]
        command: EndpointCommand,
    },
    /// Prints a completion script: `portcullis completion bash > /etc/bash_completion.d/portcullis`.
    Completion {
        /// The shell it is for.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page: `portcullis man > portcullis.1`.
    Man,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Directory of manifests.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Unix socket on which `status`, `observe`, `flows` and the like are answered.
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
    /// Directory on a BPF file system where attachments are pinned, so that pods stay cut off when
    /// the daemon dies.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/portcullis")]
    pub bpffs: PathBuf,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Waits until the daemon is ready: documents accepted, every worker up to date, every
    /// endpoint attached.
    #[arg(long)]
    pub wait: bool,
    /// Seconds that `--wait` waits at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub wait_duration: u64,
    /// Unix socket of the daemon.
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
}

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Checks documents as the daemon would: every fault is named with file, document and field.
    #[command(after_help = "\
What is larger is refused, so that no document can exhaust the daemon:

  a file                      16 MiB of UTF-8, 10000 documents
  YAML                        48 levels deep, 2000000 nodes, 1000 anchors, 1000 aliases
                              that repeat 100000 values at most
  ports of one rule           40; ICMP types 40
  rules of all documents      1000000
  address blocks              262144 different ones
  pods                        65280 different sets of labels
  a regular expression        4096 bytes, 1 MiB compiled; matched in linear time
  errors told of one file     100

Exit codes: 0 all is valid; 1 there are faults; 2 the command line was wrong.")]
    Check {
        /// Files of YAML or JSON, each with any number of documents; state directories; `-` is
        /// standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Judges as Cilium does where the two differ.
        #[arg(long)]
        compat_cilium: bool,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Explains why a connection passes or not: the verdict on both sides, and the rule behind it.
    #[command(after_help = "\
An end is a pod (`backend/api`, or `api` where only one has this name), labels that a pod could have
(`app=web,k8s:io.kubernetes.pod.namespace=shop`; without that label it lives in `default`), an
address (`10.0.1.20`, `198.51.100.7`), or who has a reserved label (`reserved:host`).

Exit codes: 0 it is forwarded; 4 it is dropped; 1 the question could not be answered.")]
    Explain(ExplainArgs),
    /// Compares two state directories or files: between whom, and on which ports, a verdict changes.
    #[command(after_help = "\
Pods that only one of them has are named, not compared.

Exit codes: 0 no verdict changes; 4 some do; 1 the documents could not be read.")]
    Diff {
        /// State directory or file as it was.
        old: PathBuf,
        /// State directory or file as it shall be.
        new: PathBuf,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Suggests the least policies that allow what was recorded, one for each workload.
    #[command(after_help = "\
Each policy names the pods by the fewest labels that tell them from all others, and allows exactly the
peers and ports that were seen; all else is denied. Addresses outside are named one by one, or as the
world where a port has more than 16. It is as good as what was recorded: watch for as long as your
rarest job takes, then look at what is suggested and try it.

  portcullis policy suggest -n shop > shop.yaml
  portcullis policy check shop.yaml
  portcullis policy replay shop.yaml                 # what of what was recorded would change
  cp shop.yaml /etc/portcullis/state/

What cannot be said in this kind of policy is told on standard error.
Exit codes: 0 suggested; 1 nothing is recorded, or it failed.")]
    Suggest(recorded::SuggestArgs),
    /// Tells which recorded connections would change their verdict under other documents.
    #[command(after_help = "\
  portcullis policy replay new.yaml                  # as it would be with these documents, too
  portcullis policy replay ./state --replace         # with these policies instead of those in force
  portcullis policy replay new.yaml --enforcement-mode always --since 1d

Of a directory `config.yaml` counts, too. Pods that are gone are judged by the labels they had.

Exit codes: 0 nothing recorded would newly be denied; 1 something would, or it failed.")]
    Replay(recorded::ReplayArgs),
    /// Lists what could go: rules that decided nothing, policies that select no pod, rules that others
    /// always forestall.
    ///
    /// Counts since the daemon started, and for a rule since its document has it in this place.
    Unused {
        /// Only rules that were idle for so long and in force for longer: `30d`, `12h`, `45m`. Else
        /// all that were never hit.
        #[arg(long = "for", value_name = "SPAN")]
        span: Option<String>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
        /// Unix socket of the daemon.
        #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
        socket: PathBuf,
    },
    /// Prints CustomResourceDefinitions of the kinds of `cilium.io/v2` that are read, as YAML:
    /// `portcullis policy crds | kubectl apply -f -`.
    Crds,
    /// Shows who may talk to whom. Pods that are alike share a line.
    Matrix {
        /// State directory or file; the documents in force of the running daemon unless given.
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
        /// Unix socket of the daemon.
        #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
        socket: PathBuf,
    },
}

/// Arguments of `policy explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Who begins the connection.
    #[arg(long, value_name = "END")]
    pub from: String,
    /// Whom it is for.
    #[arg(long, value_name = "END")]
    pub to: String,
    /// Port and protocol, `80/TCP`; an ICMP type, `8/ICMP`; a port name that the destination has.
    #[arg(long, value_name = "PORT/PROTOCOL")]
    pub port: String,
    /// State directory or file; the documents in force of the running daemon unless given.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Unix socket of the daemon.
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
}

/// What to do with endpoints.
#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// Makes a pod: a network namespace, a veth pair with addresses and routes, and its manifest.
    Add(EndpointAddArgs),
    /// Removes a pod that `add` made. Nothing to remove is no fault.
    Del {
        /// Name of the pod.
        name: String,
        /// Its Kubernetes namespace.
        #[arg(long, default_value = "default")]
        namespace: String,
        /// Directory of manifests.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Moves a pod of the running daemon to another worker.
    #[command(after_help = "\
What it costs: what is sent to the pod in the next few milliseconds is lost, and counted as
endpoint_gone; what it sends waits. TCP connections go on where policy allows them, because the new
worker takes over connections in mid-stream for 30 s, as after a start. Connections that were
translated at the pod (to services) are ended by a reset. A new daemon places pods anew.

  portcullis status                                   # Hot: which pod takes how much of its worker
  portcullis endpoint move shop/web --worker 1")]
    Move {
        /// The pod, NAMESPACE/NAME.
        pod: String,
        /// The worker's number, as `status` has it.
        #[arg(long)]
        worker: u16,
        /// Unix socket of the daemon.
        #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
        socket: PathBuf,
    },
    /// Lists the pods of a state directory that have an interface here.
    List {
        /// Directory of manifests.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Arguments of `endpoint add`.
#[derive(Debug, Args)]
pub struct EndpointAddArgs {
    /// Name of the pod.
    pub name: String,
    /// Its Kubernetes namespace. Labels of the namespace come from a Namespace document.
    #[arg(long, default_value = "default")]
    pub namespace: String,
    /// A label, `key=value`; may be given again.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// An address, IPv4 or IPv6; may be given again.
    #[arg(long = "ip", value_name = "ADDRESS", required = true)]
    pub addresses: Vec<IpAddr>,
    /// Directory of manifests; the Pod's is written there.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Network namespace by name or path; `<namespace>-<name>` unless given. Made if missing.
    #[arg(long, value_name = "NETNS")]
    pub netns: Option<String>,
    /// MTU of the pod's routes: that of the path to the outside.
    #[arg(long, default_value_t = 1500)]
    pub mtu: u32,
    /// Service account.
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,
    /// A named port, `name=80/TCP`; may be given again.
    #[arg(long = "port", value_name = "NAME=PORT/PROTOCOL")]
    pub ports: Vec<String>,
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    // The order of filters is only here.
    let typed = matches.subcommand().map_or(&matches, |(_, typed)| typed);
    let done = match cli.command {
        Command::Run(args) => crate::daemon::run(&args),
        Command::Status(args) => return status::status(&args),
        Command::Observe(args) => observe::observe(&args, typed),
        Command::Why(args) => why::why(&args),
        Command::Top(args) => top::top(&args, typed),
        Command::Flows(args) => flows::flows(&args),
        Command::Nat(args) => nat::nat(&args),
        Command::Service(args) => service::service(&args),
        Command::Policy { command } => match policy::policy(command) {
            Ok(code) => return code,
            Err(fault) => Err(fault),
        },
        Command::Endpoint { command } => endpoint::endpoint(command),
        Command::Completion { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "portcullis",
                &mut std::io::stdout(),
            );
            Ok(())
        }
        Command::Man => clap_mangen::Man::new(Cli::command())
            .render(&mut std::io::stdout())
            .map_err(|e| e.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            anstream::eprintln!("{}: {fault}", paint("error", anstyle::AnsiColor::Red));
            ExitCode::FAILURE
        }
    }
}

/// Colours a word, where the terminal can show it.
fn paint(word: &str, colour: anstyle::AnsiColor) -> String {
    let style = anstyle::Style::new().fg_color(Some(colour.into())).bold();
    format!("{style}{word}{style:#}")
}

/// Reads a pod as filters take it.
fn pod_name(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let is_known = match *parts {
        [name] => !name.is_empty(),
        [namespace, _] => !namespace.is_empty(),
        _ => false,
    };
    let expected = "expected NAMESPACE/NAME, NAMESPACE/ for all of it, or NAME";
    is_known.then(|| text.to_owned()).ok_or(expected.into())
}

/// Prints one object a line. A reader that went away is no fault.
fn print_lines<T: serde::Serialize>(values: &[T]) -> Result<(), String> {
    use std::io::Write;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let written = values.iter().try_for_each(|value| {
        serde_json::to_writer(&mut out, value)?;
        out.write_all(b"\n")
    });
    no_fault(written.and_then(|()| out.flush()))
}

/// Prints text. A reader that went away is no fault.
fn print_text(text: &str) -> Result<(), String> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    no_fault(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

fn no_fault(written: std::io::Result<()>) -> Result<(), String> {
    match written {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| e.to_string()),
    }
}

/// Tells what is missing from an answer; that is a fault, after what there is was shown.
fn whole(missing: &[String]) -> Result<(), String> {
    if missing.is_empty() {
        return Ok(());
    }
    Err(missing.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_pod_has_at_most_one_slash() {
        for good in ["shop/web", "shop/", "web"] {
            assert_eq!(pod_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "/web", "a/b/c"] {
            assert!(pod_name(bad).is_err(), "{bad}");
        }
    }
}
