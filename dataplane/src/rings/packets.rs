//! Packets that leave as a pod's own stack hands them on: whole segments, for the kernel to cut up.

use super::error::RingError;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socket_with};
use std::io;

/// The header before each packet, `struct virtio_net_hdr`: flags, kind, bytes of the headers,
/// bytes of each segment, where the checksum begins and lies.
const HEADER: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const SEGMENTS_OF_TCP_IPV4: u8 = 1;
/// Ethernet, IPv4, TCP.
const HEADERS: u16 = 14 + 20 + 20;
/// Where TCP begins, and its checksum in it.
const TCP: u16 = 14 + 20;
const CHECKSUM: u16 = 16;

/// Sends made packets on one interface, past the stack.
#[derive(Debug)]
pub struct PacketSender {
    socket: OwnedFd,
    bytes: Vec<u8>,
}

impl PacketSender {
    /// A sender on an interface of this network namespace, by its index.
    ///
    /// # Errors
    /// The interface is gone, or CAP_NET_RAW is missing.
    pub fn open(index: u32) -> Result<Self, RingError> {
        let failed =
            |what: &str, error: String| RingError::new("packet socket", format!("{what}: {error}"));
        // Protocol 0: it receives nothing.
        let socket = socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|error| failed("making", error.to_string()))?;
        let on: libc::c_int = 1;
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_IP as u16).to_be(),
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the option is an int, and the kernel only reads it.
        let told = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_VNET_HDR,
                (&raw const on).cast(),
                size_of_val(&on) as u32,
            )
        };
        if told != 0 {
            return Err(failed("headers", io::Error::last_os_error().to_string()));
        }
        // SAFETY: the address is a whole `sockaddr_ll`, and the kernel only reads it.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        if bound != 0 {
            return Err(failed("binding", io::Error::last_os_error().to_string()));
        }
        Ok(Self {
            socket,
            bytes: Vec::new(),
        })
    }

    /// Sends a TCP packet of `length` bytes over IPv4 between addresses that nobody has, in segments
    /// of `segment` bytes where it is longer. False when it found no room.
    ///
    /// # Errors
    /// The interface is gone or down, or takes no such packet.
    pub fn send(&mut self, length: usize, segment: u16) -> Result<bool, RingError> {
        self.write(length, segment);
        match send(&self.socket, &self.bytes, SendFlags::DONTWAIT) {
            Ok(_) => Ok(true),
            Err(Errno::NOBUFS | Errno::AGAIN) => Ok(false),
            Err(error) => Err(RingError::new("packet socket", error.to_string())),
        }
    }

    fn write(&mut self, length: usize, segment: u16) {
        let payload = length.saturating_sub(usize::from(HEADERS));
        let is_long = payload > usize::from(segment);
        self.bytes.clear();
        self.bytes
            .resize(HEADER + length.max(usize::from(HEADERS)), 0);
        let (header, packet) = self.bytes.split_at_mut(HEADER);
        header[0] = NEEDS_CHECKSUM;
        if is_long {
            header[1] = SEGMENTS_OF_TCP_IPV4;
            header[2..4].copy_from_slice(&HEADERS.to_ne_bytes());
            header[4..6].copy_from_slice(&segment.to_ne_bytes());
        }
        header[6..8].copy_from_slice(&TCP.to_ne_bytes());
        header[8..10].copy_from_slice(&CHECKSUM.to_ne_bytes());
        // Locally administered. [RFC 5737: these addresses are nobody's]
        packet[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        let total = (packet.len() - 14) as u16;
        packet[14..34].copy_from_slice(&[
            0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        ]);
        packet[16..18].copy_from_slice(&total.to_be_bytes());
        // Ports, offset of the data, ACK.
        packet[34..38].copy_from_slice(&[0x30, 0, 0, 80]);
        packet[46..48].copy_from_slice(&[0x50, 0x10]);
    }
}
