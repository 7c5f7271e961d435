//! `cel_expression` of Hubble's filters: conditions on a flow in the Common Expression Language.
//!
//! A small reader of our own: it knows the types of our messages, so that what can never hold is
//! refused as Hubble refuses it, and it counts what each flow costs, so that no client can keep a
//! server busy. Not there: maps, bytes, `Any`, messages that an expression makes, `type()`, patterns of
//! `matches` that are not written out, time zones. Numbers of different types are compared as numbers,
//! which Hubble refuses. Times end where those of `jiff` do, a day before the year 9999 ends.
//!
//! [github.com/google/cel-spec, doc/langdef.md; cilium, pkg/hubble/filters/cel_expression.go]

mod check;
mod duration;
mod functions;
mod message;
mod parse;
mod program;
mod read_json;
mod run;
mod token;
mod tree;
mod types;
mod value;

#[cfg(test)]
mod tests;

use crate::flow::Teller;
use crate::sources::NodeName;
use crate::wire::DESCRIPTORS;
use jiff::Timestamp;
use message::Message;
use portcullis_observe::{Expression, Home, Origin};
use program::Step;
use prost::Message as _;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use run::{Halt, Meter, State};
use std::sync::{LazyLock, Mutex, PoisonError};
use value::Value;

/// Bytes of one expression, as in Hubble.
const BYTES_MAX: usize = 4096;
/// Bytes of one that an error shows: it travels in a header.
const SHOWN_BYTES_MAX: usize = 256;
/// Brackets and conditions in one another: as deep as reading goes down. [langdef.md asks for 32]
const NESTING_MAX: usize = 32;
/// Operators in one another: as deep as running goes down.
const DEPTH_MAX: usize = 64;
/// Regular expressions of one expression: each keeps memory to work in.
const REGEXES_MAX: usize = 4;
/// Steps that the expressions of one filter may take on one flow.
const STEPS_MAX: usize = 4096;

/// What the build made, so it can be read.
static FLOW: LazyLock<Option<MessageDescriptor>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(DESCRIPTORS).ok()?;
    pool.get_message_by_name("flow.Flow")
});

/// Why an expression was refused, and the byte where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    place: usize,
    text: String,
}

/// The expressions of one filter, one of which must hold.
#[derive(Debug)]
struct Expressions {
    programs: Vec<Step>,
    flow: MessageDescriptor,
    /// Expressions are about what clients are told.
    teller: Mutex<Teller>,
}

/// Reads the expressions of a filter.
///
/// # Errors
/// The place in the list, what was expected, what was found, and where in which expression.
pub fn read_expressions(texts: &[String], home: &Home) -> Result<Box<dyn Expression>, String> {
    Ok(Box::new(Expressions::read(texts, home)?))
}

impl Fault {
    fn at(place: usize, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { place, text }
    }
}

impl Expressions {
    fn read(texts: &[String], home: &Home) -> Result<Self, String> {
        let flow = FLOW.as_ref().ok_or(": there is no message flow.Flow")?;
        let programs = texts.iter().enumerate().map(|(place, text)| {
            program(text, flow).map_err(|fault| format!("[{place}]: {fault}"))
        });
        Ok(Self {
            programs: programs.collect::<Result<_, _>>()?,
            flow: flow.clone(),
            teller: Mutex::new(Teller::new(&NodeName {
                name: home.node.clone(),
                cluster: home.cluster.clone(),
                started: Timestamp::UNIX_EPOCH,
            })),
        })
    }

    /// The flow as clients get it.
    fn told(&self, origin: &Origin<'_>) -> Vec<u8> {
        match origin {
            Origin::Event(sighting) => {
                let teller = self.teller.lock();
                // What it keeps are explanations: each of them is whole.
                let mut teller = teller.unwrap_or_else(PoisonError::into_inner);
                teller.flow(sighting).encode_to_vec()
            }
            Origin::Json(flow) => read_json::message(&self.flow, flow).encode_to_vec(),
        }
    }

    /// As in Hubble, an expression without a value ends it.
    fn is_true(&self, flow: &[u8], meter: &mut Meter) -> Result<bool, Halt> {
        let flow = Message {
            name: self.flow.full_name(),
            bytes: flow,
        };
        for program in &self.programs {
            let mut state = State {
                flow,
                locals: Vec::new(),
                meter: &mut *meter,
            };
            if let Value::Bool(true) = program.run(&mut state)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Expression for Expressions {
    fn holds(&self, origin: &Origin<'_>) -> bool {
        let flow = self.told(origin);
        self.is_true(&flow, &mut Meter::new(STEPS_MAX)) == Ok(true)
    }
}

fn program(text: &str, flow: &MessageDescriptor) -> Result<Step, String> {
    if text.len() > BYTES_MAX {
        let found = text.len();
        return Err(format!("expected at most {BYTES_MAX} bytes, found {found}"));
    }
    let read = parse::read(text).and_then(|whole| check::condition(&whole, flow));
    read.map_err(|fault| {
        let before = text.get(..fault.place).unwrap_or(text);
        let column = before.chars().count() + 1;
        let found = fault.text;
        if text.len() > SHOWN_BYTES_MAX {
            return format!("{found}, at character {column}");
        }
        format!("{found}, at character {column} of \"{text}\"")
    })
}
