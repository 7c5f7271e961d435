//! A question to the daemon that has one answer.

use crate::ipc::{self, Answer, Request};
use std::path::Path;

/// When the daemon answers another question than the one that was asked.
pub const UNEXPECTED: &str = "the daemon answered something else; is it of another version?";

/// Asks, and gives the answer.
pub fn one(socket: &Path, request: &Request) -> Result<Answer, String> {
    let mut answers = ipc::ask(socket, request)?;
    match answers.next() {
        Some(Ok(Answer::Error(fault)) | Err(fault)) => Err(fault),
        Some(Ok(answer)) => Ok(answer),
        None => Err("the daemon gave no answer".into()),
    }
}
