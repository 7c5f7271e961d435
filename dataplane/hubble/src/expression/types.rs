//! What is known of values before an expression runs.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use std::fmt;

/// The type of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type {
    /// Known only when it runs.
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Time,
    Duration,
    List(Box<Type>),
    Message(MessageDescriptor),
    /// Such a value, or null.
    OrNull(Box<Type>),
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub number: u32,
    pub kind: Type,
}

impl Field {
    /// What is known of a field.
    ///
    /// # Errors
    /// What kind of field cannot be looked into.
    pub fn of(field: &FieldDescriptor) -> Result<Self, String> {
        let kind = match Type::of(&field.kind()) {
            Some(kind) if !field.is_map() => kind,
            _ => return Err(format!("{} is not supported here", field.full_name())),
        };
        Ok(Self {
            number: field.number(),
            kind: if field.is_list() {
                Type::List(Box::new(kind))
            } else {
                kind
            },
        })
    }
}

impl Type {
    fn of(kind: &Kind) -> Option<Self> {
        Some(match kind {
            Kind::Bool => Self::Bool,
            Kind::String => Self::Text,
            Kind::Uint32 | Kind::Uint64 => Self::Uint,
            Kind::Int32 | Kind::Int64 | Kind::Enum(_) => Self::Int,
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => Self::Time,
                name if is_wrapper(name) => {
                    let inner = message.get_field_by_name("value")?;
                    Self::OrNull(Box::new(Self::of(&inner.kind())?))
                }
                // Those have other rules.
                name if name.starts_with("google.protobuf.") => return None,
                _ => Self::Message(message.clone()),
            },
            // No field of a flow is of another kind.
            _ => return None,
        })
    }

    /// Whether it can be this.
    pub fn can_be(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::OrNull(one), two) | (two, Self::OrNull(one)) => {
                *two == Self::Null || one.can_be(two)
            }
            (Self::List(one), Self::List(two)) => one.can_be(two),
            _ => self == other,
        }
    }

    /// Whether `==` makes sense of them.
    pub fn can_equal(&self, other: &Self) -> bool {
        let is_null = |one: &Self, two: &Self| {
            *one == Self::Null && matches!(two, Self::Message(_) | Self::Time | Self::Duration)
        };
        let (one, two) = (self.not_null(), other.not_null());
        self.can_be(other)
            || (one.is_number() && two.is_number())
            || is_null(self, other)
            || is_null(other, self)
            || matches!((self, other), (Self::List(one), Self::List(two)) if one.can_equal(two))
    }

    /// Whether `<` does.
    pub fn can_precede(&self, other: &Self) -> bool {
        let (one, two) = (self.not_null(), other.not_null());
        let is_ordered = |one: &Self| {
            matches!(
                one,
                Self::Any | Self::Bool | Self::Text | Self::Time | Self::Duration
            )
        };
        (one.is_number() && two.is_number())
            || (one.can_be(two) && (is_ordered(one) || is_ordered(two)))
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// What it is when it is not null.
    pub fn not_null(&self) -> &Self {
        match self {
            Self::OrNull(inner) => inner,
            other => other,
        }
    }

    /// What both are.
    pub fn join(self, other: Self) -> Self {
        if self == other { self } else { Self::Any }
    }
}

/// Whether it is a message that exists to be absent.
pub(super) fn is_wrapper(name: &str) -> bool {
    name.starts_with("google.protobuf.")
        && name.ends_with("Value")
        && name != "google.protobuf.Value"
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::Text => f.write_str("string"),
            Self::Time => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(item) => write!(f, "list({item})"),
            Self::Message(message) => f.write_str(message.full_name()),
            Self::OrNull(inner) => write!(f, "wrapper({inner})"),
        }
    }
}
