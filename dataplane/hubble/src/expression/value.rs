//! Values while an expression runs: borrowed from the flow and the expression where they can be.

use super::message::Message;
use super::run::{Halt, Meter};
use jiff::Timestamp;
use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;

/// A value. To copy one costs no more than a step, whatever it holds.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    Time(Timestamp),
    /// Nanoseconds, as in Go.
    Duration(i64),
    List(Arc<Vec<Value<'a>>>),
    Message(Message<'a>),
}

/// Its first moment.
const YEAR_1: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// A text.
#[derive(Debug, Clone)]
pub(super) enum Text<'a> {
    Lent(&'a str),
    Made(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Lent(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl Value<'_> {
    /// A text that was made.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(Text::Made(text.into()))
    }

    /// A time, from the year 1 on.
    pub fn time(time: Result<Timestamp, jiff::Error>) -> Option<Self> {
        let time = time.ok().filter(|time| *time >= YEAR_1)?;
        Some(Self::Time(time))
    }

    /// Whether they are the same. Numbers are compared as numbers, whatever their types.
    pub fn equals(&self, other: &Self, meter: &mut Meter) -> Result<bool, Halt> {
        meter.spend(1)?;
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(one), Self::List(two)) => {
                if one.len() != two.len() {
                    return Ok(false);
                }
                for (one, two) in one.iter().zip(two.iter()) {
                    if !one.equals(two, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Message(one), Self::Message(two)) => {
                meter.spend_text(one.bytes.len().min(two.bytes.len()))?;
                one == two
            }
            _ => self.compare(other, meter)? == Some(Ordering::Equal),
        })
    }

    /// Their order, where they have one.
    pub fn compare(&self, other: &Self, meter: &mut Meter) -> Result<Option<Ordering>, Halt> {
        Ok(match (self, other) {
            (Self::Bool(one), Self::Bool(two)) => Some(one.cmp(two)),
            (Self::Text(one), Self::Text(two)) => {
                meter.spend_text(one.len().min(two.len()))?;
                Some(one.cmp(two))
            }
            (Self::Time(one), Self::Time(two)) => Some(one.cmp(two)),
            (Self::Duration(one), Self::Duration(two)) => Some(one.cmp(two)),
            _ => match (self.whole(), other.whole()) {
                (Some(one), Some(two)) => Some(one.cmp(&two)),
                _ => match (self.double(), other.double()) {
                    (Some(one), Some(two)) => one.partial_cmp(&two),
                    _ => None,
                },
            },
        })
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some((*value).into()),
            Self::Uint(value) => Some((*value).into()),
            _ => None,
        }
    }

    #[allow(clippy::cast_precision_loss)] // Such is a comparison with a double.
    pub fn double(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Uint(value) => Some(*value as f64),
            Self::Double(value) => Some(*value),
            _ => None,
        }
    }
}
