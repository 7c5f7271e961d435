//! The program of `bpf/redirect_peer.c` on two pods' interfaces: what Cilium's datapath does.

use crate::clang::compile;
use crate::policies::PORTS;
use aya::Ebpf;
use aya::maps::HashMap;
use aya::programs::tc::{SchedClassifier, TcAttachType, qdisc_add_clsact};
use netns_tests::{Place, Pod};
use std::fs;
use std::net::IpAddr;

/// MAC address of the host's end of every pod's veth pair.
const HOST_MAC: [u8; 6] = [0xee; 6];

/// The program, attached for as long as this is held.
#[derive(Debug)]
pub struct Redirection(#[expect(dead_code, reason = "holds the program")] Ebpf);

/// Compiles the program and attaches it to both pods' interfaces.
///
/// # Errors
/// There is no clang, or the kernel refuses the program.
pub fn attach(node: &Place, pods: [&Pod; 2]) -> Result<Redirection, String> {
    let object = compile(include_str!("../bpf/redirect_peer.c"))?;
    let ends = pods.map(End::of);
    node.call(move || load(&object, &ends))
}

struct End {
    interface: String,
    address: [u8; 4],
    mac: [u8; 6],
}

impl End {
    fn of(pod: &Pod) -> Self {
        let IpAddr::V4(address) = pod.addresses[0] else {
            panic!("{} has no IPv4 address", pod.name);
        };
        Self {
            interface: pod.interface.clone(),
            address: address.octets(),
            mac: pod.mac,
        }
    }
}

fn load(object: &[u8], ends: &[End; 2]) -> Result<Redirection, String> {
    fn failed(error: impl std::error::Error) -> String {
        let cause = error.source().map(|cause| format!(": {cause}"));
        format!("tc-BPF: {error}{}", cause.unwrap_or_default())
    }
    let missing = |what: &str| format!("tc-BPF: no {what}");
    let mut kernel = Ebpf::load(object).map_err(failed)?;
    {
        let map = kernel.map_mut("ENDPOINTS").ok_or_else(|| missing("map"))?;
        let mut endpoints: HashMap<_, [u8; 4], [u8; 16]> =
            HashMap::try_from(map).map_err(failed)?;
        for end in ends {
            let path = format!("/sys/class/net/{}/ifindex", end.interface);
            let index = fs::read_to_string(&path).map_err(failed)?;
            let index: u32 = index.trim().parse().map_err(failed)?;
            let mut value = [0; 16];
            value[..4].copy_from_slice(&index.to_ne_bytes());
            value[4..10].copy_from_slice(&end.mac);
            value[10..].copy_from_slice(&HOST_MAC);
            endpoints.insert(end.address, value, 0).map_err(failed)?;
        }
    }
    {
        let map = kernel.map_mut("POLICY").ok_or_else(|| missing("map"))?;
        let mut policy: HashMap<_, [u8; 12], u32> = HashMap::try_from(map).map_err(failed)?;
        for (protocol, port) in PORTS {
            let number = if *protocol == "TCP" { 6 } else { 17 };
            for is_reply in [false, true] {
                let [from, to] = [usize::from(is_reply), usize::from(!is_reply)];
                let mut key = [0; 12];
                key[..4].copy_from_slice(&ends[from].address);
                key[4..8].copy_from_slice(&ends[to].address);
                key[8..10].copy_from_slice(&port.to_be_bytes());
                key[10] = number;
                key[11] = u8::from(is_reply);
                policy.insert(key, 1, 0).map_err(failed)?;
            }
        }
    }
    let program: &mut SchedClassifier = kernel
        .program_mut("redirect")
        .ok_or_else(|| missing("program"))?
        .try_into()
        .map_err(failed)?;
    program.load().map_err(failed)?;
    for end in ends {
        // Not needed where the kernel has links for tc; then it does no harm.
        let _ = qdisc_add_clsact(&end.interface);
        program
            .attach(&end.interface, TcAttachType::Ingress)
            .map_err(failed)?;
    }
    Ok(Redirection(kernel))
}
