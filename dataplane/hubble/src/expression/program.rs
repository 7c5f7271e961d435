//! An expression that was understood.

use super::functions::Function;
use super::tree::Operator;
use super::types::Field;
use super::value::Value;
use portcullis_observe::Pattern;

/// A step of it.
#[derive(Debug)]
pub(super) enum Step {
    Value(Value<'static>),
    Flow,
    /// The variable that stands there: outer loops come first.
    Local(usize),
    Field(Box<Step>, Field),
    Has(Box<Step>, Field),
    Index(Box<Step>, Box<Step>),
    List(Vec<Step>),
    Not(Box<Step>),
    Negative(Box<Step>),
    And(Vec<Step>),
    Or(Vec<Step>),
    If(Box<[Step; 3]>),
    Binary(Operator, Box<Step>, Box<Step>),
    Call(Function, Vec<Step>),
    Matches(Box<Step>, Box<Pattern>),
    Loop(Box<Loop>),
}

/// Something done with each item of a list.
#[derive(Debug)]
pub(super) struct Loop {
    pub kind: LoopKind,
    pub list: Step,
    /// Where the item stands among the variables.
    pub local: usize,
    pub body: Step,
    /// With `map` of three: which items count.
    pub filter: Option<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoopKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

impl LoopKind {
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "all" => Self::All,
            "exists" => Self::Exists,
            "exists_one" | "existsOne" => Self::ExistsOne,
            "map" => Self::Map,
            "filter" => Self::Filter,
            _ => return None,
        })
    }
}
