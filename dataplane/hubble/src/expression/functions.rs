//! Functions of the standard library that expressions may call.
//!
//! [github.com/google/cel-spec, doc/langdef.md#list-of-standard-definitions]

use super::duration;
use super::run::{Halt, Meter};
use super::types::Type;
use super::value::Value;
use jiff::{Timestamp, tz::TimeZone};

/// A function. Those on a value take it as their first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Int,
    Uint,
    Double,
    Text,
    Bool,
    Time,
    Duration,
    Any,
    /// A part of a time in UTC, or the whole of a duration in such units.
    Part(TimePart),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimePart {
    Year,
    /// From zero on.
    Month,
    /// From zero on.
    DayOfMonth,
    /// From one on.
    Date,
    /// From zero on, which is Sunday.
    DayOfWeek,
    /// From zero on.
    DayOfYear,
    Hour,
    Minute,
    Second,
    Millisecond,
}

/// One more than the greatest integer.
const INT_END: f64 = 9_223_372_036_854_775_808.0;
/// Steps that it takes to read, write or part a number or a time.
const CONVERSION_COST: usize = 8;

impl Function {
    /// By its name, and whether it stands on a value.
    pub fn of(name: &str, is_member: bool) -> Option<Self> {
        if name == "size" {
            return Some(Self::Size);
        }
        Some(if is_member {
            match name {
                "contains" => Self::Contains,
                "startsWith" => Self::StartsWith,
                "endsWith" => Self::EndsWith,
                "getFullYear" => Self::Part(TimePart::Year),
                "getMonth" => Self::Part(TimePart::Month),
                "getDayOfMonth" => Self::Part(TimePart::DayOfMonth),
                "getDate" => Self::Part(TimePart::Date),
                "getDayOfWeek" => Self::Part(TimePart::DayOfWeek),
                "getDayOfYear" => Self::Part(TimePart::DayOfYear),
                "getHours" => Self::Part(TimePart::Hour),
                "getMinutes" => Self::Part(TimePart::Minute),
                "getSeconds" => Self::Part(TimePart::Second),
                "getMilliseconds" => Self::Part(TimePart::Millisecond),
                _ => return None,
            }
        } else {
            match name {
                "int" => Self::Int,
                "uint" => Self::Uint,
                "double" => Self::Double,
                "string" => Self::Text,
                "bool" => Self::Bool,
                "timestamp" => Self::Time,
                "duration" => Self::Duration,
                "dyn" => Self::Any,
                _ => return None,
            }
        })
    }

    /// What it gives for such arguments; none when it does not take them.
    pub fn result(self, arguments: &[Type]) -> Option<Type> {
        let takes = |wanted: &[Type], one: &Type| {
            let one = one.not_null();
            *one == Type::Any || wanted.contains(one)
        };
        let number = [Type::Int, Type::Uint, Type::Double];
        let (one, two) = match arguments {
            [one] => (one, None),
            [one, two] => (one, Some(two)),
            _ => return None,
        };
        let with_text = |wanted: &[Type]| takes(&number, one) || takes(wanted, one);
        let (is_taken, result) = match (self, two) {
            (Self::Size, None) => {
                let is_list = matches!(one, Type::List(_));
                (is_list || takes(&[Type::Text], one), Type::Int)
            }
            (Self::Contains | Self::StartsWith | Self::EndsWith, Some(two)) => {
                let text = [Type::Text];
                (takes(&text, one) && takes(&text, two), Type::Bool)
            }
            (Self::Int, None) => (with_text(&[Type::Text, Type::Time]), Type::Int),
            (Self::Uint, None) => (with_text(&[Type::Text]), Type::Uint),
            (Self::Double, None) => (with_text(&[Type::Text]), Type::Double),
            (Self::Text, None) => {
                let others = [Type::Text, Type::Bool, Type::Time, Type::Duration];
                (with_text(&others), Type::Text)
            }
            (Self::Bool, None) => (takes(&[Type::Bool, Type::Text], one), Type::Bool),
            (Self::Time, None) => {
                let others = [Type::Text, Type::Int, Type::Time];
                (takes(&others, one), Type::Time)
            }
            (Self::Duration, None) => (takes(&[Type::Text, Type::Duration], one), Type::Duration),
            (Self::Any, None) => (true, Type::Any),
            (Self::Part(part), None) => {
                let is_span = part.nanos().is_some() && takes(&[Type::Duration], one);
                (is_span || takes(&[Type::Time], one), Type::Int)
            }
            _ => return None,
        };
        is_taken.then_some(result)
    }

