//! Notice that some table of the kernel changed: which one does not matter, all are read again.

use super::NetlinkError;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Multicast groups of rtnetlink. [linux/rtnetlink.h, RTNLGRP_*]
const GROUPS: [u32; 6] = [
    1,  // link
    3,  // neighbour
    5,  // IPv4 address
    7,  // IPv4 route
    9,  // IPv6 address
    11, // IPv6 route
];

/// A subscription to changes in the namespace of the thread that opened it.
pub struct Changes {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Changes {
    /// Subscribes.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn subscribe() -> Result<Self, NetlinkError> {
        let fault = |e: std::io::Error| NetlinkError {
            question: "subscribe",
            answer: e.to_string(),
        };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(fault)?;
        socket.bind(&SocketAddr::new(0, 0)).map_err(fault)?;
        for group in GROUPS {
            socket.add_membership(group).map_err(fault)?;
        }
        Ok(Self {
            socket,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Waits for at least one change.
    ///
    /// # Errors
    /// When the socket is gone. Notices that were lost to a full buffer count as a change.
    pub fn wait(&mut self) -> Result<(), NetlinkError> {
        match self.socket.recv(&mut &mut self.buffer[..], 0) {
            Ok(_) => Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(NetlinkError {
                question: "wait",
                answer: e.to_string(),
            }),
        }
    }
}
