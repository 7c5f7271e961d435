//! The pair of interfaces between this node's own stack and its pods.
//!
//! `pc_host` is the node's end: it holds the gateway's addresses, and the pods' blocks are routed
//! into it. `pc_net` is the daemon's end. A route of the node straight to a pod's own interface
//! would go around policy, so there is none.

use crate::config::AddressBlock;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

/// The node's end.
pub const HOST_END: &str = "pc_host";
/// The daemon's end.
pub const NET_END: &str = "pc_net";
/// What pods use as their IPv4 gateway. [RFC 3927: link local, so it never collides with a pod]
pub const GATEWAY_IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// What pods use as their IPv6 gateway.
pub const GATEWAY_IPV6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Whole TCP segments of 64 KB cross the pair.
const DEVICE_MTU: u32 = 65_535;

/// Makes the pair, or what is missing of it, and routes the pods' blocks into it.
///
/// `sources` are the node's own addresses, from which it shall speak to its pods.
///
/// # Errors
/// The command that failed, and what it said.
pub fn make(blocks: &[AddressBlock], sources: &[IpAddr], path_mtu: u32) -> Result<(), String> {
    if !exists(HOST_END) || !exists(NET_END) {
        let _ = ip(&format!("link del {HOST_END}"));
        ip(&format!(
            "link add {HOST_END} type veth peer name {NET_END}"
        ))?;
    }
    for end in [HOST_END, NET_END] {
        ip(&format!("link set {end} mtu {DEVICE_MTU}"))?;
    }
    // The daemon's end must not speak for itself.
    set(NET_END, "ipv6", "disable_ipv6", "1");
    set(HOST_END, "ipv6", "accept_ra", "0");
    set(HOST_END, "ipv6", "router_solicitations", "0");
    set(HOST_END, "ipv6", "accept_dad", "0");
    // A datagram's boundaries would be lost: such a super-frame does not say where they are.
    run("ethtool", &["-K", HOST_END, "tx-udp-segmentation", "off"])?;
    ip(&format!("address replace {GATEWAY_IPV4}/32 dev {HOST_END}"))?;
    // A node without IPv6 has no use for its gateway.
    let _ = ip(&format!(
        "-6 address replace {GATEWAY_IPV6}/64 dev {HOST_END} nodad"
    ));
    ip(&format!("link set {HOST_END} up"))?;
    for block in blocks {
        let source = sources
            .iter()
            .find(|source| source.is_ipv4() == block.address.is_ipv4());
        let source = source
            .map(|source| format!(" src {source}"))
            .unwrap_or_default();
        let network = block.network();
        ip(&format!(
            "route replace {network} dev {HOST_END} mtu {path_mtu}{source}"
        ))?;
    }
    Ok(())
}

fn exists(link: &str) -> bool {
    ip(&format!("link show {link}")).is_ok()
}

/// A setting that older kernels may lack; none of them decides over safety.
fn set(link: &str, family: &str, key: &str, value: &str) {
    let _ = fs::write(format!("/proc/sys/net/{family}/conf/{link}/{key}"), value);
}

fn ip(line: &str) -> Result<(), String> {
    run("ip", &line.split(' ').collect::<Vec<_>>())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let line = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|e| format!("{line}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
