//! Any message of ours as JSON in Hubble's form: fields by their names in the .proto files, enums by
//! name, large numbers as text, nothing that has its default.
//!
//! [protobuf.dev/programming-guides/json, with proto field names]

use crate::wire::DESCRIPTORS;
use prost::Message;
use prost::encoding::decode_varint;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::value::Kind;
use prost_types::{
    Any, DescriptorProto, EnumDescriptorProto, FileDescriptorSet, Struct, Timestamp,
};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

/// The type of the messages that our flows are extended by.
pub(crate) const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";

/// What our messages look like.
#[derive(Debug)]
pub(crate) struct Schema {
    messages: HashMap<String, BTreeMap<u32, Field>>,
    enums: HashMap<String, HashMap<i32, String>>,
}

#[derive(Debug)]
struct Field {
    name: String,
    kind: Type,
    /// The message or enum.
    of: String,
    is_list: bool,
}

/// A value as it stands on the wire.
#[derive(Debug, Clone, Copy)]
enum Raw<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Schema {
    /// Reads the descriptors that the build made.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read() -> Result<Self, String> {
        let files = FileDescriptorSet::decode(DESCRIPTORS).map_err(|e| e.to_string())?;
        let mut schema = Self {
            messages: HashMap::new(),
            enums: HashMap::new(),
        };
        for file in &files.file {
            let package = format!(".{}", file.package());
            for message in &file.message_type {
                schema.add_message(&package, message);
            }
            for enumeration in &file.enum_type {
                schema.add_enum(&package, enumeration);
            }
        }
        Ok(schema)
    }

    fn add_message(&mut self, place: &str, message: &DescriptorProto) {
        let name = format!("{place}.{}", message.name());
        for nested in &message.nested_type {
            self.add_message(&name, nested);
        }
        for enumeration in &message.enum_type {
            self.add_enum(&name, enumeration);
        }
        let fields = message.field.iter().map(|field| {
            let described = Field {
                name: field.name().to_owned(),
                kind: field.r#type(),
                of: field.type_name().to_owned(),
                is_list: field.label() == Label::Repeated,
            };
            (field.number().unsigned_abs(), described)
        });
        self.messages.insert(name, fields.collect());
    }

    fn add_enum(&mut self, place: &str, enumeration: &EnumDescriptorProto) {
        let values = enumeration.value.iter();
        let values = values.map(|value| (value.number(), value.name().to_owned()));
        let name = format!("{place}.{}", enumeration.name());
        self.enums.insert(name, values.collect());
    }

    /// Writes a message. None when it is none of ours, or not well formed.
    pub fn write(&self, name: &str, message: &[u8], json: &mut String) -> Option<()> {
        let fields = self.messages.get(name)?;
        let mut values: BTreeMap<u32, Vec<Raw<'_>>> = BTreeMap::new();
        let mut rest = message;
        while !rest.is_empty() {
            let key = decode_varint(&mut rest).ok()?;
            let value = match key & 7 {
                0 => Raw::Number(decode_varint(&mut rest).ok()?),
                1 => Raw::Number(u64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?)),
                2 => {
                    let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                    Raw::Bytes(take(&mut rest, length)?)
                }
                5 => {
                    let bytes = take(&mut rest, 4)?.try_into().ok()?;
                    Raw::Number(u32::from_le_bytes(bytes).into())
                }
                _ => return None,
            };
            values
                .entry(u32::try_from(key >> 3).ok()?)
                .or_default()
                .push(value);
        }
        json.push('{');
        let mut is_first = true;
        for (number, field) in fields {
            let Some(values) = values.get(number).filter(|values| {
                field.of != ".google.protobuf.Any" || values.last().is_some_and(is_known)
            }) else {
                continue;
            };
            if !is_first {
                json.push(',');
            }
            is_first = false;
            let _ = write!(json, "\"{}\":", field.name);
            self.write_values(field, values, json)?;
        }
        json.push('}');
        Some(())
    }

    fn write_values(&self, field: &Field, values: &[Raw<'_>], json: &mut String) -> Option<()> {
        if !field.is_list {
            // Of one that is there several times the last counts.
            return self.write_value(field, *values.last()?, json);
        }
        let mut unpacked = Vec::new();
        for value in values {
            match *value {
                Raw::Bytes(mut packed) if !has_length(field.kind) => {
                    while !packed.is_empty() {
                        unpacked.push(Raw::Number(decode_varint(&mut packed).ok()?));
                    }
                }
                value => unpacked.push(value),
            }
        }
        json.push('[');
        for (position, value) in unpacked.iter().enumerate() {
            if position > 0 {
                json.push(',');
            }
            self.write_value(field, *value, json)?;
        }
        json.push(']');
        Some(())
    }

    fn write_value(&self, field: &Field, value: Raw<'_>, json: &mut String) -> Option<()> {
        match (field.kind, value) {
            (Type::Message, Raw::Bytes(bytes)) => {
                return self.write_message(&field.of, bytes, json);
            }
            (Type::String, Raw::Bytes(bytes)) => write_text(std::str::from_utf8(bytes).ok()?, json),
            (Type::Bool, Raw::Number(number)) => {
                json.push_str(if number == 0 { "false" } else { "true" });
            }
            (Type::Enum, Raw::Number(number)) => {
                // The wire has enums as 64 bits with their sign.
                let number = number as i32;
                match self.enums.get(&field.of).and_then(|all| all.get(&number)) {
                    Some(name) => write_text(name, json),
                    None => write_number(number, json),
                }
            }
            (Type::Int32, Raw::Number(number)) => write_number(number as i32, json),
            (Type::Uint32 | Type::Fixed32, Raw::Number(number)) => write_number(number, json),
            (Type::Uint64 | Type::Fixed64, Raw::Number(number)) => {
                let _ = write!(json, "\"{number}\"");
            }
            (Type::Int64, Raw::Number(number)) => {
                let _ = write!(json, "\"{}\"", number as i64);
            }
            (Type::Double, Raw::Number(bits)) => write_number(f64::from_bits(bits), json),
            _ => return None,
        }
        Some(())
    }

    /// A message, or what protobuf writes in a form of its own.
    fn write_message(&self, name: &str, bytes: &[u8], json: &mut String) -> Option<()> {
        match name {
            ".google.protobuf.Timestamp" => {
                let time = Timestamp::decode(bytes).ok()?;
                let time = jiff::Timestamp::new(time.seconds, time.nanos).ok()?;
                let _ = write!(json, "\"{time}\"");
            }
            ".google.protobuf.Any" => {
                let any = Any::decode(bytes).ok()?;
                let value = object(Struct::decode(any.value.as_slice()).ok()?);
                let _ = write!(json, "{{\"@type\":\"{}\",\"value\":{value}}}", any.type_url);
            }
            ".google.protobuf.BoolValue" => {
                let is_true = bool::decode(bytes).ok()?;
                let _ = write!(json, "{is_true}");
            }
            ".google.protobuf.Int32Value" => write_number(i32::decode(bytes).ok()?, json),
            ".google.protobuf.UInt32Value" => write_number(u32::decode(bytes).ok()?, json),
            _ => return self.write(name, bytes, json),
        }
        Some(())
    }
}

/// Whether a message of any type is of the one that is ours: others cannot be read without knowing all
/// types, and are left out.
fn is_known(value: &Raw<'_>) -> bool {
    let Raw::Bytes(bytes) = *value else {
        return false;
    };
    Any::decode(bytes).is_ok_and(|any| any.type_url == STRUCT)
}

fn object(from: Struct) -> Value {
    let fields = from.fields.into_iter();
    fields.map(|(name, value)| (name, plain(value))).collect()
}

fn plain(from: prost_types::Value) -> Value {
    match from.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(is)) => is.into(),
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(plain).collect(),
        Some(Kind::StructValue(fields)) => object(fields),
    }
}

/// Whether values stand on the wire with their length before them, even in a list.
const fn has_length(kind: Type) -> bool {
    matches!(kind, Type::Message | Type::String | Type::Bytes)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn write_number(number: impl std::fmt::Display, json: &mut String) {
    let _ = write!(json, "{number}");
}

fn write_text(text: &str, json: &mut String) {
    json.push('"');
    for letter in text.chars() {
        match letter {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            letter if letter < ' ' => {
                let _ = write!(json, "\\u{:04x}", u32::from(letter));
            }
            letter => json.push(letter),
        }
    }
    json.push('"');
}
