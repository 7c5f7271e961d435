//! A packet in the words that Hubble's users know: `TCP Flags: SYN, ACK`.

use crate::icmp;
use crate::wire::flow::TcpFlags as WireFlags;
use portcullis_engine::{Ending, Record, RecordKind, TcpFlags};
use portcullis_policy::Protocol;
use std::fmt::Write;

/// Bits of the second half of the flags. [RFC 9293 §3.1, RFC 3168 §6.1]
const URG: u8 = 0x20;
const ECE: u8 = 0x40;

/// The words of a record.
pub(crate) fn of(record: &Record) -> String {
    let mut words = match record.protocol {
        Some(Protocol::Tcp) if record.tcp_flags.0 == 0 => "TCP".into(),
        Some(Protocol::Tcp) => format!("TCP Flags: {}", flag_names(record.tcp_flags)),
        Some(Protocol::Udp) => "UDP".into(),
        Some(Protocol::Sctp) => "SCTP".into(),
        Some(Protocol::Icmp) => icmp("ICMPv4 ", record),
        Some(Protocol::Icmpv6) => icmp("ICMPv6 ", record),
        Some(Protocol::Other(2)) => "IGMP".into(),
        Some(Protocol::Other(112)) => "VRRP".into(),
        Some(Protocol::Other(number)) => format!("protocol {number}"),
        None => match record.addresses {
            Some((source, _)) if source.is_ipv4() => "IPv4".into(),
            Some(_) => "IPv6".into(),
            None => "Ethernet".into(),
        },
    };
    if let Some(ending) = ending(record.kind) {
        words.push_str(ending);
        let totals = &record.totals;
        let _ = write!(
            words,
            "; {} packets, {} bytes out; {} packets, {} bytes back",
            totals.packets[0], totals.bytes[0], totals.packets[1], totals.bytes[1]
        );
        if totals.round_trip_us > 0 {
            let _ = write!(words, "; handshake {} us", totals.round_trip_us);
        }
    }
    words
}

const fn ending(kind: RecordKind) -> Option<&'static str> {
    Some(match kind {
        RecordKind::Update => " goes on",
        RecordKind::End(Ending::Finished) => " ended: closed by both",
        RecordKind::End(Ending::Reset) => " ended: reset",
        RecordKind::End(Ending::Idle) => " ended: idle",
        RecordKind::End(Ending::Unanswered) => " ended: never answered",
        RecordKind::End(Ending::Evicted) => " ended: its place was needed",
        RecordKind::End(Ending::Replaced) => " ended: replaced",
        RecordKind::Flow | RecordKind::Drop(_) | RecordKind::Revoked(_) => return None,
    })
}

fn icmp(layer: &str, record: &Record) -> String {
    let mut words = layer.to_owned();
    // Types have eight bits.
    let kind = u8::try_from(record.ports.1).unwrap_or(u8::MAX);
    icmp::write_name(&mut words, record.protocol, kind, record.icmp_code);
    words
}

/// In the order that Hubble prints them.
fn flag_names(flags: TcpFlags) -> String {
    let all = [
        (TcpFlags::SYN, "SYN"),
        (TcpFlags::ACK, "ACK"),
        (TcpFlags::RST, "RST"),
        (TcpFlags::FIN, "FIN"),
        (TcpFlags::PSH, "PSH"),
        (URG, "URG"),
        (ECE, "ECE"),
        (TcpFlags::CWR, "CWR"),
    ];
    let set = all.iter().filter(|(flag, _)| flags.has(*flag));
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

/// The flags of a segment.
pub(crate) const fn flags(flags: TcpFlags) -> WireFlags {
    WireFlags {
        fin: flags.has(TcpFlags::FIN),
        syn: flags.has(TcpFlags::SYN),
        rst: flags.has(TcpFlags::RST),
        psh: flags.has(TcpFlags::PSH),
        ack: flags.has(TcpFlags::ACK),
        urg: flags.has(URG),
        ece: flags.has(ECE),
        cwr: flags.has(TcpFlags::CWR),
        ns: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_engine::Totals;

    #[test]
    fn words_are_those_that_hubble_prints() {
        let tcp = Record {
            protocol: Some(Protocol::Tcp),
            tcp_flags: TcpFlags(TcpFlags::ACK | TcpFlags::SYN | TcpFlags::CWR | ECE),
            ..Record::BLANK
        };
        assert_eq!(of(&tcp), "TCP Flags: SYN, ACK, ECE, CWR");
        let echo = |protocol, kind| Record {
            protocol: Some(protocol),
            ports: (0, kind),
            ..Record::BLANK
        };
        assert_eq!(of(&echo(Protocol::Icmp, 8)), "ICMPv4 EchoRequest");
        assert_eq!(
            of(&echo(Protocol::Icmpv6, 135)),
            "ICMPv6 NeighborSolicitation"
        );
        assert_eq!(of(&echo(Protocol::Udp, 53)), "UDP");
        assert_eq!(of(&Record::BLANK), "Ethernet");
        let end = Record {
            kind: RecordKind::End(Ending::Finished),
            protocol: Some(Protocol::Tcp),
            totals: Totals {
                packets: [6, 4],
                bytes: [500, 900],
                round_trip_us: 80,
                ..Totals::default()
            },
            ..Record::BLANK
        };
        assert_eq!(
            of(&end),
            "TCP ended: closed by both; 6 packets, 500 bytes out; 4 packets, 900 bytes back; \
             handshake 80 us"
        );
    }
}
