//! From words to a tree.
//!
//! [github.com/google/cel-spec, doc/langdef.md#syntax]

use super::token::{self, Token};
use super::tree::{Kind, Operator, Part};
use super::{Fault, NESTING_MAX};

/// Names that are kept for languages around this one.
const RESERVED: [&str; 18] = [
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Reads an expression.
pub(super) fn read(text: &str) -> Result<Part, Fault> {
    let mut parser = Parser {
        words: token::all(text)?,
        next: 0,
        nesting: 0,
    };
    let whole = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(whole),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser {
    words: Vec<(usize, Token)>,
    next: usize,
    /// Open brackets and conditions: what makes this recursive.
    nesting: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        // The last word is the end, and nothing goes past it.
        &self.words[self.next].1
    }

    fn place(&self) -> usize {
        self.words[self.next].0
    }

    fn advance(&mut self) {
        if self.next + 1 < self.words.len() {
            self.next += 1;
        }
    }

    fn has(&mut self, sign: &'static str) -> bool {
        let is_next = *self.peek() == Token::Sign(sign);
        if is_next {
            self.advance();
        }
        is_next
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Fault> {
        if self.has(sign) {
            return Ok(());
        }
        Err(self.unexpected(&format!("\"{sign}\"")))
    }

    fn unexpected(&self, expected: &str) -> Fault {
        let found = match self.peek() {
            Token::Name(name) => format!("\"{name}\""),
            Token::Int(value) => format!("\"{value}\""),
            Token::Uint(value) => format!("\"{value}u\""),
            Token::Double(value) => format!("\"{value}\""),
            Token::Text(_) => "a text".to_owned(),
            Token::Sign(sign) => format!("\"{sign}\""),
            Token::End => "the end".to_owned(),
        };
        Fault::at(self.place(), format!("expected {expected}, found {found}"))
    }

    /// Goes one level down, while there are levels.
    fn nested<T>(&mut self, read: fn(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            let fault = format!("expected at most {NESTING_MAX} brackets in one another");
            return Err(Fault::at(self.place(), fault));
        }
        let found = read(self)?;
        self.nesting -= 1;
        Ok(found)
    }

    fn expression(&mut self) -> Result<Part, Fault> {
        let condition = self.either()?;
        let place = self.place();
        if !self.has("?") {
            return Ok(condition);
        }
        let yes = self.either()?;
        self.expect(":")?;
        let no = self.nested(Self::expression)?;
        Part::new(place, Kind::If(Box::new([condition, yes, no])))
    }

    fn either(&mut self) -> Result<Part, Fault> {
        self.chain("||", Self::both, Kind::Or)
    }

    fn both(&mut self) -> Result<Part, Fault> {
        self.chain("&&", |parser| parser.binary(1), Kind::And)
    }

    /// A chain is one part, however long: it is not to count as deep.
    fn chain(
        &mut self,
        sign: &'static str,
        link: fn(&mut Self) -> Result<Part, Fault>,
        kind: fn(Vec<Part>) -> Kind,
    ) -> Result<Part, Fault> {
        let first = link(self)?;
        let place = self.place();
        if *self.peek() != Token::Sign(sign) {
            return Ok(first);
        }
        let mut links = vec![first];
        while self.has(sign) {
            links.push(link(self)?);
        }
        Part::new(place, kind(links))
    }

    fn binary(&mut self, at_least: u8) -> Result<Part, Fault> {
        let mut left = self.unary()?;
        while let Some((binding, operator)) = Operator::of(self.peek()) {
            if binding < at_least {
                break;
            }
            let place = self.place();
            self.advance();
            // At most three deep: it binds more tightly each time.
            let right = self.binary(binding + 1)?;
            let kind = Kind::Binary(operator, Box::new(left), Box::new(right));
            left = Part::new(place, kind)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Part, Fault> {
        let mut signs = Vec::new();
        loop {
            let place = self.place();
            if self.has("!") {
                signs.push((place, true));
            } else if !self.is_negative_number() && self.has("-") {
                signs.push((place, false));
            } else {
                break;
            }
        }
        let mut operand = self.member()?;
        for (place, is_not) in signs.into_iter().rev() {
            let operand_box = Box::new(operand);
            let kind = if is_not {
                Kind::Not(operand_box)
            } else {
                Kind::Negative(operand_box)
            };
            operand = Part::new(place, kind)?;
        }
        Ok(operand)
    }

    fn member(&mut self) -> Result<Part, Fault> {
        let mut of = self.primary()?;
        loop {
            let place = self.place();
            if self.has(".") {
                let Token::Name(name) = self.peek().clone() else {
                    return Err(self.unexpected("a field or a function"));
                };
                self.advance();
                let kind = if self.has("(") {
                    let arguments = self.nested(|parser| parser.list(")"))?;
                    Kind::Call(Some(Box::new(of)), name, arguments)
                } else {
                    Kind::Select(Box::new(of), name)
                };
                of = Part::new(place, kind)?;
            } else if self.has("[") {
                let index = self.nested(Self::expression)?;
                self.expect("]")?;
                of = Part::new(place, Kind::Index(Box::new(of), Box::new(index)))?;
            } else {
                return Ok(of);
            }
        }
    }

    /// A sign before a number is part of it: the least integer has no other form.
    fn is_negative_number(&self) -> bool {
        let next = self.words.get(self.next + 1);
        *self.peek() == Token::Sign("-")
            && matches!(next, Some((_, Token::Int(_) | Token::Double(_))))
    }

    fn primary(&mut self) -> Result<Part, Fault> {
        let place = self.place();
        let is_negative = self.is_negative_number() && self.has("-");
        let kind = match self.peek().clone() {
            Token::Int(value) => Kind::Int(signed(value, is_negative).ok_or_else(|| {
                let found = if is_negative { "-" } else { "" };
                Fault::at(place, token::no_number(&format!("{found}{value}")))
            })?),
            Token::Double(value) => Kind::Double(if is_negative { -value } else { value }),
            Token::Uint(value) => Kind::Uint(value),
            Token::Text(text) => Kind::Text(text),
            Token::Name(name) => match name.as_str() {
                "null" => Kind::Null,
                "true" => Kind::Bool(true),
                "false" => Kind::Bool(false),
                _ => Kind::Name(self.free_name()?),
            },
            Token::Sign("(") => {
                self.advance();
                let inner = self.nested(Self::expression)?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Sign("[") => {
                self.advance();
                let items = self.nested(|parser| parser.list("]"))?;
                return Part::new(place, Kind::List(items));
            }
            Token::Sign(".") => {
                self.advance();
                Kind::Name(format!(".{}", self.free_name()?))
            }
            Token::Sign("{") => {
                return Err(Fault::at(place, "maps are not supported here"));
            }
            Token::Sign(_) | Token::End => return Err(self.unexpected("a value")),
        };
        self.advance();
        match kind {
            Kind::Name(name) if self.has("(") => {
                let arguments = self.nested(|parser| parser.list(")"))?;
                Part::new(place, Kind::Call(None, name, arguments))
            }
            kind => Part::new(place, kind),
        }
    }

    fn free_name(&self) -> Result<String, Fault> {
        match self.peek() {
            Token::Name(name) if !RESERVED.contains(&name.as_str()) => Ok(name.clone()),
            _ => Err(self.unexpected("a name")),
        }
    }

    /// Expressions up to a bracket. A list may end with a comma, arguments may not.
    fn list(&mut self, end: &'static str) -> Result<Vec<Part>, Fault> {
        let mut items = Vec::new();
        if self.has(end) {
            return Ok(items);
        }
        loop {
            items.push(self.expression()?);
            let is_open = self.has(",");
            if !is_open || (end == "]" && *self.peek() == Token::Sign(end)) {
                self.expect(end)?;
                return Ok(items);
            }
        }
    }
}

fn signed(value: u64, is_negative: bool) -> Option<i64> {
    let value = i128::from(value);
    i64::try_from(if is_negative { -value } else { value }).ok()
}
