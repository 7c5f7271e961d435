//! The network side of a pod: its namespace, its veth pair, its addresses and routes.
//!
//! The pod has its addresses as /32 and /128 and knows one gateway, 169.254.1.1 and fe80::1, so
//! every packet comes to the daemon, also one for the pod next door. The gateway's MAC address is
//! left to ARP and neighbour discovery, which the daemon answers.

use super::command::{run, run_inside};
use super::{
    AddRequest, DEVICE_MTU, EndpointError, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, InterfaceName,
    interface_name,
};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// Where `ip netns` keeps its names. [ip-netns(8)]
const NETNS_DIRECTORY: &str = "/run/netns";

/// The name of the interface inside the pod.
const POD_INTERFACE: &str = "eth0";

/// What `add` has made so far. Dropped before `keep`, it takes all of it back.
pub(super) struct Plumbing<'a> {
    request: &'a AddRequest,
    interface: InterfaceName,
    /// As the user named it.
    netns: String,
    netns_path: String,
    has_created_netns: bool,
    has_created_link: bool,
}

impl<'a> Plumbing<'a> {
    /// Finds names; nothing is made yet.
    ///
    /// # Errors
    /// `Argument` when a network namespace was named by a path that is not there.
    pub(super) fn new(request: &'a AddRequest) -> Result<Self, EndpointError> {
        let netns = request
            .netns
            .clone()
            .unwrap_or_else(|| format!("{}-{}", request.namespace, request.name));
        let netns_path = netns_path(&netns);
        if netns.contains('/') && !Path::new(&netns_path).exists() {
            let expected = "the path of a network namespace that exists";
            return Err(EndpointError::argument("--netns", expected, &netns));
        }
        Ok(Self {
            interface: interface_name(&request.namespace, &request.name),
            request,
            netns,
            netns_path,
            has_created_netns: false,
            has_created_link: false,
        })
    }

    pub(super) fn interface(&self) -> &InterfaceName {
        &self.interface
    }

    pub(super) fn netns(&self) -> &str {
        &self.netns
    }

    pub(super) fn has_created_netns(&self) -> bool {
        self.has_created_netns
    }

    /// What was made stays.
    pub(super) fn keep(mut self) {
        (self.has_created_netns, self.has_created_link) = (false, false);
    }

    /// Makes namespace, veth pair, addresses and routes, and gives the MAC address of the pod's end.
    pub(super) fn build(&mut self) -> Result<String, EndpointError> {
        if !Path::new(&self.netns_path).exists() {
            run(
                "make the network namespace",
                &["ip", "netns", "add", &self.netns],
            )?;
            self.has_created_netns = true;
        }
        self.make_pair()?;
        self.quieten_ipv6()?;
        self.set_offloads()?;
        self.inside("bring up lo", &["ip", "link", "set", "lo", "up"])?;
        self.inside(
            "bring up the pod's end",
            &["ip", "link", "set", POD_INTERFACE, "up"],
        )?;
        for address in &self.request.addresses {
            self.give_address(*address)?;
        }
        self.set_routes()?;
        self.read_mac()
    }

    fn inside(&self, step: &'static str, words: &[&str]) -> Result<String, EndpointError> {
        run_inside(step, &self.netns_path, words)
    }

    fn make_pair(&mut self) -> Result<(), EndpointError> {
        let mtu = DEVICE_MTU.to_string();
        run(
            "make the veth pair",
            &[
                "ip",
                "link",
                "add",
                self.interface.as_str(),
                "mtu",
                &mtu,
                "address",
                GATEWAY_MAC,
                "type",
                "veth",
                "peer",
                "name",
                POD_INTERFACE,
                "mtu",
                &mtu,
                "netns",
                &self.netns_path,
            ],
        )?;
        self.has_created_link = true;
        Ok(())
    }

