//! A value with its path, and the faults found so far: reading goes on after a fault.

use crate::{DocumentError, Warning};
use serde_json::{Map, Value};
use std::fmt::Write;

/// Errors of one file that are reported; the rest would only repeat them.
const ERRORS_MAX: usize = 100;
/// Warnings of one object that are kept.
const WARNINGS_MAX: usize = 100;
/// Characters of a value that an error shows.
const SHOWN_MAX: usize = 60;

/// What was found wrong or odd so far.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) file: String,
    /// The document that is being read, from 1.
    pub(crate) document: usize,
    pub(crate) errors: Vec<DocumentError>,
    /// Of the object that is being read.
    pub(crate) warnings: Vec<Warning>,
}

impl Faults {
    pub(crate) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            document: 0,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, field: String, expected: &str, found: &str) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(DocumentError {
                file: self.file.clone(),
                document: self.document,
                field,
                expected: expected.to_owned(),
                found: found.to_owned(),
            });
        }
    }
}

/// A value, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Node<'a> {
    /// A document as a whole.
    pub(crate) const fn root(value: &'a Value) -> Self {
        Self {
            value,
            path: String::new(),
        }
    }

    /// Says that something else was expected here.
    pub(crate) fn fault(&self, expected: &str, faults: &mut Faults) {
        faults.add(self.path.clone(), expected, &shown(self.value));
    }

    /// Says that something else was expected here, and what counts as found.
    pub(crate) fn fault_found(&self, expected: &str, found: &str, faults: &mut Faults) {
        faults.add(self.path.clone(), expected, found);
    }

    /// Says that this means something that is probably not meant.
    pub(crate) fn warn(&self, message: &str, faults: &mut Faults) {
        if faults.warnings.len() >= WARNINGS_MAX {
            return;
        }
        faults.warnings.push(Warning {
            file: faults.file.clone(),
            document: faults.document,
            field: self.path.clone(),
            message: message.to_owned(),
        });
    }

    /// The text; a fault when it is none.
    pub(crate) fn text(&self, faults: &mut Faults) -> Option<&'a str> {
        match self.value {
            Value::String(text) => Some(text),
            Value::Bool(_) | Value::Number(_) => {
                self.fault("a string (put it in quotes)", faults);
                None
            }
            _ => {
                self.fault("a string", faults);
                None
            }
        }
    }

    /// Whether it is this text.
    pub(crate) fn is_text(&self, text: &str) -> bool {
        self.value.as_str() == Some(text)
    }

    /// Whether it is an object of this kind.
    pub(crate) fn is_kind(&self, kind: &str) -> bool {
        self.value.get("kind").and_then(Value::as_str) == Some(kind)
    }

    /// The truth value; a fault when it is none.
    pub(crate) fn truth(&self, faults: &mut Faults) -> Option<bool> {
        let truth = self.value.as_bool();
        if truth.is_none() {
            self.fault("true or false", faults);
        }
        truth
    }

    /// The whole number within the bounds; a fault when it is none.
    pub(crate) fn number(
        &self,
        low: u16,
        high: u16,
        what: &str,
        faults: &mut Faults,
    ) -> Option<u16> {
        let number = self.whole(u32::from(low), u32::from(high), what, faults)?;
        u16::try_from(number).ok()
    }

    /// As `number`, for more than a port can be.
    pub(crate) fn whole(
        &self,
        low: u32,
        high: u32,
        what: &str,
        faults: &mut Faults,
    ) -> Option<u32> {
        let number = self
            .value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| (low..=high).contains(number));
        if number.is_none() {
            self.fault(&format!("{what}, {low} to {high}"), faults);
        }
        number
    }

    /// What the word means; a fault that lists all words when it is none of them.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)], faults: &mut Faults) -> Option<T> {
        let text = self.text(faults)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let (last, others) = words.split_last().expect("there are words to choose from");
            let others: Vec<_> = others.iter().map(|(word, _)| *word).collect();
            self.fault(&format!("{} or {}", others.join(", "), last.0), faults);
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// Whether it is a whole number.
    pub(crate) fn is_number(&self) -> bool {
        self.value.is_number()
    }

    /// The elements; a fault and none when it is no list.
    pub(crate) fn list(&self, faults: &mut Faults) -> Vec<Self> {
        let Value::Array(values) = self.value else {
            self.fault("a list", faults);
            return Vec::new();
        };
        let element = |(place, value)| Node {
            value,
            path: format!("{}[{place}]", self.path),
        };
        values.iter().enumerate().map(element).collect()
    }

    /// Whether it is a list without elements.
    pub(crate) fn is_empty_list(&self) -> bool {
        self.value.as_array().is_some_and(Vec::is_empty)
    }

    /// Strings by name; a fault for each value that is none.
    pub(crate) fn texts(&self, faults: &mut Faults) -> Vec<(&'a str, Node<'a>)> {
        let Value::Object(map) = self.value else {
            self.fault("a mapping of strings", faults);
            return Vec::new();
        };
        map.iter()
            .map(|(key, value)| {
                (
                    key.as_str(),
                    Node {
                        value,
                        path: join(&self.path, key),
                    },
                )
            })
            .collect()
    }
}

