//! What the kernel knows of links, addresses, routes and neighbours, over rtnetlink.

mod changes;
mod request;
mod table;

pub use changes::Changes;
pub use request::{Netlink, NetlinkError};
pub use table::{Link, LinkAddress, LinkNeighbour, LinkRoute};
