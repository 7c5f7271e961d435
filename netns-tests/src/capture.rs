//! A capture with tcpdump, and who is named in it: in every IP header, quoted ones too.

use crate::place::Place;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Child, Stdio};

/// As much of each frame as holds the headers of an ICMP error and of what it quotes.
const BYTES_OF_A_FRAME: usize = 192;
const ETHERNET_LENGTH: usize = 14;

/// tcpdump, as it listens.
#[derive(Debug)]
pub struct Capture<'a> {
    place: &'a Place,
    file: String,
    tcpdump: Child,
}

/// What a capture holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Frames in it.
    pub frames: usize,
    /// Frames that came too fast for tcpdump.
    pub lost: u64,
    /// Every address in an IP header, those in quotes of ICMP errors included.
    pub addresses: BTreeSet<IpAddr>,
    /// Quotes among them.
    pub quotes: usize,
}

impl<'a> Capture<'a> {
    /// Begins to capture what passes at `eth0` of a place, both ways.
    ///
    /// # Panics
    /// When tcpdump does not start.
    #[must_use]
    pub fn start(place: &'a Place) -> Self {
        let file = format!("/run/{}.pcap", place.name());
        let (log, path) = (format!("{file}.log"), format!("{file}.log"));
        let stderr = place.call(move || std::fs::File::create(path).expect("a new file"));
        let bytes = BYTES_OF_A_FRAME.to_string();
        let words = "tcpdump -Z root -i eth0 -n -B 65536 -s";
        let mut words: Vec<&str> = words.split(' ').collect();
        words.extend([&bytes, "-w", &file, "ip or ip6"]);
        let tcpdump = place.spawn_words(&words, Stdio::null(), Stdio::from(stderr));
        crate::eventually("tcpdump listens", || {
            place.read(&log).contains("listening on")
        });
        Self {
            place,
            file,
            tcpdump,
        }
    }

    /// Ends the capture, and reads it.
    ///
    /// # Panics
    /// When it is no capture, or tcpdump does not say what it lost.
    #[must_use]
    pub fn finish(mut self) -> Captured {
        let pid = Pid::from_raw(self.tcpdump.id().try_into().expect("a process id"));
        // What has just passed lies in the kernel for up to a second.
        std::thread::sleep(std::time::Duration::from_millis(1200));
        kill(pid, Signal::SIGINT).expect("our own child can be signalled");
        self.tcpdump.wait().expect("its end can be waited for");
        let log = self.place.read(&format!("{}.log", self.file));
        let lost = log
            .lines()
            .find_map(|line| line.strip_suffix(" packets dropped by kernel"));
        let lost = lost.and_then(|count| count.trim().parse().ok());
        let file = self.file.clone();
        let bytes = self
            .place
            .call(move || std::fs::read(file))
            .expect("tcpdump wrote it");
        let mut captured = Captured {
            frames: 0,
            lost: lost.unwrap_or_else(|| panic!("what was lost is told: {log}")),
            addresses: BTreeSet::new(),
            quotes: 0,
        };
        // [pcap-savefile(5): a header of 24 bytes; before each frame 16, the third word its length]
        let mut rest = bytes.get(24..).expect("a capture");
        while let Some((header, more)) = rest.split_at_checked(16) {
            let length = u32::from_ne_bytes(header[8..12].try_into().expect("four bytes"));
            let Some((frame, more)) = more.split_at_checked(length as usize) else {
                break;
            };
            captured.frames += 1;
            captured.read(frame.get(ETHERNET_LENGTH..).unwrap_or_default(), false);
            rest = more;
        }
        captured
    }
}

impl Captured {
    fn read(&mut self, packet: &[u8], is_quote: bool) {
        let known = match packet.first().map(|byte| byte >> 4) {
            Some(4) if packet.len() >= 20 => self.read_v4(packet),
            Some(6) if packet.len() >= 40 => self.read_v6(packet),
            _ => return,
        };
        self.quotes += usize::from(is_quote);
        if let (Some(error), false) = (known, is_quote) {
            self.read(error.get(8..).unwrap_or_default(), true);
        }
    }

    /// Notes the addresses; gives the ICMP error, if it is one.
    fn read_v4<'p>(&mut self, packet: &'p [u8]) -> Option<&'p [u8]> {
        for at in [12, 16] {
            let octets: [u8; 4] = packet[at..at + 4].try_into().expect("four bytes");
            self.addresses.insert(Ipv4Addr::from(octets).into());
        }
        let payload = packet.get(usize::from(packet[0] & 15) * 4..)?;
        let is_first = packet[6] & 0x1f == 0 && packet[7] == 0;
        let is_error = matches!(payload.first(), Some(3 | 4 | 11 | 12));
        (is_first && packet[9] == 1 && is_error).then_some(payload)
    }

    /// As `read_v4`. Nobody here sends an ICMPv6 error with extension headers.
    fn read_v6<'p>(&mut self, packet: &'p [u8]) -> Option<&'p [u8]> {
        for at in [8, 24] {
            let octets: [u8; 16] = packet[at..at + 16].try_into().expect("sixteen bytes");
            self.addresses.insert(Ipv6Addr::from(octets).into());
        }
        let is_error = matches!(packet.get(40), Some(1..=4));
        (packet[6] == 58 && is_error).then_some(&packet[40..])
    }

    /// The addresses that lie in the pods' networks.
    #[must_use]
    pub fn pod_addresses(&self) -> Vec<IpAddr> {
        let is_pods = |address: &&IpAddr| match address {
            IpAddr::V4(address) => address.octets().starts_with(&[10, 0, 1]),
            IpAddr::V6(address) => address.segments().starts_with(&[0xfd00, 0x10, 1, 0]),
        };
        self.addresses.iter().filter(is_pods).copied().collect()
    }
}
