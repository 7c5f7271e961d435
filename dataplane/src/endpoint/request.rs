//! What is asked of `endpoint add` and `endpoint del`, and which answers are refused beforehand.

use super::{EndpointError, name};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A label of a pod, written `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// The key, with its prefix if it has one.
    pub key: String,
    /// The value; may be empty.
    pub value: String,
}

impl FromStr for Label {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "key=value as Kubernetes labels are written";
        let wrong = || EndpointError::argument("--label", expected, text);
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        if !name::is_label_key(key) || !name::is_label_value(value) {
            return Err(wrong());
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// A named port of a pod, written `name=80/TCP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    /// The name that policies may use.
    pub name: String,
    /// The port, never 0.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

impl FromStr for NamedPort {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected =
            "name=port/protocol with a port, 1 to 65535, and TCP, UDP or SCTP, as http=80/TCP";
        let wrong = || EndpointError::argument("--port", expected, text);
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (port, protocol) = rest.split_once('/').unwrap_or((rest, "TCP"));
        let port = port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(wrong)?;
        if !name::is_port_name(name) || !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            return Err(wrong());
        }
        Ok(Self {
            name: name.to_owned(),
            port,
            protocol: protocol.to_owned(),
        })
    }
}

impl fmt::Display for NamedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}/{}", self.name, self.port, self.protocol)
    }
}

/// The pod that `endpoint add` is to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddRequest {
    /// Its name.
    pub name: String,
    /// Its Kubernetes namespace; the namespace's own labels come from a Namespace document.
    pub namespace: String,
    /// Its labels.
    pub labels: Vec<Label>,
    /// Its addresses: at least one.
    pub addresses: Vec<IpAddr>,
    /// The network namespace: a name under /run/netns, made when it is missing, or the path of
    /// one that exists. None means NAMESPACE-NAME.
    pub netns: Option<String>,
    /// The daemon's state directory, where the manifest goes.
    pub state: PathBuf,
    /// Bytes of IP that the pod may send in one packet: the MTU of its routes.
    pub route_mtu: u32,
    /// Its service account.
    pub service_account: String,
    /// Its named ports.
    pub ports: Vec<NamedPort>,
}

impl AddRequest {
    /// The route MTU when none is asked for: Ethernet's.
    pub const ROUTE_MTU: u32 = 1500;

    /// A pod in namespace `default` with no labels and, as yet, no address.
    #[must_use]
    pub fn new(name: &str, state: &Path) -> Self {
        Self {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            labels: Vec::new(),
            addresses: Vec::new(),
            netns: None,
            state: state.to_owned(),
            route_mtu: Self::ROUTE_MTU,
            service_account: "default".to_owned(),
            ports: Vec::new(),
        }
    }

    /// Refuses what cannot be made, before anything is.
    pub(super) fn check(&self) -> Result<(), EndpointError> {
        name::check_pod("NAME", &self.name)?;
        name::check_namespace("--namespace", &self.namespace)?;
        name::check_pod("--service-account", &self.service_account)?;
        self.check_addresses()?;
        let mut keys: Vec<&str> = self.labels.iter().map(|label| label.key.as_str()).collect();
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(EndpointError::argument(
                "--label",
                "each key once",
                twice[0],
            ));
        }
        if let Some(netns) = &self.netns
            && (netns.is_empty() || matches!(netns.as_str(), "." | "..") || netns.starts_with('-'))
        {
            let expected = "the name of a network namespace, or the path of one";
            return Err(EndpointError::argument("--netns", expected, netns));
        }
        if !self.state.is_dir() {
            let found = self.state.display();
            return Err(EndpointError::argument(
                "--state",
                "a directory that exists",
                found,
            ));
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), EndpointError> {
        if self.addresses.is_empty() {
            return Err(EndpointError::argument(
                "--ip",
                "at least one address",
                "none",
            ));
        }
        for (index, address) in self.addresses.iter().enumerate() {
            if !is_pod_address(*address) {
                let expected = "a unicast address that a pod can have";
                return Err(EndpointError::argument("--ip", expected, address));
            }
            if self.addresses[..index].contains(address) {
                return Err(EndpointError::argument(
                    "--ip",
                    "each address once",
                    address,
                ));
            }
        }
        // [RFC 8200 §5: every link of an IPv6 path carries 1280; RFC 791: 576 for IPv4]
        let smallest = if self.addresses.iter().any(IpAddr::is_ipv6) {
            1280
        } else {
            576
        };
        if !(smallest..=super::DEVICE_MTU).contains(&self.route_mtu) {
            let expected = format!("an MTU, {smallest} to {}", super::DEVICE_MTU);
            return Err(EndpointError::argument("--mtu", &expected, self.route_mtu));
        }
        Ok(())
    }
}