    /// Does it.
    pub fn call<'a>(self, arguments: &[Value<'a>], meter: &mut Meter) -> Result<Value<'a>, Halt> {
        for argument in arguments {
            if let Value::Text(text) = argument {
                meter.spend_text(text.len())?;
            }
        }
        if !matches!(
            self,
            Self::Size | Self::Contains | Self::StartsWith | Self::EndsWith | Self::Any
        ) {
            meter.spend(CONVERSION_COST)?;
        }
        let wrong = Halt("no such overload");
        match (self, arguments) {
            (Self::Size, [Value::Text(text)]) => size(text.chars().count()),
            (Self::Size, [Value::List(list)]) => size(list.len()),
            (Self::Contains, [Value::Text(text), Value::Text(part)]) => {
                Ok(Value::Bool(text.contains(&**part)))
            }
            (Self::StartsWith, [Value::Text(text), Value::Text(part)]) => {
                Ok(Value::Bool(text.starts_with(&**part)))
            }
            (Self::EndsWith, [Value::Text(text), Value::Text(part)]) => {
                Ok(Value::Bool(text.ends_with(&**part)))
            }
            (Self::Any, [value]) => Ok(value.clone()),
            (Self::Part(part), [Value::Time(time)]) => Ok(Value::Int(part.of(*time))),
            (Self::Part(part), [Value::Duration(span)]) => {
                let unit = part.nanos().ok_or(wrong)?;
                Ok(Value::Int(span / unit))
            }
            (_, [value]) => self.convert(value).ok_or(wrong),
            _ => Err(wrong),
        }
    }

    fn convert<'a>(self, value: &Value<'a>) -> Option<Value<'a>> {
        Some(match (self, value) {
            (Self::Int, Value::Int(_))
            | (Self::Uint, Value::Uint(_))
            | (Self::Double, Value::Double(_))
            | (Self::Text, Value::Text(_))
            | (Self::Bool, Value::Bool(_))
            | (Self::Time, Value::Time(_))
            | (Self::Duration, Value::Duration(_)) => value.clone(),
            (Self::Int, Value::Uint(value)) => Value::Int(i64::try_from(*value).ok()?),
            // Not the least integer, as in Go: more may have been rounded to it.
            (Self::Int, Value::Double(value)) if *value > -INT_END => {
                Value::Int(whole(*value)?.try_into().ok()?)
            }
            (Self::Int, Value::Text(text)) => Value::Int(text.parse().ok()?),
            (Self::Int, Value::Time(time)) => Value::Int(time.as_second()),
            (Self::Uint, Value::Int(value)) => Value::Uint(u64::try_from(*value).ok()?),
            (Self::Uint, Value::Double(value)) if *value >= 0.0 => {
                Value::Uint(whole(*value)?.try_into().ok()?)
            }
            (Self::Uint, Value::Text(text)) => Value::Uint(text.parse().ok()?),
            (Self::Double, Value::Text(text)) => Value::Double(text.parse().ok()?),
            (Self::Double, number) => Value::Double(number.double()?),
            (Self::Text, Value::Int(value)) => Value::text(value.to_string()),
            (Self::Text, Value::Uint(value)) => Value::text(value.to_string()),
            (Self::Text, Value::Double(value)) => Value::text(double(*value)),
            (Self::Text, Value::Bool(value)) => Value::text(value.to_string()),
            (Self::Text, Value::Time(time)) => Value::text(time.to_string()),
            (Self::Text, Value::Duration(span)) => Value::text(duration::write(*span)),
            (Self::Bool, Value::Text(text)) => Value::Bool(match &**text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                _ => return None,
            }),
            (Self::Time, Value::Text(text)) => Value::time(text.parse())?,
            (Self::Time, Value::Int(seconds)) => Value::time(Timestamp::from_second(*seconds))?,
            (Self::Duration, Value::Text(text)) => Value::Duration(duration::read(text)?),
            _ => return None,
        })
    }
}

impl TimePart {
    /// How long it is, when durations can be told in it.
    fn nanos(self) -> Option<i64> {
        Some(match self {
            Self::Hour => 3_600_000_000_000,
            Self::Minute => 60_000_000_000,
            Self::Second => 1_000_000_000,
            Self::Millisecond => 1_000_000,
            _ => return None,
        })
    }

    fn of(self, time: Timestamp) -> i64 {
        let time = time.to_zoned(TimeZone::UTC);
        match self {
            Self::Year => time.year().into(),
            Self::Month => i64::from(time.month()) - 1,
            Self::DayOfMonth => i64::from(time.day()) - 1,
            Self::Date => time.day().into(),
            Self::DayOfWeek => time.weekday().to_sunday_zero_offset().into(),
            Self::DayOfYear => i64::from(time.day_of_year()) - 1,
            Self::Hour => time.hour().into(),
            Self::Minute => time.minute().into(),
            Self::Second => time.second().into(),
            Self::Millisecond => time.millisecond().into(),
        }
    }
}

fn size<'a>(size: usize) -> Result<Value<'a>, Halt> {
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

/// Towards zero; none beyond what any integer holds.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn whole(value: f64) -> Option<i128> {
    (value.is_finite() && value.abs() < 2e19).then(|| value.trunc() as i128)
}

/// As Go writes it.
fn double(value: f64) -> String {
    if value.is_infinite() {
        return (if value > 0.0 { "+Inf" } else { "-Inf" }).to_owned();
    }
    let written = format!("{value:e}");
    let parts = written.split_once('e');
    match parts.and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent)) if !(-4..6).contains(&exponent) => {
            format!("{digits}e{exponent:+03}")
        }
        _ => value.to_string(),
    }
}
