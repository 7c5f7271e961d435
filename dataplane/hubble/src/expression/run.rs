//! Runs an expression on a flow, and counts what that costs.

use super::functions::whole;
use super::message::Message;
use super::program::{Loop, LoopKind, Step};
use super::tree::Operator;
use super::value::Value;
use jiff::SignedDuration;
use std::cmp::Ordering;
use std::sync::Arc;

/// Why an expression has no value for a flow: which then does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Halt(pub &'static str);

/// Bytes of text that count as one step.
const TEXT_BYTES: usize = 16;
/// What looking for a regular expression costs, and each byte that it is looked for in.
const REGEX_COSTS: (usize, usize) = (64, 4);

/// Steps that are left.
#[derive(Debug)]
pub(super) struct Meter {
    left: usize,
}

/// The flow, variables and costs.
pub(super) struct State<'a, 'm> {
    pub flow: Message<'a>,
    pub locals: Vec<Value<'a>>,
    pub meter: &'m mut Meter,
}

impl Meter {
    pub const fn new(steps: usize) -> Self {
        Self { left: steps }
    }

    #[cfg(test)]
    pub const fn left(&self) -> usize {
        self.left
    }

    pub fn spend(&mut self, steps: usize) -> Result<(), Halt> {
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                // Nothing else is to go on with what would have been left.
                self.left = 0;
                Err(Halt("it costs too much"))
            }
        }
    }

    pub fn spend_text(&mut self, bytes: usize) -> Result<(), Halt> {
        self.spend(1 + bytes / TEXT_BYTES)
    }
}

impl Step {
    /// What it gives.
    pub fn run<'a>(&'a self, state: &mut State<'a, '_>) -> Result<Value<'a>, Halt> {
        state.meter.spend(1)?;
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::Flow => Ok(Value::Message(state.flow)),
            Self::Local(place) => {
                let value = state.locals.get(*place);
                value.cloned().ok_or(Halt("no variable"))
            }
            Self::Field(of, field) => message(of.run(state))?.field(field, state.meter),
            Self::Has(of, field) => {
                let is_set = message(of.run(state))?.has(field, state.meter)?;
                Ok(Value::Bool(is_set))
            }
            Self::Index(list, index) => index_of(&list.run(state)?, &index.run(state)?),
            Self::List(items) => {
                let items = items.iter().map(|item| item.run(state));
                Ok(Value::List(Arc::new(items.collect::<Result<_, _>>()?)))
            }
            Self::Not(operand) => Ok(Value::Bool(!truth(operand.run(state))?)),
            Self::Negative(operand) => match operand.run(state)? {
                Value::Int(value) => value.checked_neg().map(Value::Int).ok_or(OVERFLOW),
                Value::Double(value) => Ok(Value::Double(-value)),
                _ => Err(NO_OVERLOAD),
            },
            Self::And(parts) => decide(parts, state, false),
            Self::Or(parts) => decide(parts, state, true),
            Self::If(parts) => {
                let [condition, yes, no] = parts.as_ref();
                let is_yes = truth(condition.run(state))?;
                (if is_yes { yes } else { no }).run(state)
            }
            Self::Binary(operator, left, right) => {
                let (left, right) = (left.run(state)?, right.run(state)?);
                binary(*operator, &left, &right, state.meter)
            }
            Self::Call(function, arguments) => {
                let arguments = arguments.iter().map(|argument| argument.run(state));
                let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
                function.call(&arguments, state.meter)
            }
            Self::Matches(text, pattern) => {
                let Value::Text(text) = text.run(state)? else {
                    return Err(NO_OVERLOAD);
                };
                let (at_least, each) = REGEX_COSTS;
                state.meter.spend(at_least + each * text.len())?;
                Ok(Value::Bool(pattern.is_match(&text)))
            }
            Self::Loop(one) => one.run(state),
        }
    }
}

const OVERFLOW: Halt = Halt("overflow");
const NO_OVERLOAD: Halt = Halt("no such overload");

