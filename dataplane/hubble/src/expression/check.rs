//! Finds out what the names of an expression mean, and refuses what can never work.

use super::functions::Function;
use super::program::{Loop, LoopKind, Step};
use super::tree::{Kind, Operator, Part};
use super::types::{Field, Type};
use super::value::Value;
use super::{Fault, REGEXES_MAX};
use portcullis_observe::Pattern;
use prost_reflect::{DescriptorPool, MessageDescriptor};

/// The variable that Hubble has for the flow.
const FLOW: &str = "_flow";
/// Names are looked for in this package first.
const PACKAGE: &str = "flow";

/// A step, and the type of what it gives.
type Checked = Result<(Step, Type), Fault>;

/// Reads a condition on a flow.
pub(super) fn condition(whole: &Part, flow: &MessageDescriptor) -> Result<Step, Fault> {
    let mut checker = Checker {
        pool: flow.parent_pool(),
        flow,
        locals: Vec::new(),
        regexes: 0,
    };
    let (step, found) = checker.step(whole)?;
    // What may be one is refused, as in Hubble.
    if found != Type::Bool {
        return Err(unexpected(whole, &Type::Bool, &found));
    }
    Ok(step)
}

struct Checker<'a> {
    pool: &'a DescriptorPool,
    flow: &'a MessageDescriptor,
    /// Variables of the loops around, outer ones first.
    locals: Vec<(String, Type)>,
    regexes: usize,
}

