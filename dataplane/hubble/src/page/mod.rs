//! The page: a live map of who talks with whom, the table of flows, and why each ended as it did.
//!
//! Everything is counted here and never in the browser, which gets what it shows and no more.

mod assets;
mod filter;
mod flows;
mod headers;
mod map;
mod policies;
mod router;
mod row;
mod status;
mod streams;
#[cfg(test)]
mod tests;

pub use router::{PageSources, router};
