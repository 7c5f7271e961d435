//! Settings of address translation: port ranges and timeouts.

use crate::xdp::PortRange;
use portcullis_engine::{FlowTimeouts, SessionTimeouts};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::time::Duration;

/// What one node forgets only after a week, it would forget at its next restart.
const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// After how long without a packet a translation is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Timeouts {
    /// TCP before the handshake is through.
    #[serde(deserialize_with = "timeout")]
    pub tcp_opening: Duration,
    /// TCP in between.
    #[serde(deserialize_with = "timeout")]
    pub tcp_established: Duration,
    /// TCP after FIN or RST.
    #[serde(deserialize_with = "timeout")]
    pub tcp_closing: Duration,
    /// UDP.
    #[serde(deserialize_with = "timeout")]
    pub udp: Duration,
    /// ICMP and ICMPv6 echo.
    #[serde(deserialize_with = "timeout")]
    pub icmp: Duration,
    /// Every other protocol.
    #[serde(deserialize_with = "timeout")]
    pub other: Duration,
}

impl Timeouts {
    /// For connections at the pods.
    #[must_use]
    pub fn of_flows(&self) -> FlowTimeouts {
        FlowTimeouts {
            tcp_opening: self.tcp_opening,
            tcp_established: self.tcp_established,
            tcp_closing: self.tcp_closing,
            udp: self.udp,
            sctp: self.other,
            icmp: self.icmp,
        }
    }

    /// For translations. None lives longer than the connection that it serves, where both are
    /// open; one that nobody has answered gives its port back sooner.
    #[must_use]
    pub fn of_sessions(&self) -> SessionTimeouts {
        let defaults = SessionTimeouts::default();
        SessionTimeouts {
            tcp_opening: self.tcp_opening.min(defaults.tcp_opening),
            tcp_established: self.tcp_established,
            tcp_half_closed: defaults.tcp_half_closed.min(self.tcp_established),
            tcp_closing: self.tcp_closing,
            udp_opening: self.udp.min(defaults.udp_opening),
            udp_established: self.udp.max(defaults.udp_established),
            icmp: self.icmp,
            sctp_opening: self.other.min(defaults.sctp_opening),
            sctp_established: self.other.max(defaults.sctp_established),
        }
    }
}

/// Cilium's: bpf-ct-timeout-regular-tcp-syn, -tcp, -tcp-fin and -any.
impl Default for Timeouts {
    fn default() -> Self {
        const ANY: Duration = Duration::from_secs(60);
        Self {
            tcp_opening: Duration::from_secs(60),
            tcp_established: Duration::from_secs(8000),
            tcp_closing: Duration::from_secs(10),
            udp: ANY,
            icmp: ANY,
            other: ANY,
        }
    }
}

/// Ports on an address of the node: those below 1024 stay the node's.
pub(super) fn shared_ports<'de, D: Deserializer<'de>>(from: D) -> Result<PortRange, D::Error> {
    port_range(from, 1024)
}

/// Ports on an address that is ours alone.
pub(super) fn own_ports<'de, D: Deserializer<'de>>(from: D) -> Result<PortRange, D::Error> {
    port_range(from, 1)
}

fn port_range<'de, D: Deserializer<'de>>(from: D, least: u16) -> Result<PortRange, D::Error> {
    let found = Value::deserialize(from)?;
    let range = found.as_str().and_then(|text| {
        let (first, last) = text.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        (least <= first && first <= last).then_some(PortRange { first, last })
    });
    range.ok_or_else(|| {
        D::Error::custom(format!(
            "expected first-last, two ports from {least} to 65535 such as \"61000-65535\", found \
             {found}"
        ))
    })
}

fn timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let found = Value::deserialize(from)?;
    let seconds = match &found {
        Value::Number(seconds) => seconds.as_u64(),
        Value::String(text) => duration(text),
        _ => None,
    };
    seconds
        .map(Duration::from_secs)
        .filter(|timeout| (Duration::from_secs(1)..=TIMEOUT_MAX).contains(timeout))
        .ok_or_else(|| {
            D::Error::custom(format!(
                "expected 1 to {} seconds, such as 60, \"60s\" or \"2h13m20s\", found {found}",
                TIMEOUT_MAX.as_secs()
            ))
        })
}

/// Seconds of a duration in whole hours, minutes and seconds, each at most once, in this order.
pub(super) fn duration(text: &str) -> Option<u64> {
    let (mut rest, mut sum, mut is_given) = (text, 0_u64, false);
    for (unit, seconds) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((count, behind)) = rest.split_once(unit) {
            let part = number::<u64>(count)?.checked_mul(seconds)?;
            sum = sum.checked_add(part)?;
            (rest, is_given) = (behind, true);
        }
    }
    (is_given && rest.is_empty()).then_some(sum)
}

/// A number of digits alone: no sign, no space.
fn number<T: std::str::FromStr>(digits: &str) -> Option<T> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_hours_minutes_and_seconds() {
        for (text, seconds) in [
            ("60s", 60),
            ("8000s", 8000),
            ("2h13m20s", 8000),
            ("1h", 3600),
            ("1h5s", 3605),
            ("90m", 5400),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "s",
            "60",
            "60 s",
            "-1s",
            "+1s",
            "1.5s",
            "1s1h",
            "1s1s",
            "1d",
            "100ms",
            "60sec",
            "99999999999999999999s",
            "9999999999999999999h",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
