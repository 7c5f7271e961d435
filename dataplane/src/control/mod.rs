//! The control path: a policy walks `next → parse_document → rules → assign_identities → compile →
//! publish → adopt → acknowledge`.

mod attach;
pub mod directory;
mod documents;
mod endpoints;
pub mod exits;
mod heat;
pub mod host_pair;
mod moving;
pub mod publish;
mod reconcile;
mod services;
pub mod source;

pub use documents::{Documents, settings_of};
pub use endpoints::{SLOTS_MAX, Slot, SlotKey, Slots, Wanted};
pub use heat::Heat;
pub use moving::MoveRequest;
pub use reconcile::{Control, Notice};
pub use services::Services;