impl Checker<'_> {
    fn step(&mut self, part: &Part) -> Checked {
        let constant = |value, kind| Ok((Step::Value(value), kind));
        match &part.kind {
            Kind::Null => constant(Value::Null, Type::Null),
            Kind::Bool(value) => constant(Value::Bool(*value), Type::Bool),
            Kind::Int(value) => constant(Value::Int(*value), Type::Int),
            Kind::Uint(value) => constant(Value::Uint(*value), Type::Uint),
            Kind::Double(value) => constant(Value::Double(*value), Type::Double),
            Kind::Text(text) => constant(Value::text(text.as_str()), Type::Text),
            Kind::Name(name) => self.name(part, name),
            Kind::Select(of, name) => self.select(part, of, name),
            Kind::Call(target, name, arguments) => {
                self.call(part, target.as_deref(), name, arguments)
            }
            Kind::Index(of, index) => self.index(of, index),
            Kind::List(items) => self.list(items),
            Kind::Not(operand) => {
                let operand = self.of_type(operand, &Type::Bool)?;
                Ok((Step::Not(Box::new(operand)), Type::Bool))
            }
            Kind::Negative(operand) => {
                let (step, kind) = self.step(operand)?;
                let kind = kind.not_null().clone();
                if !matches!(kind, Type::Int | Type::Double | Type::Any) {
                    return Err(no_overload(part, "-", &[kind]));
                }
                Ok((Step::Negative(Box::new(step)), kind))
            }
            Kind::And(parts) => Ok((Step::And(self.conditions(parts)?), Type::Bool)),
            Kind::Or(parts) => Ok((Step::Or(self.conditions(parts)?), Type::Bool)),
            Kind::Binary(operator, left, right) => self.binary(part, *operator, left, right),
            Kind::If(parts) => self.either(part, parts),
        }
    }

    fn of_type(&mut self, part: &Part, wanted: &Type) -> Result<Step, Fault> {
        let (step, found) = self.step(part)?;
        if !found.can_be(wanted) {
            return Err(unexpected(part, wanted, &found));
        }
        Ok(step)
    }

    fn conditions(&mut self, parts: &[Part]) -> Result<Vec<Step>, Fault> {
        let all = parts.iter().map(|part| self.of_type(part, &Type::Bool));
        all.collect()
    }

    fn name(&self, part: &Part, name: &str) -> Checked {
        let mut locals = self.locals.iter().enumerate().rev();
        if let Some((place, (_, kind))) = locals.find(|(_, (local, _))| local == name) {
            return Ok((Step::Local(place), kind.clone()));
        }
        if name.strip_prefix('.').unwrap_or(name) == FLOW {
            return Ok((Step::Flow, Type::Message(self.flow.clone())));
        }
        let fault = format!(
            "expected {FLOW}, a variable or a name such as Verdict.DROPPED, found \"{name}\""
        );
        Err(Fault::at(part.place, fault))
    }

    fn select(&mut self, part: &Part, of: &Part, name: &str) -> Checked {
        if let Some(number) = self.constant(of, name) {
            return Ok((Step::Value(Value::Int(number.into())), Type::Int));
        }
        let (step, field) = self.field(part, of, name)?;
        let kind = field.kind.clone();
        Ok((Step::Field(Box::new(step), field), kind))
    }

    /// `Verdict.DROPPED`, `flow.Verdict.DROPPED`.
    fn constant(&self, of: &Part, name: &str) -> Option<i32> {
        let path = path(of)?;
        let first = path.split('.').next()?;
        if first == FLOW || self.locals.iter().any(|(local, _)| local == first) {
            return None;
        }
        let known = match path.strip_prefix('.') {
            Some(path) => self.pool.get_enum_by_name(path)?,
            None => {
                let ours = self.pool.get_enum_by_name(&format!("{PACKAGE}.{path}"));
                ours.or_else(|| self.pool.get_enum_by_name(&path))?
            }
        };
        Some(known.get_value_by_name(name)?.number())
    }

    fn field(&mut self, part: &Part, of: &Part, name: &str) -> Result<(Step, Field), Fault> {
        let (step, kind) = self.step(of)?;
        let Type::Message(message) = &kind else {
            let fault = format!("expected a message before \".{name}\", found {kind}");
            return Err(Fault::at(part.place, fault));
        };
        let Some(field) = message.get_field_by_name(name) else {
            let fault = format!("expected a field of {kind}, found \"{name}\"");
            return Err(Fault::at(part.place, fault));
        };
        let field = Field::of(&field).map_err(|fault| Fault::at(part.place, fault))?;
        Ok((step, field))
    }

    fn call(
        &mut self,
        part: &Part,
        target: Option<&Part>,
        name: &str,
        arguments: &[Part],
    ) -> Checked {
        if let (None, "has") = (target, name) {
            return self.has(part, arguments);
        }
        if let (Some(list), Some(kind)) = (target, LoopKind::of(name)) {
            return self.repeat(part, list, kind, arguments);
        }
        let all: Vec<&Part> = target.into_iter().chain(arguments).collect();
        if let ("matches", [text, pattern]) = (name, all.as_slice()) {
            return self.matches(text, pattern);
        }
        let Some(function) = Function::of(name, target.is_some()) else {
            let fault = format!("expected a function that is supported here, found \"{name}\"");
            return Err(Fault::at(part.place, fault));
        };
        let (mut steps, mut kinds) = (Vec::new(), Vec::new());
        for argument in all {
            let (step, kind) = self.step(argument)?;
            steps.push(step);
            kinds.push(kind);
        }
        match function.result(&kinds) {
            Some(kind) => Ok((Step::Call(function, steps), kind)),
            None => Err(no_overload(part, name, &kinds)),
        }
    }

    fn has(&mut self, part: &Part, arguments: &[Part]) -> Checked {
        let [
            Part {
                kind: Kind::Select(of, name),
                ..
            },
        ] = arguments
        else {
            return Err(Fault::at(part.place, "expected has(MESSAGE.FIELD)"));
        };
        let (step, field) = self.field(&arguments[0], of, name)?;
        Ok((Step::Has(Box::new(step), field), Type::Bool))
    }

    fn matches(&mut self, text: &Part, pattern: &Part) -> Checked {
        let step = self.of_type(text, &Type::Text)?;
        // Whatever a flow holds would have to be read as a pattern for each one anew.
        let Kind::Text(expression) = &pattern.kind else {
            let fault = "expected a regular expression between quotes";
            return Err(Fault::at(pattern.place, fault));
        };
        self.regexes += 1;
        if self.regexes > REGEXES_MAX {
            let fault = format!("expected at most {REGEXES_MAX} regular expressions");
            return Err(Fault::at(pattern.place, fault));
        }
        let pattern_read = Pattern::read(expression);
        let pattern_read = pattern_read.map_err(|fault| Fault::at(pattern.place, fault))?;
        let step = Step::Matches(Box::new(step), Box::new(pattern_read));
        Ok((step, Type::Bool))
    }

    fn repeat(&mut self, part: &Part, list: &Part, kind: LoopKind, arguments: &[Part]) -> Checked {
        let (name, filter, body) = match arguments {
            [name, body] => (name, None, body),
            [name, filter, body] if kind == LoopKind::Map => (name, Some(filter), body),
            _ => {
                let fault = "expected a variable and an expression";
                return Err(Fault::at(part.place, fault));
            }
        };
        let Some(name) = path(name).filter(|path| !path.contains('.')) else {
            return Err(Fault::at(name.place, "expected the name of a variable"));
        };
        let (items, list_type) = self.step(list)?;
        let item = match &list_type {
            Type::List(item) => item.as_ref().clone(),
            Type::Any => Type::Any,
            other => {
                let fault = format!("expected a list, found {other}");
                return Err(Fault::at(list.place, fault));
            }
        };
        let local = self.locals.len();
        self.locals.push((name, item));
        let filter = filter
            .map(|filter| self.of_type(filter, &Type::Bool))
            .transpose()?;
        let (body, result) = if kind == LoopKind::Map {
            let (body, kind) = self.step(body)?;
            (body, Type::List(Box::new(kind)))
        } else {
            let body = self.of_type(body, &Type::Bool)?;
            let is_list = kind == LoopKind::Filter;
            (body, if is_list { list_type } else { Type::Bool })
        };
        self.locals.truncate(local);
        let step = Step::Loop(Box::new(Loop {
            kind,
            list: items,
            local,
            body,
            filter,
        }));
        Ok((step, result))
    }

    fn index(&mut self, of: &Part, index: &Part) -> Checked {
        let (list, kind) = self.step(of)?;
        let item = match kind {
            Type::List(item) => *item,
            Type::Any => Type::Any,
            other => {
                let fault = format!("expected a list, found {other}");
                return Err(Fault::at(of.place, fault));
            }
        };
        let (step, found) = self.step(index)?;
        if !matches!(found.not_null(), Type::Int | Type::Uint | Type::Any) {
            let fault = format!("expected an index, found {found}");
            return Err(Fault::at(index.place, fault));
        }
        Ok((Step::Index(Box::new(list), Box::new(step)), item))
    }

    fn list(&mut self, items: &[Part]) -> Checked {
        let (mut steps, mut kind) = (Vec::new(), None);
        for item in items {
            let (step, found) = self.step(item)?;
            steps.push(step);
            kind = Some(match kind {
                None => found,
                Some(kind) => found.join(kind),
            });
        }
        let kind = Type::List(Box::new(kind.unwrap_or(Type::Any)));
        Ok((Step::List(steps), kind))
    }

    fn binary(&mut self, part: &Part, operator: Operator, left: &Part, right: &Part) -> Checked {
        let (left, one) = self.step(left)?;
        let (right, two) = self.step(right)?;
        let Some(kind) = result(operator, &one, &two) else {
            return Err(no_overload(part, operator.sign(), &[one, two]));
        };
        let step = Step::Binary(operator, Box::new(left), Box::new(right));
        Ok((step, kind))
    }

    fn either(&mut self, part: &Part, parts: &[Part; 3]) -> Checked {
        let condition = self.of_type(&parts[0], &Type::Bool)?;
        let (yes, one) = self.step(&parts[1])?;
        let (no, two) = self.step(&parts[2])?;
        if !one.can_be(&two) {
            return Err(no_overload(part, "?:", &[Type::Bool, one, two]));
        }
        let step = Step::If(Box::new([condition, yes, no]));
        Ok((step, one.join(two)))
    }
}

