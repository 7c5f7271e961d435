//! Loads the kernel program, attaches it to interfaces and fills its maps.
//!
//! # Order, so that nothing ever passes unchecked
//!
//! 1. [`Redirect::load`]: the program is in the kernel, attached to nothing, its maps empty.
//! 2. [`Redirect::add_prefix`], [`Redirect::set_frontends`] and [`Redirect::set_egress`] for all
//!    that is ours, before an uplink is attached: an uplink leaves to the host what it does not
//!    know as ours, and the host would reset connections that it knows nothing of.
//! 3. [`Redirect::attach`] for each interface: notes it in the program's map first, then attaches.
//!    From then on its frames are dropped, for want of a socket.
//! 4. [`Redirect::set_socket`]: frames come to us.
//!
//! When the daemon ends, however it ends, its sockets are gone and step 3 holds again: attachments
//! are kept by files in a BPF file system. The next daemon takes each over by replacing its
//! program in one step; nothing is ever detached on the way, because a pod could otherwise send
//! past us, or change its queues so that no program can be attached again.

mod error;
mod maps;
mod mode;
mod pin;
mod redirect;

pub use error::XdpError;
pub use maps::RedirectCounters;
pub use mode::XdpMode;
pub use pin::{Pin, ensure_bpffs};
pub use redirect::{Attachment, Redirect};
pub use xdp_redirect::{
    EGRESS_MAX, FRONTENDS_MAX, Frontend, InterfaceKind, PortRange, SLOTS_MAX, Transport,
};
