//! What filters ask of a flow: of one that was recorded here, or of one that was read from elsewhere.

use super::DropReason;
use super::expression::Origin;
use super::sighting::{FlowVerdict, Party, Sighting};
use super::uuid::Uuid;
use portcullis_policy::{Direction, Protocol};

/// A flow, as far as filters look at it.
pub trait Seen {
    /// What became of it.
    fn verdict(&self) -> FlowVerdict;
    /// Hubble's numbers of its type: type and sub-type.
    fn event_type(&self) -> (i32, i32);
    /// Hubble's name of why it was dropped.
    fn drop_reason(&self) -> Option<&str>;
    /// Its protocol.
    fn protocol(&self) -> Option<Protocol>;
    /// Its TCP flags, as they lie in the header.
    fn tcp_flags(&self) -> u8;
    /// Whether it is a reply, where that is known.
    fn is_reply(&self) -> Option<bool>;
    /// Its direction, where it has one.
    fn direction(&self) -> Option<Direction>;
    /// Its name.
    fn uuid(&self) -> Option<Uuid>;
    /// Number and name of the interface that it was seen at.
    fn interface(&self) -> Option<(u32, &str)>;
    /// Labels of the node that saw it.
    fn node_labels(&self) -> &[String];
    /// Who sent it.
    fn source(&self) -> Party<'_>;
    /// Whom it was for.
    fn destination(&self) -> Party<'_>;
    /// All of it, for expressions.
    fn origin(&self) -> Origin<'_>;
}

impl Seen for Sighting<'_> {
    fn verdict(&self) -> FlowVerdict {
        Sighting::verdict(self)
    }

    fn event_type(&self) -> (i32, i32) {
        Sighting::event_type(self)
    }

    fn drop_reason(&self) -> Option<&str> {
        self.drop().map(|drop| DropReason::of(drop).name)
    }

    fn protocol(&self) -> Option<Protocol> {
        self.event.record.protocol
    }

    fn tcp_flags(&self) -> u8 {
        self.event.record.tcp_flags.0
    }

    fn is_reply(&self) -> Option<bool> {
        Sighting::is_reply(self)
    }

    fn direction(&self) -> Option<Direction> {
        Sighting::direction(self)
    }

    fn uuid(&self) -> Option<Uuid> {
        Some(Sighting::uuid(self))
    }

    fn interface(&self) -> Option<(u32, &str)> {
        self.link().map(|link| (link.index, link.name.as_str()))
    }

    fn node_labels(&self) -> &[String] {
        &self.event.names.node_labels
    }

    fn source(&self) -> Party<'_> {
        self.source
    }

    fn destination(&self) -> Party<'_> {
        self.destination
    }

    fn origin(&self) -> Origin<'_> {
        Origin::Event(self)
    }
}