/// Names with dots between them.
fn path(part: &Part) -> Option<String> {
    match &part.kind {
        Kind::Name(name) => Some(name.clone()),
        Kind::Select(of, name) => Some(format!("{}.{name}", path(of)?)),
        _ => None,
    }
}

/// What an operator gives; none when it does not take such operands.
fn result(operator: Operator, one: &Type, two: &Type) -> Option<Type> {
    let is_relation = match operator {
        Operator::Equal | Operator::NotEqual => one.can_equal(two),
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            one.can_precede(two)
        }
        Operator::In => match two {
            Type::List(item) => item.can_equal(one),
            other => *other == Type::Any,
        },
        _ => return arithmetic(operator, one.not_null(), two.not_null()),
    };
    is_relation.then_some(Type::Bool)
}

fn arithmetic(operator: Operator, one: &Type, two: &Type) -> Option<Type> {
    use Operator::{Add, Remainder, Subtract};
    Some(match (operator, one, two) {
        (_, Type::Any, _) | (_, _, Type::Any) => Type::Any,
        (Add, Type::Text, Type::Text) => Type::Text,
        (Add, Type::List(one), Type::List(two)) => {
            Type::List(Box::new(one.as_ref().clone().join(two.as_ref().clone())))
        }
        (Add, Type::Time, Type::Duration)
        | (Add, Type::Duration, Type::Time)
        | (Subtract, Type::Time, Type::Duration) => Type::Time,
        (Subtract, Type::Time, Type::Time) | (Add | Subtract, Type::Duration, Type::Duration) => {
            Type::Duration
        }
        (Remainder, Type::Double, _) => return None,
        (_, one, two) if one == two && one.is_number() => one.clone(),
        _ => return None,
    })
}

fn unexpected(part: &Part, wanted: &Type, found: &Type) -> Fault {
    Fault::at(part.place, format!("expected {wanted}, found {found}"))
}

fn no_overload(part: &Part, name: &str, kinds: &[Type]) -> Fault {
    let kinds: Vec<String> = kinds.iter().map(Type::to_string).collect();
    let fault = format!("\"{name}\" is not for ({})", kinds.join(", "));
    Fault::at(part.place, fault)
}
