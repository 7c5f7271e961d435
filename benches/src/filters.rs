//! Rules of the kernel's own filters: with connection tracking, and seen by every packet.
//!
//! The rule that accepts is the last, also for established connections, so that a packet meets as
//! many rules as the name says. With `established` accepted first only a connection's first packet
//! would.

use netns_tests::Place;
use std::fmt::Write;

const ACCEPT: &str = "ip saddr 10.0.1.0/24 ip daddr 10.0.1.0/24 ct state new,established accept";

/// A ruleset of nftables in which every packet meets `count` rules.
#[must_use]
pub fn nft_rules(count: usize) -> String {
    let mut rules = String::from("ct state invalid drop\n");
    for number in 2..count {
        let (source, port) = stranger(number);
        let _ = writeln!(rules, "ip saddr {source} tcp dport {port} accept");
    }
    table("", &format!("{rules}{ACCEPT}\n"))
}

/// A ruleset of nftables with one set of `count` elements.
#[must_use]
pub fn nft_set(count: usize) -> String {
    let mut elements: Vec<String> = crate::policies::PORTS
        .iter()
        .map(|(protocol, port)| {
            format!(
                "10.0.1.10 . 10.0.1.20 . {} . {port}",
                protocol.to_lowercase()
            )
        })
        .collect();
    for number in elements.len()..count {
        let (source, port) = stranger(number);
        elements.push(format!("{source} . 10.0.1.20 . tcp . {port}"));
    }
    let set = format!(
        "set allowed {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; elements = {{ {} }} }}\n",
        elements.join(", ")
    );
    table(
        &set,
        "ct state invalid drop\nip saddr . ip daddr . meta l4proto . th dport @allowed accept\n\
         ct state established accept\n",
    )
}

/// Rules of iptables, every packet meets `count` of them.
#[must_use]
pub fn iptables_rules(count: usize) -> String {
    let mut rules = String::from(
        "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\n",
    );
    for number in 2..count {
        let (source, port) = stranger(number);
        let _ = writeln!(
            rules,
            "-A FORWARD -s {source} -p tcp -m tcp --dport {port} -j ACCEPT"
        );
    }
    rules.push_str(
        "-A FORWARD -s 10.0.1.0/24 -d 10.0.1.0/24 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT\n\
         COMMIT\n",
    );
    rules
}

/// Somebody who is not there.
fn stranger(number: usize) -> (String, usize) {
    (
        format!("172.16.{}.{}", number / 256, number % 256),
        1024 + number,
    )
}

fn table(set: &str, rules: &str) -> String {
    format!(
        "table ip bench {{\n{set}chain forward {{\ntype filter hook forward priority 0; policy \
         drop;\n{rules}}}\n}}\n"
    )
}

/// Puts a ruleset of nftables into force.
///
/// # Errors
/// nft refuses it.
pub fn nft(node: &Place, rules: &str) -> Result<(), String> {
    node.write("/run/rules", rules);
    ran(node, "nft -f /run/rules")
}

/// Puts rules of iptables-legacy into force.
///
/// # Errors
/// iptables refuses them.
pub fn iptables(node: &Place, rules: &str) -> Result<(), String> {
    node.write("/run/rules", rules);
    ran(node, "iptables-legacy-restore /run/rules")
}

fn ran(node: &Place, line: &str) -> Result<(), String> {
    let ran = node.run(line);
    if ran.is_success {
        Ok(())
    } else {
        Err(format!("{line}: {}", ran.stderr.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_meets_as_many_rules_as_the_name_says() {
        let verdicts = |rules: &str| {
            let is_rule = |line: &&str| line.ends_with("accept") || line.ends_with(" drop");
            rules.lines().filter(is_rule).count()
        };
        assert_eq!(
            [10, 1000].map(|count| verdicts(&nft_rules(count))),
            [10, 1000]
        );
        assert_eq!(nft_rules(10).lines().rev().nth(2), Some(ACCEPT));
        let appended = iptables_rules(1000).matches("-A FORWARD").count();
        assert_eq!(appended, 1000);
        assert_eq!(
            nft_set(1000).matches(" . tcp . ").count() + nft_set(1000).matches(" . udp . ").count(),
            1000
        );
    }
}
