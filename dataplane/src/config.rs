//! The node's settings: `config.yaml` of the state directory.

mod nat;
mod observe;
mod segments;
mod xdp;

pub use nat::Timeouts;
pub use observe::{HttpConfig, HubbleConfig, TlsConfig};
pub use segments::SegmentsConfig;
pub use xdp::XdpChoice;

use crate::xdp::PortRange;
use portcullis_hubble::export::ExportSettings;
use portcullis_hubble::metrics::MetricsSettings;
use portcullis_policy::{AllowLocalhost, Cidr, Compat, DocumentError, EnforcementMode};
use serde::Deserialize;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address block, `10.0.1.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AddressBlock {
    /// Any address in it.
    pub address: IpAddr,
    /// Bits of the prefix.
    pub prefix_length: u8,
}

impl AddressBlock {
    /// The block with the bits behind its prefix cleared, as the kernel wants it in a route.
    #[must_use]
    pub fn network(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.prefix_length))
                    .unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.prefix_length))
                    .unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        };
        Self { address, ..*self }
    }
}

impl FromStr for AddressBlock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected an address block such as 10.0.1.0/24, found \"{text}\"");
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix_length: u8 = length.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix_length > most {
            return Err(wrong());
        }
        Ok(Self {
            address,
            prefix_length,
        })
    }
}

impl TryFrom<String> for AddressBlock {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

/// How many workers there are, and where they run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkersConfig {
    /// Worker threads, 1 to 64.
    pub count: u16,
    /// The core of each worker, in order; workers beyond the list are not pinned. None: chosen.
    pub cores: Vec<usize>,
    /// Whether a pod that keeps a worker from its other pods is moved to another.
    pub rehome: bool,
}

impl Default for WorkersConfig {
    fn default() -> Self {
        Self {
            count: 1,
            cores: Vec::new(),
            rehome: false,
        }
    }
}

/// Who finishes the checksums that pods leave to their network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksums {
    /// The kernel, where it can (since 6.8), as it sends a frame; between pods nobody.
    #[default]
    Offload,
    /// The workers.
    Software,
}

/// Everything that is set per node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Config {
    /// Interface of the node's way out. Without one pods reach each other and the node only.
    pub uplink: Option<String>,
    /// The blocks that this node's pods have their addresses from; routed to the host pair.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<AddressBlock>,
    /// What happens to an endpoint that no policy selects.
    pub policy_enforcement_mode: EnforcementMode,
    /// Whether no policy is enforced, and what each would deny is only reported.
    pub policy_audit_mode: bool,
    /// Whether this node reaches its own pods in spite of default deny.
    pub allow_localhost: AllowLocalhost,
    /// Ours, or Cilium's reading, where the two differ.
    pub compat: Compat,
    /// Threads of the packet path.
    pub workers: WorkersConfig,
    /// How the kernel program is attached.
    pub xdp_mode: XdpChoice,
    /// Who finishes partial checksums.
    pub checksums: Checksums,
    /// Chunks of 4 KiB of packet memory, shared by all interfaces. A power of two.
    pub umem_frames: u32,
    /// Chunks that wait in the fill ring of an interface without traffic.
    pub idle_frames: u32,
    /// Flows that one worker remembers.
    pub flows_max: u32,
    /// Records that are kept in memory, 128 bytes each: how far `portcullis observe` looks back.
    pub observe_history: u32,
    /// Where they are kept on disk, too. None: nowhere.
    pub observe_segments: Option<SegmentsConfig>,
    /// Whether pods' traffic to outside the cluster, which no egress gateway policy is about,
    /// leaves with the uplink's address.
    pub masquerade: bool,
    /// Blocks outside that see pods' own addresses in spite of `masquerade`, as `podCIDRs` do.
    #[serde(rename = "masqueradeExcludedCIDRs")]
    pub masquerade_excluded_cidrs: Vec<AddressBlock>,
    /// Our ports on addresses that we share with the node; the node must use none of them itself.
    #[serde(deserialize_with = "nat::shared_ports")]
    pub nat_ports: PortRange,
    /// Ports of egress addresses that are ours alone.
    #[serde(deserialize_with = "nat::own_ports")]
    pub egress_ports: PortRange,
    /// Translations that the node remembers.
    pub nat_sessions_max: u32,
    /// After how long a translation is forgotten.
    pub timeouts: Timeouts,
    /// Blocks whose addresses of the node, on the uplink, serve NodePorts. Empty: all of them.
    pub node_port_addresses: Vec<AddressBlock>,
    /// Metrics for Prometheus.
    pub metrics: MetricsSettings,
    /// Flows written to a file.
    pub export: ExportSettings,
    /// Hubble's API.
    pub hubble: HubbleConfig,
    /// Metrics and the page.
    pub http: HttpConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            uplink: None,
            pod_cidrs: Vec::new(),
            policy_enforcement_mode: EnforcementMode::Default,
            policy_audit_mode: false,
            allow_localhost: AllowLocalhost::Always,
            compat: Compat::Portcullis,
            workers: WorkersConfig::default(),
            xdp_mode: XdpChoice::Auto,
            checksums: Checksums::default(),
            umem_frames: 16 * 1024,
            idle_frames: 32,
            flows_max: 64 * 1024,
            observe_history: 1_000_000,
            observe_segments: None,
            masquerade: false,
            masquerade_excluded_cidrs: Vec::new(),
            // Linux takes its own from 32768-60999, and NodePorts are 30000-32767.
            nat_ports: PortRange {
                first: 61_000,
                last: 65_535,
            },
            egress_ports: PortRange {
                first: 1024,
                last: 65_535,
            },
            nat_sessions_max: 64 * 1024,
            timeouts: Timeouts::default(),
            node_port_addresses: Vec::new(),
            metrics: MetricsSettings::default(),
            export: ExportSettings::default(),
            hubble: HubbleConfig::default(),
            http: HttpConfig::default(),
        }
    }
}

impl Config {
    /// Reads `config.yaml`.
    ///
    /// # Errors
    /// Unknown fields, values of the wrong kind and values out of bounds, each with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<DocumentError>> {
        let config: Self = decode(file, text)?;
        let mut errors = Vec::new();
        let mut expect = |field: &str, is_right: bool, expected: &str, found: String| {
            if !is_right {
                errors.push(DocumentError {
                    file: file.into(),
                    document: 1,
                    field: field.into(),
                    expected: expected.into(),
                    found,
                });
            }
        };
        let workers = &config.workers;
        expect(
            "workers.count",
            (1..=64).contains(&workers.count),
            "1 to 64",
            workers.count.to_string(),
        );
        expect(
            "workers.cores",
            workers.cores.len() <= usize::from(workers.count),
            "at most one core a worker",
            format!(
                "{} cores for {} workers",
                workers.cores.len(),
                workers.count
            ),
        );
        let frames = config.umem_frames;
        expect(
            "umemFrames",
            frames.is_power_of_two() && (1024..=1 << 20).contains(&frames),
            "a power of two from 1024 to 1048576",
            frames.to_string(),
        );
        let idle = config.idle_frames;
        expect(
            "idleFrames",
            (18..=2048).contains(&idle),
            "18 to 2048",
            idle.to_string(),
        );
        let flows = config.flows_max;
        expect(
            "flowsMax",
            (1024..=1 << 24).contains(&flows),
            "1024 to 16777216",
            flows.to_string(),
        );
        let history = config.observe_history;
        expect(
            "observeHistory",
            (1..=1 << 26).contains(&history),
            "1 to 67108864",
            history.to_string(),
        );
        let sessions = config.nat_sessions_max;
        expect(
            "natSessionsMax",
            (1024..=1 << 24).contains(&sessions),
            "1024 to 16777216",
            sessions.to_string(),
        );
        if let Some((field, expected, found)) = config.metrics.fault() {
            expect(field, false, expected, found);
        }
        errors.extend(observe::faults(file, &config.hubble, &config.http));
        errors.extend(observe::export_fault(file, &config.export));
        if errors.is_empty() {
            Ok(config)
        } else {
            Err(errors)
        }
    }

    /// The fields in which `new` differs and which only a restart can change.
    #[must_use]
    pub fn restart_needed_for(&self, new: &Self) -> Vec<&'static str> {
        let mut fields = Vec::new();
        let mut compare = |name, differs: bool| {
            if differs {
                fields.push(name);
            }
        };
        compare("uplink", self.uplink != new.uplink);
        compare("podCIDRs", self.pod_cidrs != new.pod_cidrs);
        compare("workers", self.workers != new.workers);
        compare("xdpMode", self.xdp_mode != new.xdp_mode);
        compare("checksums", self.checksums != new.checksums);
        compare("umemFrames", self.umem_frames != new.umem_frames);
        compare("idleFrames", self.idle_frames != new.idle_frames);
        compare("flowsMax", self.flows_max != new.flows_max);
        compare(
            "observeHistory",
            self.observe_history != new.observe_history,
        );
        compare(
            "observeSegments",
            self.observe_segments != new.observe_segments,
        );
        compare(
            "natSessionsMax",
            self.nat_sessions_max != new.nat_sessions_max,
        );
        compare("timeouts", self.timeouts != new.timeouts);
        compare("metrics.listen", self.metrics.listen != new.metrics.listen);
        compare("hubble", self.hubble != new.hubble);
        compare("http", self.http != new.http);
        fields
    }

    /// The addresses of the node that serve NodePorts.
    #[must_use]
    pub fn serving(&self, mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        let blocks: Vec<Cidr> = self
            .node_port_addresses
            .iter()
            .filter_map(|block| Cidr::new(block.address, block.prefix_length))
            .collect();
        let serves = |address: &IpAddr| blocks.iter().any(|block| block.has_address(*address));
        addresses.retain(|address| blocks.is_empty() || serves(address));
        addresses
    }

    /// Takes from `new` all that needs no restart.
    pub fn take_live(&mut self, new: &Self) {
        self.policy_enforcement_mode = new.policy_enforcement_mode;
        self.policy_audit_mode = new.policy_audit_mode;
        self.allow_localhost = new.allow_localhost;
        self.compat = new.compat;
        self.masquerade = new.masquerade;
        self.masquerade_excluded_cidrs
            .clone_from(&new.masquerade_excluded_cidrs);
        self.nat_ports = new.nat_ports;
        self.egress_ports = new.egress_ports;
        self.metrics.enabled.clone_from(&new.metrics.enabled);
        self.metrics.series_max = new.metrics.series_max;
        self.export.clone_from(&new.export);
        self.node_port_addresses
            .clone_from(&new.node_port_addresses);
    }
}

/// Reads YAML into a type, and says where it does not fit.
fn decode<T: serde::de::DeserializeOwned + Default>(
    file: &str,
    text: &str,
) -> Result<T, Vec<DocumentError>> {
    let fault = |field: String, expected: String, found: String| {
        vec![DocumentError {
            file: file.into(),
            document: 1,
            field,
            expected,
            found,
        }]
    };
    let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|e| {
        fault(
            String::new(),
            "YAML".into(),
            e.to_string().replace('\n', "; "),
        )
    })?;
    if value.is_null() {
        return Ok(T::default());
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut field = error.path().to_string();
        let message = error.into_inner().to_string();
        // serde speaks of the container; our users look for the field.
        if let Some(unknown) = message.strip_prefix("unknown field `")
            && let Some((name, known)) = unknown.split_once("`, expected ")
        {
            if !field.ends_with(name) {
                field = if field == "." {
                    name.into()
                } else {
                    format!("{field}.{name}")
                };
            }
            return fault(field, known.replace('`', ""), format!("\"{name}\""));
        }
        match message.split_once(", expected ") {
            Some((found, expected)) => fault(
                field,
                expected.replace('`', ""),
                found
                    .trim_start_matches("invalid type: ")
                    .replace('`', "\""),
            ),
            None => match message
                .strip_prefix("expected ")
                .and_then(|m| m.split_once(", found "))
            {
                Some((expected, found)) => fault(field, expected.into(), found.into()),
                None => fault(field, "a value that fits".into(), message),
            },
        }
    })
}

#[cfg(test)]
mod tests;
