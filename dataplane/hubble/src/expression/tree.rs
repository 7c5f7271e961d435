//! An expression as it was typed: parts in one another.

use super::token::Token;
use super::{DEPTH_MAX, Fault};

/// A part of an expression.
#[derive(Debug)]
pub(super) struct Part {
    /// The byte that it begins at, or its operator.
    pub place: usize,
    /// How many parts lie in one another, this one included.
    depth: usize,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Name(String),
    Select(Box<Part>, String),
    Call(Option<Box<Part>>, String, Vec<Part>),
    Index(Box<Part>, Box<Part>),
    List(Vec<Part>),
    Not(Box<Part>),
    Negative(Box<Part>),
    /// All of them must hold.
    And(Vec<Part>),
    /// One of them must.
    Or(Vec<Part>),
    Binary(Operator, Box<Part>, Box<Part>),
    If(Box<[Part; 3]>),
}

/// Of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Part {
    /// A part that is not too deep: what reads it later goes down with it.
    pub fn new(place: usize, kind: Kind) -> Result<Self, Fault> {
        let deepest = |parts: &[Part]| parts.iter().map(|part| part.depth).max().unwrap_or(0);
        let below = match &kind {
            Kind::Select(of, _) | Kind::Not(of) | Kind::Negative(of) => of.depth,
            Kind::Call(of, _, arguments) => {
                let of = of.as_ref().map_or(0, |of| of.depth);
                of.max(deepest(arguments))
            }
            Kind::Index(of, with) | Kind::Binary(_, of, with) => of.depth.max(with.depth),
            Kind::List(parts) | Kind::And(parts) | Kind::Or(parts) => deepest(parts),
            Kind::If(parts) => deepest(&parts[..]),
            _ => 0,
        };
        let depth = below + 1;
        if depth > DEPTH_MAX {
            let fault = format!("expected at most {DEPTH_MAX} operators in one another");
            return Err(Fault::at(place, fault));
        }
        Ok(Self { place, depth, kind })
    }
}

impl Operator {
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    /// How tightly it binds, and itself.
    pub fn of(token: &Token) -> Option<(u8, Self)> {
        Some(match token {
            Token::Name(name) if name == "in" => (1, Self::In),
            Token::Sign(sign) => match *sign {
                "==" => (1, Self::Equal),
                "!=" => (1, Self::NotEqual),
                "<" => (1, Self::Less),
                "<=" => (1, Self::LessOrEqual),
                ">" => (1, Self::Greater),
                ">=" => (1, Self::GreaterOrEqual),
                "+" => (2, Self::Add),
                "-" => (2, Self::Subtract),
                "*" => (3, Self::Multiply),
                "/" => (3, Self::Divide),
                "%" => (3, Self::Remainder),
                _ => return None,
            },
            _ => return None,
        })
    }
}