/// Whether an address may be a pod's: neither loopback, link-local, multicast, broadcast, reserved
/// nor unspecified.
fn is_pod_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.octets()[0] == 0
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.octets()[0] >= 224)
        }
        IpAddr::V6(v6) => {
            !(v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some())
        }
    }
}

/// The pod that `endpoint del` is to take away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelRequest {
    /// Its name.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// The daemon's state directory, where the manifest is.
    pub state: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(addresses: &[&str]) -> AddRequest {
        AddRequest {
            addresses: addresses
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
            ..AddRequest::new("api", &std::env::temp_dir())
        }
    }

    fn refusal(request: &AddRequest) -> String {
        request.check().expect_err("it is refused").to_string()
    }

    #[test]
    fn a_plain_pod_is_accepted() {
        let pod = AddRequest {
            labels: vec!["app=api".parse().expect("a label")],
            ports: vec!["http=80/TCP".parse().expect("a port")],
            ..request(&["10.0.1.10", "fd00:10:1::10"])
        };
        pod.check().expect("nothing is wrong with it");
    }

    #[test]
    fn a_bad_label_is_refused_with_what_was_expected() {
        for wrong in ["app", "=api", "app=a b", "a b=c", "app=-x"] {
            assert_eq!(
                Label::from_str(wrong).expect_err("not a label").to_string(),
                format!(
                    "--label: expected key=value as Kubernetes labels are written, found {wrong:?}"
                )
            );
        }
        let twice = AddRequest {
            labels: vec![
                "app=a".parse().expect("a label"),
                "app=b".parse().expect("a label"),
            ],
            ..request(&["10.0.1.10"])
        };
        assert_eq!(
            refusal(&twice),
            "--label: expected each key once, found \"app\""
        );
    }

    #[test]
    fn addresses_that_no_pod_can_have_are_refused() {
        for wrong in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(
                refusal(&request(&[wrong])),
                format!("--ip: expected a unicast address that a pod can have, found {wrong:?}")
            );
        }
        assert_eq!(
            refusal(&request(&[])),
            "--ip: expected at least one address, found \"none\""
        );
        assert_eq!(
            refusal(&request(&["10.0.1.10", "10.0.1.10"])),
            "--ip: expected each address once, found \"10.0.1.10\""
        );
    }

    #[test]
    fn an_mtu_below_what_the_family_needs_is_refused() {
        let small = AddRequest {
            route_mtu: 1000,
            ..request(&["10.0.1.10"])
        };
        small.check().expect("IPv4 can do with 1000");
        let small = AddRequest {
            route_mtu: 1000,
            ..request(&["10.0.1.10", "fd00::1"])
        };
        assert_eq!(
            refusal(&small),
            "--mtu: expected an MTU, 1280 to 65535, found \"1000\""
        );
    }

    #[test]
    fn a_named_port_has_a_name_a_port_and_a_protocol() {
        let web = NamedPort {
            name: "http".into(),
            port: 80,
            protocol: "TCP".into(),
        };
        assert_eq!(NamedPort::from_str("http=80/TCP").expect("a port"), web);
        assert_eq!(NamedPort::from_str("http=80").expect("a port"), web);
        for wrong in [
            "80",
            "http=0/TCP",
            "http=65536",
            "http=80/tcp",
            "80=80",
            "=80",
        ] {
            assert!(NamedPort::from_str(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_state_directory_that_is_missing_is_refused() {
        let lost = AddRequest {
            state: "/nonexistent/state".into(),
            ..request(&["10.0.1.10"])
        };
        assert_eq!(
            refusal(&lost),
            "--state: expected a directory that exists, found \"/nonexistent/state\""
        );
    }
}