    /// Neither end shall speak of its own accord: no router solicitations, no duplicate address
    /// detection, and no IPv6 at all where no address was asked for.
    fn quieten_ipv6(&self) -> Result<(), EndpointError> {
        let host = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.interface);
        match fs::write(&host, "1") {
            // A kernel without IPv6 is quiet already.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.has_ipv6() => {
                return Ok(());
            }
            written => written.map_err(|source| {
                EndpointError::file("disable IPv6 on the host's end", Path::new(&host), source)
            })?,
        }
        let of_pod = |key: &str, value: u8| format!("net.ipv6.conf.{POD_INTERFACE}.{key}={value}");
        let settings = if self.has_ipv6() {
            vec![
                of_pod("accept_dad", 0),
                of_pod("accept_ra", 0),
                of_pod("router_solicitations", 0),
            ]
        } else {
            vec![of_pod("disable_ipv6", 1)]
        };
        let mut words = vec!["sysctl", "-q", "-w"];
        words.extend(settings.iter().map(String::as_str));
        self.inside("quieten IPv6 on the pod's end", &words)
            .map(drop)
    }

    /// A UDP super-frame would arrive as one datagram, its boundaries lost; an SCTP checksum left
    /// to the device would never be made; a VLAN tag left to it would not be in the frame, so that
    /// nobody could refuse it. TCP segmentation stays on: that is what makes bulk fast.
    fn set_offloads(&self) -> Result<(), EndpointError> {
        self.inside(
            "set the pod's offloads",
            &[
                "ethtool",
                "-K",
                POD_INTERFACE,
                "tx-udp-segmentation",
                "off",
                "tx-checksum-sctp",
                "off",
                "tx-vlan-offload",
                "off",
                "tx-vlan-stag-hw-insert",
                "off",
            ],
        )
        .map(drop)
    }

    fn give_address(&self, address: IpAddr) -> Result<(), EndpointError> {
        let bits = if address.is_ipv6() { 128 } else { 32 };
        let address_and_bits = format!("{address}/{bits}");
        let mut words = vec![
            "ip",
            "address",
            "add",
            &address_and_bits,
            "dev",
            POD_INTERFACE,
        ];
        if address.is_ipv6() {
            words.push("nodad");
        }
        self.inside("give the pod its address", &words).map(drop)
    }

    fn set_routes(&self) -> Result<(), EndpointError> {
        let mtu = self.request.route_mtu.to_string();
        let has_ipv4 = self.request.addresses.iter().any(IpAddr::is_ipv4);
        if has_ipv4 {
            self.inside(
                "set the route to the gateway",
                &[
                    "ip",
                    "route",
                    "add",
                    GATEWAY_V4,
                    "dev",
                    POD_INTERFACE,
                    "scope",
                    "link",
                ],
            )?;
            self.set_default("-4", GATEWAY_V4, &mtu)?;
        }
        if self.has_ipv6() {
            self.set_default("-6", GATEWAY_V6, &mtu)?;
        }
        Ok(())
    }

    fn set_default(&self, family: &str, gateway: &str, mtu: &str) -> Result<(), EndpointError> {
        self.inside(
            "set the default route",
            &[
                "ip",
                family,
                "route",
                "add",
                "default",
                "via",
                gateway,
                "dev",
                POD_INTERFACE,
                "mtu",
                mtu,
            ],
        )
        .map(drop)
    }

    fn read_mac(&self) -> Result<String, EndpointError> {
        let step = "read the pod's MAC address";
        let words = ["ip", "-json", "link", "show", "dev", POD_INTERFACE];
        let said = self.inside(step, &words)?;
        serde_json::from_str::<serde_json::Value>(&said)
            .ok()
            .and_then(|links| Some(links.get(0)?.get("address")?.as_str()?.to_owned()))
            .ok_or_else(|| EndpointError::Step {
                step,
                command: words.join(" "),
                said: format!("expected a link with an address, found {said:?}"),
            })
    }

    fn has_ipv6(&self) -> bool {
        self.request.addresses.iter().any(IpAddr::is_ipv6)
    }
}

impl Drop for Plumbing<'_> {
    fn drop(&mut self) {
        // The failure that led here is the one to report; a second one has nowhere to go.
        if self.has_created_link {
            let _ = remove_link(self.interface.as_str());
        }
        if self.has_created_netns {
            let _ = remove_netns(&self.netns);
        }
    }
}

/// Removes an interface; one that is gone is no error.
pub(super) fn remove_link(interface: &str) -> Result<(), EndpointError> {
    let is_gone =
        |said: &str| said.contains("Cannot find device") || said.contains("No such device");
    match run(
        "remove the veth pair",
        &["ip", "link", "delete", "dev", interface],
    ) {
        Err(EndpointError::Step { said, .. }) if is_gone(&said) => Ok(()),
        other => other.map(drop),
    }
}

/// Removes a network namespace that `add` made; one that is gone is no error.
pub(super) fn remove_netns(netns: &str) -> Result<(), EndpointError> {
    if !Path::new(&netns_path(netns)).exists() {
        return Ok(());
    }
    run(
        "remove the network namespace",
        &["ip", "netns", "delete", netns],
    )
    .map(drop)
}

fn netns_path(netns: &str) -> String {
    if netns.contains('/') {
        netns.to_owned()
    } else {
        format!("{NETNS_DIRECTORY}/{netns}")
    }
}