/// The fields of an object.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The fields of a value, whatever they are; a fault when it has none.
    pub(crate) fn lenient(node: &Node<'a>, faults: &mut Faults) -> Option<Self> {
        let Value::Object(map) = node.value else {
            node.fault("a mapping", faults);
            return None;
        };
        Some(Self {
            map,
            path: node.path.clone(),
        })
    }

    /// The fields of a value; a fault for each that is not among `known`, with the name that was
    /// probably meant, and for each without a value: left out it would mean something else, most
    /// often more.
    pub(crate) fn strict(
        node: &Node<'a>,
        what: &str,
        known: &[&str],
        faults: &mut Faults,
    ) -> Option<Self> {
        let fields = Self::known(node, what, known, faults)?;
        for (name, _) in fields.map.iter().filter(|(_, value)| value.is_null()) {
            let expected = "a value, or not the field at all (that means something else)";
            faults.add(join(&fields.path, name), expected, "nothing");
        }
        Some(fields)
    }

    /// As `strict`, but a field may be without a value.
    pub(crate) fn known(
        node: &Node<'a>,
        what: &str,
        known: &[&str],
        faults: &mut Faults,
    ) -> Option<Self> {
        let fields = Self::lenient(node, faults)?;
        for name in fields
            .map
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
        {
            let advice = match nearest(name, known) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("it has {}", known.join(", ")),
            };
            let expected = format!("a field of {what} ({advice})");
            let found = format!("the unknown field {}", quoted(name));
            faults.add(join(&fields.path, name), &expected, &found);
        }
        Some(fields)
    }

    /// A field that is there and not null.
    pub(crate) fn get(&self, name: &str) -> Option<Node<'a>> {
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        Some(Node {
            value,
            path: join(&self.path, name),
        })
    }

    /// A field that must be there.
    pub(crate) fn required(
        &self,
        name: &str,
        expected: &str,
        faults: &mut Faults,
    ) -> Option<Node<'a>> {
        let node = self.get(name);
        if node.is_none() {
            faults.add(join(&self.path, name), expected, "nothing");
        }
        node
    }

    /// The elements of a list that may be missing.
    pub(crate) fn list(&self, name: &str, faults: &mut Faults) -> Vec<Node<'a>> {
        self.get(name)
            .map_or_else(Vec::new, |node| node.list(faults))
    }
}

/// The known name that an unknown one was probably meant to be.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let close = |candidate: &&&str| {
        strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase())
    };
    // A third of the letters may be wrong: more is another word.
    let limit = name.chars().count().div_ceil(3);
    // Names beyond any field's length need no comparison, and cost the square of it.
    if name.len() > SHOWN_MAX {
        return None;
    }
    known
        .iter()
        .min_by_key(close)
        .filter(|candidate| close(candidate) <= limit)
        .copied()
}

/// A value as an error shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(values) if values.is_empty() => "an empty list".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(map) if map.is_empty() => "an empty mapping".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Text as an error shows it: on one line, and not too long.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// `spec` and `ingress` to `spec.ingress`; a name with other characters than a field's to
/// `spec["k8s:app"]`.
fn join(path: &str, name: &str) -> String {
    let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mut joined = path.to_owned();
    if is_plain {
        if !joined.is_empty() {
            joined.push('.');
        }
        joined.push_str(name);
    } else {
        write!(joined, "[{}]", quoted(name)).expect("a string takes all");
    }
    joined
}