fn truth(value: Result<Value<'_>, Halt>) -> Result<bool, Halt> {
    match value? {
        Value::Bool(value) => Ok(value),
        _ => Err(Halt("no bool")),
    }
}

fn message<'a>(value: Result<Value<'a>, Halt>) -> Result<Message<'a>, Halt> {
    match value? {
        Value::Message(message) => Ok(message),
        _ => Err(Halt("no message")),
    }
}

/// The first part with this truth decides, whatever has no value before it.
fn decide<'a>(
    parts: &'a [Step],
    state: &mut State<'a, '_>,
    deciding: bool,
) -> Result<Value<'a>, Halt> {
    let mut halt = None;
    for part in parts {
        match truth(part.run(state)) {
            Ok(found) if found == deciding => return Ok(Value::Bool(deciding)),
            Ok(_) => {}
            Err(why) => halt = halt.or(Some(why)),
        }
    }
    halt.map_or(Ok(Value::Bool(!deciding)), Err)
}

fn index_of<'a>(list: &Value<'a>, index: &Value<'a>) -> Result<Value<'a>, Halt> {
    let Value::List(items) = list else {
        return Err(NO_OVERLOAD);
    };
    let place = match index {
        Value::Int(place) => usize::try_from(*place).ok(),
        Value::Uint(place) => usize::try_from(*place).ok(),
        Value::Double(place) if place.fract() == 0.0 => {
            whole(*place).and_then(|place| place.try_into().ok())
        }
        _ => return Err(NO_OVERLOAD),
    };
    let item = place.and_then(|place| items.get(place));
    item.cloned().ok_or(Halt("index out of bounds"))
}

fn binary<'a>(
    operator: Operator,
    left: &Value<'a>,
    right: &Value<'a>,
    meter: &mut Meter,
) -> Result<Value<'a>, Halt> {
    let order = |meter: &mut Meter, holds: fn(Ordering) -> bool| {
        let is_comparable = left.compare(right, meter)?;
        // Numbers without an order are those that are none.
        let is_number = left.double().is_some() && right.double().is_some();
        match is_comparable {
            Some(order) => Ok(Value::Bool(holds(order))),
            None if is_number => Ok(Value::Bool(false)),
            None => Err(NO_OVERLOAD),
        }
    };
    match operator {
        Operator::Equal => Ok(Value::Bool(left.equals(right, meter)?)),
        Operator::NotEqual => Ok(Value::Bool(!left.equals(right, meter)?)),
        Operator::Less => order(meter, Ordering::is_lt),
        Operator::LessOrEqual => order(meter, Ordering::is_le),
        Operator::Greater => order(meter, Ordering::is_gt),
        Operator::GreaterOrEqual => order(meter, Ordering::is_ge),
        Operator::In => {
            let Value::List(items) = right else {
                return Err(NO_OVERLOAD);
            };
            for item in items.iter() {
                if item.equals(left, meter)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        _ => arithmetic(operator, left, right, meter),
    }
}

fn arithmetic<'a>(
    operator: Operator,
    left: &Value<'a>,
    right: &Value<'a>,
    meter: &mut Meter,
) -> Result<Value<'a>, Halt> {
    use Operator::{Add, Divide, Multiply, Remainder, Subtract};
    let result = match (left, right) {
        (Value::Int(one), Value::Int(two)) => match operator {
            Add => one.checked_add(*two),
            Subtract => one.checked_sub(*two),
            Multiply => one.checked_mul(*two),
            Divide => one.checked_div(*two),
            Remainder => one.checked_rem(*two),
            _ => None,
        }
        .map(Value::Int),
        (Value::Uint(one), Value::Uint(two)) => match operator {
            Add => one.checked_add(*two),
            Subtract => one.checked_sub(*two),
            Multiply => one.checked_mul(*two),
            Divide => one.checked_div(*two),
            Remainder => one.checked_rem(*two),
            _ => None,
        }
        .map(Value::Uint),
        (Value::Double(one), Value::Double(two)) => match operator {
            Add => Some(one + two),
            Subtract => Some(one - two),
            Multiply => Some(one * two),
            Divide => Some(one / two),
            _ => None,
        }
        .map(Value::Double),
        (Value::Text(one), Value::Text(two)) if operator == Add => {
            meter.spend_text(one.len() + two.len())?;
            Some(Value::text([&**one, &**two].concat()))
        }
        (Value::List(one), Value::List(two)) if operator == Add => {
            meter.spend(one.len() + two.len())?;
            let items = one.iter().chain(two.iter()).cloned();
            Some(Value::List(Arc::new(items.collect())))
        }
        (Value::Time(time), Value::Duration(span)) => match operator {
            Add => Value::time(time.checked_add(SignedDuration::from_nanos(*span))),
            Subtract => Value::time(time.checked_sub(SignedDuration::from_nanos(*span))),
            _ => None,
        },
        (Value::Duration(span), Value::Time(time)) if operator == Add => {
            Value::time(time.checked_add(SignedDuration::from_nanos(*span)))
        }
        (Value::Time(one), Value::Time(two)) if operator == Subtract => {
            let nanos = one.as_nanosecond() - two.as_nanosecond();
            nanos.try_into().ok().map(Value::Duration)
        }
        (Value::Duration(one), Value::Duration(two)) => match operator {
            Add => one.checked_add(*two),
            Subtract => one.checked_sub(*two),
            _ => None,
        }
        .map(Value::Duration),
        _ => return Err(NO_OVERLOAD),
    };
    result.ok_or(OVERFLOW)
}

