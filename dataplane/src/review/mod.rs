//! What policy would say, asked without a packet: why, who may talk to whom, what a change changes.

mod allowed;
mod check;
mod difference;
mod end;
mod explain;
mod matrix;
mod reading;
mod recorded;
mod replay;
mod suggest;
mod traffic;
mod unused;

pub use allowed::{Allowed, PortSpan};
pub use check::{Advice, Check, Fault, check};
pub use difference::{Change, Difference, compare};
pub use end::{End, EndView};
pub use explain::{Explanation, Nearest, Question, Side, explain};
pub use matrix::{Matrix, Pair, matrix};
pub use reading::Reading;
pub use recorded::{Outcome, RecordBook, RecordedConnection, RecordedEnd};
pub use replay::{Candidate, Replay, ReplayChange, replay};
pub use suggest::{KnownPod, PolicyKind, SuggestedPolicy, Suggestion, Wish, suggest};
pub use traffic::Traffic;
pub use unused::{Unused, unused};
