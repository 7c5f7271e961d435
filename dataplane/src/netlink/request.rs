//! Questions to rtnetlink, answered at once.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, neighbour::NeighbourState};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::fmt;
use std::net::IpAddr;

use super::table::{Link, LinkAddress, LinkNeighbour, LinkRoute};

/// Bytes of one answer that are read at once; a dump comes in pieces of at most 32 KiB.
const ANSWER_BYTES: usize = 64 * 1024;

/// A question that the kernel did not answer.
#[derive(Debug)]
pub struct NetlinkError {
    /// What was asked.
    pub question: &'static str,
    /// What came back.
    pub answer: String,
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rtnetlink, {}: {}", self.question, self.answer)
    }
}

impl std::error::Error for NetlinkError {}

/// A connection to rtnetlink in the network namespace of the thread that opened it.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Connects.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let fault = |e: std::io::Error| NetlinkError {
            question: "open",
            answer: e.to_string(),
        };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(fault)?;
        socket.bind_auto().map_err(fault)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(fault)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Every link of the namespace.
    ///
    /// # Errors
    /// When the kernel refuses or its answer cannot be read.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let ask = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.ask("links", ask, NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(Link::read).collect())
    }

    /// Every address of the namespace.
    ///
    /// # Errors
    /// As `links`.
    pub fn addresses(&mut self) -> Result<Vec<LinkAddress>, NetlinkError> {
        let ask = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.ask("addresses", ask, NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(LinkAddress::read).collect())
    }

    /// Every unicast route of the main table, both families.
    ///
    /// # Errors
    /// As `links`.
    pub fn routes(&mut self) -> Result<Vec<LinkRoute>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let answers = self.ask("routes", RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
            routes.extend(answers.into_iter().filter_map(LinkRoute::read));
        }
        Ok(routes)
    }

    /// Every neighbour whose MAC address is known, on all links.
    ///
    /// # Errors
    /// As `links`.
    pub fn neighbours(&mut self) -> Result<Vec<LinkNeighbour>, NetlinkError> {
        let ask = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let answers = self.ask("neighbours", ask, NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(LinkNeighbour::read)
            .collect())
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// When there is no such link, or the privilege is missing.
    pub fn set_up(&mut self, link: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = link;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.ask(
            "set link up",
            RouteNetlinkMessage::SetLink(message),
            NLM_F_ACK,
        )
        .map(drop)
    }

    /// Has the kernel find out the MAC address of a neighbour, as if it had a packet for it.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn resolve(&mut self, link: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = link;
        message.header.flags = NeighbourFlags::Use;
        message.header.state = NeighbourState::None;
        let destination = match address {
            IpAddr::V4(address) => {
                message.header.family = AddressFamily::Inet;
                NeighbourAddress::Inet(address)
            }
            IpAddr::V6(address) => {
                message.header.family = AddressFamily::Inet6;
                NeighbourAddress::Inet6(address)
            }
        };
        message
            .attributes
            .push(NeighbourAttribute::Destination(destination));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.ask(
            "resolve neighbour",
            RouteNetlinkMessage::NewNeighbour(message),
            flags,
        )
        .map(drop)
    }

    /// Sends one question and gathers its answers, to the end of the dump or to the
    /// acknowledgement.
    fn ask(
        &mut self,
        question: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let fault = |answer: String| NetlinkError { question, answer };
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket
            .send(&bytes, 0)
            .map_err(|e| fault(e.to_string()))?;

        let mut answers = Vec::new();
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            let length = self
                .socket
                .recv(&mut &mut buffer[..], 0)
                .map_err(|e| fault(e.to_string()))?;
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|e| fault(e.to_string()))?;
                let step = (answer.header.length as usize).next_multiple_of(4);
                rest = rest.get(step.max(4)..).unwrap_or_default();
                // An answer to an earlier question that was given up.
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) => match error.code {
                        None => return Ok(answers),
                        Some(_) => return Err(fault(error.to_io().to_string())),
                    },
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    _ => {}
                }
            }
        }
    }
}