impl Loop {
    fn run<'a>(&'a self, state: &mut State<'a, '_>) -> Result<Value<'a>, Halt> {
        let Value::List(items) = self.list.run(state)? else {
            return Err(NO_OVERLOAD);
        };
        let (mut found, mut count, mut halt) = (Vec::new(), 0_usize, None);
        for item in items.iter() {
            // Even an item whose body costs nothing has to be looked at.
            state.meter.spend(1)?;
            state.locals.truncate(self.local);
            state.locals.push(item.clone());
            match self.once(item, state) {
                Ok(Some(Value::Bool(holds))) if self.kind == LoopKind::All && !holds => {
                    return Ok(Value::Bool(false));
                }
                Ok(Some(Value::Bool(true))) if self.kind == LoopKind::Exists => {
                    return Ok(Value::Bool(true));
                }
                Ok(Some(Value::Bool(true))) if self.kind == LoopKind::ExistsOne => count += 1,
                Ok(Some(value)) if matches!(self.kind, LoopKind::Map | LoopKind::Filter) => {
                    found.push(value);
                }
                Ok(_) => {}
                // One item may decide, whatever has no value before it.
                Err(why) if matches!(self.kind, LoopKind::All | LoopKind::Exists) => {
                    halt = halt.or(Some(why));
                }
                Err(why) => return Err(why),
            }
        }
        if let Some(why) = halt {
            return Err(why);
        }
        Ok(match self.kind {
            LoopKind::All => Value::Bool(true),
            LoopKind::Exists => Value::Bool(false),
            LoopKind::ExistsOne => Value::Bool(count == 1),
            LoopKind::Map | LoopKind::Filter => Value::List(Arc::new(found)),
        })
    }

    /// What one item gives: its truth, or what is kept of it.
    fn once<'a>(
        &'a self,
        item: &Value<'a>,
        state: &mut State<'a, '_>,
    ) -> Result<Option<Value<'a>>, Halt> {
        if let Some(filter) = &self.filter
            && !truth(filter.run(state))?
        {
            return Ok(None);
        }
        match self.kind {
            LoopKind::Map => self.body.run(state).map(Some),
            LoopKind::Filter => Ok(truth(self.body.run(state))?.then(|| item.clone())),
            _ => truth(self.body.run(state)).map(|holds| Some(Value::Bool(holds))),
        }
    }
}
