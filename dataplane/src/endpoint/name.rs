//! Names: which are valid in Kubernetes, and what the host end of a pod's veth pair is called.

use super::EndpointError;
use std::fmt;

/// The name of a network interface: 1 to 15 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Bytes that the kernel allows. [linux/if.h, `IFNAMSIZ` less the final zero]
    pub const LENGTH_MAX: usize = 15;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The host end of a pod's veth pair: `pc` and 12 hexadecimal digits that follow from the pod's
/// namespace and name, so that `del` finds it without a record.
#[must_use]
pub fn interface_name(namespace: &str, name: &str) -> InterfaceName {
    // FNV-1a, 64 bits. The slash cannot occur in either part, so no two pods share the input.
    let hash = [namespace, "/", name]
        .iter()
        .flat_map(|part| part.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    InterfaceName(format!("pc{:012x}", hash >> 16))
}

/// Whether the text is a DNS label: 1 to 63 of a-z, 0-9 and `-`, neither first nor last `-`.
/// [RFC 1123 §2.1; Kubernetes, object names]
fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether the text is DNS labels with dots between, at most 253 bytes. [RFC 1123 §2.1]
fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// Checks the name of a pod or service account.
///
/// # Errors
/// `Argument`, naming `argument`.
pub(super) fn check_pod(argument: &str, name: &str) -> Result<(), EndpointError> {
    if is_dns_subdomain(name) {
        return Ok(());
    }
    let expected = "a DNS name: a-z, 0-9, '-' and '.', at most 253 characters";
    Err(EndpointError::argument(argument, expected, name))
}

/// Checks the name of a Kubernetes namespace.
///
/// # Errors
/// `Argument`, naming `argument`.
pub(super) fn check_namespace(argument: &str, name: &str) -> Result<(), EndpointError> {
    if is_dns_label(name) {
        return Ok(());
    }
    let expected = "a DNS label: a-z, 0-9 and '-', at most 63 characters";
    Err(EndpointError::argument(argument, expected, name))
}

/// Whether the text may be a label's value, or a key's part after the slash.
/// [Kubernetes, labels and selectors: syntax and character set]
fn is_label_part(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.as_bytes()[text.len() - 1].is_ascii_alphanumeric()
}

/// Whether the text may be a label's key: a name of 63 characters, behind an optional DNS prefix
/// and a slash.
pub(super) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_part(name),
        None => is_label_part(text),
    }
}

/// Whether the text may be a label's value; it may be empty.
pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_part(text)
}

/// Whether the text may name a port: 1 to 15 of a-z, 0-9 and `-`, with a letter in it.
/// [RFC 6335 §5.1]
pub(super) fn is_port_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && is_dns_label(text)
        && !text.contains("--")
        && text.bytes().any(|b| b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_name_follows_from_the_pod_and_fits_the_kernel() {
        let name = interface_name("backend", "api");
        assert_eq!(name, interface_name("backend", "api"));
        assert_eq!(name.as_str(), "pcc7bed455e0e7");
        assert!(name.as_str().len() <= InterfaceName::LENGTH_MAX);
    }

    #[test]
    fn pods_that_differ_have_interfaces_that_differ() {
        let mut names = std::collections::HashSet::new();
        for namespace in 0..100 {
            for pod in 0..250 {
                names.insert(interface_name(
                    &format!("ns-{namespace}"),
                    &format!("pod-{pod}"),
                ));
            }
        }
        names.extend([interface_name("a", "b-c"), interface_name("a-b", "c")]);
        assert_eq!(names.len(), 100 * 250 + 2);
    }

    #[test]
    fn names_are_judged_as_kubernetes_does() {
        let is_pod = |name: &str| check_pod("NAME", name).is_ok();
        let is_namespace = |name: &str| check_namespace("--namespace", name).is_ok();
        assert!(is_pod("api") && is_pod("api-7d9f.v2") && is_namespace("kube-system"));
        for wrong in [
            "",
            "-api",
            "api-",
            "API",
            "a/b",
            "a_b",
            "a..b",
            "ä",
            &"a".repeat(64),
        ] {
            assert!(!is_pod(wrong) && !is_namespace(wrong), "{wrong:?}");
        }
        assert!(!is_namespace("a.b"));
    }

    #[test]
    fn label_keys_and_values_are_judged_as_kubernetes_does() {
        assert!(is_label_key("app") && is_label_key("app.kubernetes.io/name"));
        assert!(is_label_value("") && is_label_value("v1.2_Beta"));
        for wrong in ["-a", "a-", "a b", "a=b", "a\nb", &"a".repeat(64)] {
            assert!(!is_label_key(wrong) && !is_label_value(wrong), "{wrong:?}");
        }
        assert!(!is_label_key("") && !is_label_key("/a") && !is_label_key("a/b/c"));
    }

    #[test]
    fn port_names_have_a_letter() {
        assert!(is_port_name("http") && is_port_name("p8080"));
        for wrong in ["", "80", "HTTP", "a--b", "-a", "sixteen-letters-"] {
            assert!(!is_port_name(wrong), "{wrong:?}");
        }
    }
}
