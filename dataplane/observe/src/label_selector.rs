//! Label selectors as `kubectl` and Hubble write them: `k8s:app=web,tier in (a, b),!debug`.

/// Requirements that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    /// `k8s`; None for any.
    source: Option<String>,
    key: String,
    operator: Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    Exists,
    Missing,
    In(Vec<String>),
    NotIn(Vec<String>),
    More(i64),
    Less(i64),
}

impl LabelSelector {
    /// Reads a selector. Empty, it selects everything.
    ///
    /// # Errors
    /// When it is not understood: with the place.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = Rest { text, place: 0 };
        let mut requirements = Vec::new();
        rest.skip_space();
        while !rest.is_empty() {
            requirements.push(requirement(&mut rest)?);
            rest.skip_space();
            if rest.is_empty() {
                break;
            }
            rest.expect(',')?;
            rest.skip_space();
            if rest.is_empty() {
                return Err(rest.fault("a label behind the comma"));
            }
        }
        Ok(Self(requirements))
    }

    /// Whether labels, written `k8s:app=web`, are selected.
    #[must_use]
    pub fn matches(&self, labels: &[String]) -> bool {
        self.0.iter().all(|one| one.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &[String]) -> bool {
        let mut values = labels.iter().filter_map(|label| self.value(label));
        match &self.operator {
            Operator::Exists => values.next().is_some(),
            Operator::Missing => values.next().is_none(),
            Operator::In(wanted) => values.any(|value| wanted.iter().any(|one| one == value)),
            Operator::NotIn(unwanted) => {
                !values.any(|value| unwanted.iter().any(|one| one == value))
            }
            Operator::More(bound) => values.any(|value| number(value) > Some(*bound)),
            Operator::Less(bound) => values.any(|value| number(value).is_some_and(|n| n < *bound)),
        }
    }

    /// The value of a label with this key.
    fn value<'a>(&self, label: &'a str) -> Option<&'a str> {
        let (source, rest) = label.split_once(':').unwrap_or(("", label));
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        let is_source = self.source.as_ref().is_none_or(|wanted| wanted == source);
        (is_source && key == self.key).then_some(value)
    }
}

fn number(value: &str) -> Option<i64> {
    value.parse().ok()
}

fn requirement(rest: &mut Rest<'_>) -> Result<Requirement, String> {
    let is_negated = rest.take("!");
    rest.skip_space();
    let (source, key) = key(rest)?;
    let of = |operator| {
        Ok(Requirement {
            source: source.clone(),
            key: key.clone(),
            operator,
        })
    };
    if is_negated {
        return of(Operator::Missing);
    }
    rest.skip_space();
    if rest.is_empty() || rest.text.starts_with(',') {
        return of(Operator::Exists);
    }
    if rest.take("!=") {
        return of(Operator::NotIn(vec![value(rest)?]));
    }
    if rest.take("==") || rest.take("=") {
        return of(Operator::In(vec![value(rest)?]));
    }
    for (sign, operator) in [(">", Operator::More as fn(i64) -> _), ("<", Operator::Less)] {
        if rest.take(sign) {
            let text = value(rest)?;
            let bound = number(&text).ok_or_else(|| rest.fault("a whole number"))?;
            return of(operator(bound));
        }
    }
    match rest.word() {
        "in" => of(Operator::In(list(rest)?)),
        "notin" => of(Operator::NotIn(list(rest)?)),
        _ => Err(rest.fault("=, !=, in, notin or a comma")),
    }
}

/// `source:key`, `source:prefix/key` or a key alone.
fn key(rest: &mut Rest<'_>) -> Result<(Option<String>, String), String> {
    let text = rest.word();
    let (source, key) = match text.split_once(':') {
        Some(("any" | "", key)) => (None, key),
        Some((source, key)) => (Some(source.to_owned()), key),
        None => (None, text),
    };
    if key.is_empty() {
        return Err(rest.fault("the key of a label"));
    }
    Ok((source, key.to_owned()))
}

fn value(rest: &mut Rest<'_>) -> Result<String, String> {
    rest.skip_space();
    Ok(rest.word().to_owned())
}

fn list(rest: &mut Rest<'_>) -> Result<Vec<String>, String> {
    rest.skip_space();
    rest.expect('(')?;
    let mut values = Vec::new();
    loop {
        values.push(value(rest)?);
        rest.skip_space();
        if rest.take(")") {
            return Ok(values);
        }
        rest.expect(',')?;
    }
}

/// What is not read yet.
struct Rest<'a> {
    text: &'a str,
    place: usize,
}

impl<'a> Rest<'a> {
    fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (front, back) = self.text.split_at(bytes);
        self.text = back;
        self.place += bytes;
        front
    }

    fn skip_space(&mut self) {
        let bytes = self.text.len() - self.text.trim_start().len();
        self.advance(bytes);
    }

    fn take(&mut self, sign: &str) -> bool {
        let is_there = self.text.starts_with(sign);
        if is_there {
            self.advance(sign.len());
        }
        is_there
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        if self.text.starts_with(sign) {
            self.advance(sign.len_utf8());
            Ok(())
        } else {
            Err(self.fault(&format!("\"{sign}\"")))
        }
    }

    /// Letters of keys, sources and values.
    fn word(&mut self) -> &'a str {
        let is_part = |letter: char| letter.is_alphanumeric() || "-_./:".contains(letter);
        let end = self.text.find(|letter| !is_part(letter));
        self.advance(end.unwrap_or(self.text.len()))
    }

    fn fault(&self, expected: &str) -> String {
        let found = if self.text.is_empty() {
            "the end".to_owned()
        } else {
            format!("\"{}\"", self.text)
        };
        format!(
            "expected {expected} at letter {}, found {found}",
            self.place + 1
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_select_as_kubernetes_says() {
        let labels: Vec<String> = [
            "k8s:app=web",
            "k8s:tier=2",
            "reserved:host",
            "cidr:10.0.0.0/8",
        ]
        .map(str::to_owned)
        .into();
        for (text, is_selected) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("k8s:app=web", true),
            ("any:app=web", true),
            ("container:app=web", false),
            ("app=api", false),
            ("app!=api", true),
            ("app != web", false),
            ("missing!=x", true),
            ("app", true),
            ("!app", false),
            ("! missing", true),
            ("k8s:missing", false),
            ("reserved:host", true),
            ("k8s:host", false),
            ("app in (api, web)", true),
            ("app notin (api,web)", false),
            ("missing notin (a)", true),
            ("k8s:app in (api)", false),
            ("app=web,tier in (1,2),!debug", true),
            ("app=web,tier=3", false),
            ("tier>1", true),
            ("tier > 2", false),
            ("tier<3", true),
            ("app=", false),
        ] {
            let selector = LabelSelector::parse(text).unwrap();
            assert_eq!(selector.matches(&labels), is_selected, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said_with_its_place() {
        for (text, error) in [
            (
                "=a",
                "expected the key of a label at letter 1, found \"=a\"",
            ),
            (
                "a=b,",
                "expected a label behind the comma at letter 5, found the end",
            ),
            ("a in b", "expected \"(\" at letter 6, found \"b\""),
            ("a in (b", "expected \",\" at letter 8, found the end"),
            (
                "a b",
                "expected =, !=, in, notin or a comma at letter 4, found the end",
            ),
            ("a>b", "expected a whole number at letter 4, found the end"),
            ("a=b c=d", "expected \",\" at letter 5, found \"c=d\""),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap_err(), error, "{text}");
        }
    }
}
