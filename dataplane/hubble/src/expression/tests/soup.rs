//! Whatever is typed is read or refused, and costs no more than it may.

use super::*;
use portcullis_observe::Pattern;
use proptest::prelude::*;

/// Words that mean something, and some that nearly do.
const WORDS: [&str; 72] = [
    "_flow",
    ".",
    ".",
    ".",
    "verdict",
    "source",
    "labels",
    "is_reply",
    "l4",
    "TCP",
    "time",
    "IP",
    "destination_port",
    "Verdict",
    "DROPPED",
    "flow",
    "x",
    "y",
    "has",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "size",
    "matches",
    "contains",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "dyn",
    "timestamp",
    "duration",
    "getHours",
    "(",
    "(",
    ")",
    ")",
    "[",
    "]",
    ",",
    "?",
    ":",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "==",
    "!=",
    "<",
    ">=",
    " in ",
    "true",
    "null",
    "0",
    "1",
    "7u",
    "1.5e3",
    "9223372036854775808",
    "'a'",
    "'1h'",
    "r'\\d+'",
    "\"\"\"",
    "'\\x41'",
    "//",
    "{",
];

/// An expression of parts that fit each other more often than words do.
fn whole() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "_flow.verdict",
        "_flow.source.labels",
        "_flow.is_reply",
        "_flow.time",
        "_flow.l4.TCP",
        "_flow.source",
        "_flow.l4.UDP.source_port",
        "Verdict.DROPPED",
        "x",
        "true",
        "null",
        "0",
        "-9223372036854775808",
        "7u",
        "1.5",
        "'a'",
        "'k8s:app=web'",
        "[1, 2]",
        "['b', 'a']",
        "[]",
        "duration('1h')",
        "timestamp(0)",
    ]);
    leaf.prop_map(str::to_owned)
        .prop_recursive(6, 40, 3, |inner| {
            let operators = prop::sample::select(vec![
                "&&", "||", "==", "!=", "<", ">=", "in", "+", "-", "*", "/", "%",
            ]);
            let functions = prop::sample::select(vec![
                "size",
                "int",
                "uint",
                "double",
                "string",
                "bool",
                "dyn",
                "timestamp",
                "duration",
                "!",
                "-",
                "has",
            ]);
            let loops = prop::sample::select(vec!["all", "exists", "exists_one", "map", "filter"]);
            let members = prop::sample::select(vec![
                "size()",
                "contains('a')",
                "startsWith('k')",
                "matches('^k8s')",
                "getHours()",
                "name",
            ]);
            prop_oneof![
                (inner.clone(), operators, inner.clone())
                    .prop_map(|(one, operator, two)| format!("({one} {operator} {two})")),
                (functions, inner.clone()).prop_map(|(function, one)| format!("{function}({one})")),
                (inner.clone(), members).prop_map(|(one, member)| format!("{one}.{member}")),
                (inner.clone(), loops, inner.clone())
                    .prop_map(|(list, kind, body)| format!("{list}.{kind}(x, {body})")),
                (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("dyn({one})[{two}]")),
                (inner.clone(), inner.clone(), inner)
                    .prop_map(|(one, two, three)| format!("({one} ? {two} : [{three}, {two}])")),
            ]
        })
}

/// Reads a text, and runs it when it is an expression.
fn try_out(text: &str) {
    let Ok(expressions) = read(&[text]) else {
        return;
    };
    let flows = [denied(), wire::Flow::default()];
    for flow in flows {
        let mut meter = Meter::new(STEPS_MAX);
        let found = expressions.is_true(&flow.encode_to_vec(), &mut meter);
        let again = expressions.is_true(&flow.encode_to_vec(), &mut Meter::new(STEPS_MAX));
        assert_eq!(found, again, "{text}");
        // What is no flow has no fields, or some.
        let _ = expressions.is_true(text.as_bytes(), &mut Meter::new(STEPS_MAX));
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        try_out(&text);
        try_out(&String::from_utf8_lossy(&bytes));
        let _ = Pattern::read(&text);
    }

    #[test]
    fn any_soup_of_words_is_read_or_refused(words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..60)) {
        try_out(&words.concat());
        try_out(&words.join(" "));
    }

    #[test]
    fn any_expression_costs_no_more_than_it_may(text in whole()) {
        try_out(&text);
        // Most conditions are of no type that is known before.
        try_out(&format!("dyn({text}) == true"));
    }

    #[test]
    fn any_bytes_of_a_flow_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = "_flow.source.labels.exists(l, l == 'a') || has(_flow.l4.TCP) || _flow.is_reply == true \
                    || _flow.time > timestamp(0) || _flow == _flow.source";
        let text = text.replace(" || _flow == _flow.source", "");
        let _ = read(&[&text]).unwrap().is_true(&bytes, &mut Meter::new(STEPS_MAX));
    }
}

#[test]
fn whatever_is_typed_is_read_or_refused() {
    let whole = "has(_flow.l4.TCP)&&[1,2u].exists(x,x==-1)||!('é\\n' in _flow.source.labels)\
                 ?_flow.time.getHours()>1.5e3:r'a'.matches(\"b\")";
    let flow = read(&[]).unwrap().flow;
    let places: Vec<usize> = whole.char_indices().map(|(place, _)| place).collect();
    for from in &places {
        for to in places.iter().filter(|to| *to > from) {
            let _ = program(&whole[*from..*to], &flow);
            let without = format!("{}{}", &whole[..*from], &whole[*to..]);
            let _ = program(&without, &flow);
        }
    }
}
