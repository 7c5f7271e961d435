//! Messages while an expression runs: read field by field from the bytes that clients get.

use super::run::{Halt, Meter};
use super::types::{Field, Type};
use super::value::{Text, Value};
use jiff::Timestamp;
use prost::encoding::{WireType, decode_key, decode_varint};
use std::iter;
use std::str;
use std::sync::Arc;

/// A message. Without bytes it has no field that is set, as one that is not set itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// The name of its type.
    pub name: &'a str,
    /// As our own encoder writes it: what is the same has the same bytes.
    pub bytes: &'a [u8],
}

/// A value of a field.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Fields that are passed over in one step.
const FIELDS_PER_STEP: usize = 8;

impl<'a> Message<'a> {
    /// What a field holds: its default when it is not set.
    pub fn field(self, field: &'a Field, meter: &mut Meter) -> Result<Value<'a>, Halt> {
        let Type::List(item) = &field.kind else {
            let found = self.find(field.number, meter)?;
            return Ok(read(&field.kind, found));
        };
        let mut items = Vec::new();
        for (number, wire) in fields(self.bytes) {
            meter.spend(1)?;
            if number == field.number {
                items.push(read(item, Some(wire)));
            }
        }
        Ok(Value::List(Arc::new(items)))
    }

    /// Whether a field is set. What has its default is not written, unless it can be absent.
    pub fn has(self, field: &Field, meter: &mut Meter) -> Result<bool, Halt> {
        Ok(self.find(field.number, meter)?.is_some())
    }

    fn find(self, number: u32, meter: &mut Meter) -> Result<Option<Wire<'a>>, Halt> {
        let mut fields_seen = 0;
        let mut found = None;
        for (one, wire) in fields(self.bytes) {
            fields_seen += 1;
            if one == number {
                found = Some(wire);
                break;
            }
        }
        meter.spend(fields_seen / FIELDS_PER_STEP)?;
        Ok(found)
    }
}

/// Fields in the order in which they are written.
fn fields<'a>(mut rest: &'a [u8]) -> impl Iterator<Item = (u32, Wire<'a>)> + use<'a> {
    iter::from_fn(move || next(&mut rest))
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<(u32, Wire<'a>)> {
    let (number, kind) = decode_key(rest).ok()?;
    let wire = match kind {
        WireType::Varint => Wire::Number(decode_varint(rest).ok()?),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
            let (bytes, after) = rest.split_at_checked(length)?;
            *rest = after;
            Wire::Bytes(bytes)
        }
        // No field of a flow is of these.
        _ => return None,
    };
    Some((number, wire))
}

fn read<'a>(kind: &'a Type, wire: Option<Wire<'a>>) -> Value<'a> {
    let number = match wire {
        Some(Wire::Number(number)) => number,
        _ => 0,
    };
    let bytes = match wire {
        Some(Wire::Bytes(bytes)) => bytes,
        _ => &[],
    };
    match kind {
        Type::Bool => Value::Bool(number != 0),
        Type::Int => Value::Int(number.cast_signed()),
        Type::Uint => Value::Uint(number),
        Type::Text => Value::Text(Text::Lent(str::from_utf8(bytes).unwrap_or_default())),
        Type::Time => Value::Time(time(bytes)),
        Type::OrNull(_) if wire.is_none() => Value::Null,
        Type::OrNull(inner) => read(inner, fields(bytes).next().map(|(_, wire)| wire)),
        Type::Message(message) => Value::Message(Message {
            name: message.full_name(),
            bytes,
        }),
        Type::Any | Type::Null | Type::Double | Type::Duration | Type::List(_) => {
            debug_assert!(false, "no field is of type {kind}");
            Value::Null
        }
    }
}

/// Seconds and nanoseconds since 1970. What is no time is then.
fn time(bytes: &[u8]) -> Timestamp {
    let part = |number: u32| {
        let found = fields(bytes).find(|(found, _)| *found == number);
        match found {
            Some((_, Wire::Number(part))) => part.cast_signed(),
            _ => 0,
        }
    };
    let nanos = i32::try_from(part(2)).unwrap_or_default();
    Timestamp::new(part(1), nanos).unwrap_or_default()
}
