//! What history is asked: which flows there were, why, between whom most.

mod answer;
mod ask;
mod ranking;
mod search;
mod seen_flow;

pub use answer::{observe, rank, replay, suggest, why};
pub use ask::{Ask, Chooser, Form, Wanted};
pub use ranking::{Grouping, Ranked, Ranking};
pub use search::Which;
pub use seen_flow::{
    Explained, ReadFlow, SeenEthernet, SeenFlow, SeenInterface, SeenService, SeenTotals,
};
