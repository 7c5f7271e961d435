//! A flow from JSON in Hubble's form. What we do not know is passed over: it may be a newer Hubble's.

use super::types::is_wrapper;
use jiff::Timestamp;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value as Reflected};
use serde_json::Value;

/// Messages in one another: ours have fewer.
const DEPTH_MAX: usize = 16;

/// Reads a message.
pub(super) fn message(descriptor: &MessageDescriptor, json: &Value) -> DynamicMessage {
    nested(descriptor, json, DEPTH_MAX)
}

fn nested(descriptor: &MessageDescriptor, json: &Value, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    let Some(object) = json.as_object().filter(|_| depth > 0) else {
        return message;
    };
    for (name, json) in object {
        let by_name = descriptor.get_field_by_name(name);
        let Some(field) = by_name.or_else(|| descriptor.get_field_by_json_name(name)) else {
            continue;
        };
        let value = match json {
            Value::Array(items) if field.is_list() => {
                let items = items.iter().filter_map(|item| value(&field, item, depth));
                Some(Reflected::List(items.collect()))
            }
            _ if field.is_list() || field.is_map() => None,
            json => value(&field, json, depth),
        };
        // What does not fit into the field is as unknown as a field would be.
        if let Some(value) = value {
            let _ = message.try_set_field(&field, value);
        }
    }
    message
}

#[allow(clippy::cast_possible_truncation)] // A float is what the message holds.
fn value(field: &FieldDescriptor, json: &Value, depth: usize) -> Option<Reflected> {
    Some(match field.kind() {
        Kind::Bool => Reflected::Bool(json.as_bool()?),
        Kind::String => Reflected::String(json.as_str()?.to_owned()),
        Kind::Float => Reflected::F32(json.as_f64()? as f32),
        Kind::Double => Reflected::F64(json.as_f64()?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            Reflected::I32(i32::try_from(signed(json)?).ok()?)
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Reflected::I64(signed(json)?),
        Kind::Uint32 | Kind::Fixed32 => Reflected::U32(u32::try_from(unsigned(json)?).ok()?),
        Kind::Uint64 | Kind::Fixed64 => Reflected::U64(unsigned(json)?),
        Kind::Bytes => return None,
        Kind::Enum(known) => Reflected::EnumNumber(match json.as_str() {
            Some(name) => known.get_value_by_name(name)?.number(),
            None => i32::try_from(json.as_i64()?).ok()?,
        }),
        Kind::Message(descriptor) => match descriptor.full_name() {
            "google.protobuf.Timestamp" => {
                let time: Timestamp = json.as_str()?.parse().ok()?;
                let time = crate::flow::timestamp(time);
                let mut message = DynamicMessage::new(descriptor);
                message.transcode_from(&time).ok()?;
                Reflected::Message(message)
            }
            name if is_wrapper(name) => {
                let inner = descriptor.get_field_by_name("value")?;
                let mut message = DynamicMessage::new(descriptor);
                let value = value(&inner, json, depth - 1)?;
                message.try_set_field(&inner, value).ok()?;
                Reflected::Message(message)
            }
            _ if json.is_object() => Reflected::Message(nested(&descriptor, json, depth - 1)),
            _ => return None,
        },
    })
}

/// Protobuf writes numbers of 64 bits as text.
fn signed(json: &Value) -> Option<i64> {
    let written = || json.as_str()?.parse().ok();
    json.as_i64().or_else(written)
}

fn unsigned(json: &Value) -> Option<u64> {
    let written = || json.as_str()?.parse().ok();
    json.as_u64().or_else(written)
}
