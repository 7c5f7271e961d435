//! What is refused, and where.

use super::*;

#[test]
fn what_can_never_hold_is_refused_in_words() {
    for (text, words) in [
        (
            "_flow.verdit == 1",
            "[0]: expected a field of flow.Flow, found \"verdit\", at character 6 of \
             \"_flow.verdit == 1\"",
        ),
        (
            "_flow.verdict == Verdict.DENIED",
            "[0]: expected _flow, a variable or a name such as Verdict.DROPPED, found \
             \"Verdict\", at character 18 of \"_flow.verdict == Verdict.DENIED\"",
        ),
        (
            "_flow.source",
            "[0]: expected bool, found flow.Endpoint, at character 6 of \"_flow.source\"",
        ),
        (
            "",
            "[0]: expected a value, found the end, at character 1 of \"\"",
        ),
        (
            "'a'.matches('(a')",
            "[0]: unclosed group, at character 13 of \"'a'.matches('(a')\"",
        ),
        (
            "_flow.uuid == 1",
            "[0]: \"==\" is not for (string, int), at character 12 of \"_flow.uuid == 1\"",
        ),
    ] {
        assert_eq!(refusal(text), words);
    }
    // A long one is not shown again.
    let long = format!("true{} && 1", " && true".repeat(300));
    let words = "[0]: expected bool, found int, at character 2409";
    assert_eq!(refusal(&long), words);
    for text in [
        "1",
        "'a'",
        "dyn(true)",
        "_flow.is_reply",
        "true ? true : dyn(true)",
        "[1].exists(for, for == 1)",
        "[1].exists(.x, true)",
        "size('a',) == 1",
        "[,] == []",
        "9223372036854775808 > 0",
        "-9223372036854775809 < 0",
        "18446744073709551616u > 0u",
        "0XFF == 255",
        "1e400 > 1.0",
        r"'\400' == ''",
        "'a\rb' == ''",
        "._flow.verdict.x",
        ".Verdict.DROPPED == 2",
        "b'a' == b'a'",
        "[1] == ['a']",
        "null < null",
        "_flow.time.getHours == 1",
        "duration('1h').getFullYear() == 1",
        "true true",
        "(true",
        "true)",
        "[true]",
        "{'a': 1} == {}",
        "true &",
        "true & true",
        "a = b",
        "é",
        "'é",
        "'a\nb' == ''",
        r"'\q' == ''",
        r"'\xé' == ''",
        r"'\ud800' == ''",
        "99999999999999999999 > 1",
        "1u + 1 == 2",
        "1 && true",
        "!1",
        "-'a' == ''",
        "true ? 1 : 'a'",
        "'a' in 'abc'",
        "1 in ['a']",
        "'a' < 1",
        "_flow.source < _flow.destination",
        "_flow.source.labels.a",
        "_flow.source.labels['a'] == ''",
        "_flow.time.getHours('UTC') == 1",
        "has(_flow)",
        "has(_flow.nothing)",
        "has(_flow.source, _flow.source)",
        "_flow.source.all(x, true)",
        "_flow.source.labels.all(x, y)",
        "_flow.source.labels.all(x)",
        "_flow.source.labels.all(x.y, true)",
        "_flow.source.labels.exists(x, filter, true)",
        "_flow.source.labels.exists(l, l == 1)",
        "nothing('a')",
        "'a'.nothing()",
        "'a'.size(1) == 1",
        "'a'.matches('(')",
        "'a'.matches(_flow.uuid)",
        "_flow.extensions.value == ''",
        "has(_flow.extensions)",
        "flow.Flow{} == _flow",
        "in",
        "_flow.",
        "1.",
        "0x == 0",
    ] {
        assert!(read(&[text]).is_err(), "{text}");
    }
}
