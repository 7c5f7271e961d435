//! What expressions mean.

use super::*;

#[test]
fn conditions_mean_what_the_language_says() {
    let flow = denied();
    for text in [
        // Of enums by number and by name, of this package or in full.
        "_flow.verdict == 2 && _flow.verdict == flow.Verdict.DROPPED",
        "_flow.drop_reason_desc in [DropReason.POLICY_DENIED, DropReason.INVALID_SOURCE_IP]",
        "Tunnel.Protocol.VXLAN == 1 && .flow.Verdict.DROPPED == ._flow.verdict",
        "[Verdict.DROPPED].exists(Verdict, Verdict == 2) && [1].exists(_flow, _flow == 1)",
        // Defaults of what is not set, however deep.
        "_flow.node_name == '' && _flow.destination.identity == 0u && !_flow.reply",
        "_flow.l4.UDP.destination_port == 0u && _flow.tunnel.IP.source.size() == 0",
        "_flow.destination.labels.size() == 0 && _flow.node_labels == []",
        // What is set.
        "has(_flow.source) && has(_flow.source.pod_name) && has(_flow.source.labels)",
        "!has(_flow.destination) && !has(_flow.destination.pod_name) && !has(_flow.is_reply)",
        "_flow.is_reply == null && !(_flow.is_reply == true) && _flow.destination != null",
        "_flow.source == _flow.source && _flow.source != _flow.destination && _flow == _flow",
        "[_flow.source, _flow.destination].exists(end, end.namespace == 'shop')",
        "_flow.ethernet == _flow.ethernet && dyn(_flow.ethernet) != dyn(_flow.tunnel)",
        // Text.
        "_flow.source.pod_name.startsWith('web') && _flow.source.pod_name.endsWith(\"-0\")",
        "_flow.Summary.contains('SYN') && size(_flow.Summary) == 14",
        r"_flow.IP.source.matches(r'^10\.0\.[01]\.\d+$') && matches('a', '^a')",
        "'a' + \"b\" + '''c'd''' == 'abc\\x27d' && 'b' > 'a'",
        r"r'\n'.size() == 2 && '\u00e9\303'.size() == 2 && '\U0001F600'.size() == 1",
        r"'\x41\u0042\U00000043\104' == 'ABCD' && '\a\b\f\n\r\t\v\\\?\'\`'.size() == 11",
        "'''a\nb'''.size() == 3 && r'''\\''' == '\\\\' && 'Z' < 'a' && '' < 'a'",
        // Expressions as RE2 has them.
        r"'é'.matches('^.$') && !'é'.matches(r'^\w$') && 'é'.matches(r'\W') && 'ab'.matches('b')",
        r"'a\nb'.matches('(?s)a.b') && !'a\nb'.matches('a.b') && 'GRÖSSE'.matches('(?i)größ|gröss')",
        // Labels.
        "'k8s:app=web' in _flow.source.labels && !('k8s:app=web' in _flow.destination.labels)",
        "_flow.source.labels.exists(label, label.startsWith('k8s:tier='))",
        "_flow.source.labels.exists_one(l, l == 'k8s:app=web')",
        "_flow.source.labels.all(l, l.startsWith('k8s:')) && [].all(x, false)",
        "_flow.source.labels.map(l, size(l)) == [11, 14]",
        "_flow.source.labels.map(l, l != 'k8s:app=web', l) == ['k8s:tier=front']",
        "_flow.source.labels.filter(l, l.contains('web'))[0] == 'k8s:app=web'",
        "[1, 2].exists(x, [2, 3].exists(y, x == y)) && [1].all(x, [2].all(x, x == 2) && x == 1)",
        // Lists.
        "[1, 2,].size() == 2 && [1, 2][1u] == 2 && [1, 2][dyn(1.0)] == 2 && [1] + [2] == [1, 2]",
        "[[1, 2], [3]].map(x, x.size()) == [2, 1] && [1, 2].map(x, [3].map(y, x * y)) == [[3], [6]]",
        "[1].exists(x, [x + 1].exists(y, [y + 1].exists(z, z == 3 && y == 2 && x == 1)))",
        "![].exists(x, true) && ![].exists_one(x, true) && [] == [] && [1] != [2]",
        // Numbers.
        "_flow.l4.TCP.destination_port > 1024u && _flow.socket_cookie == 12u",
        "_flow.l4.TCP.source_port == 40000 && _flow.source.identity < 300.5",
        "1 + 2 * 3 - 4 / 2 % 3 == 5 && -(2) == 0 - 2 && 0x10 == 16 && 1.5e1 == 15.0",
        "-7 / 2 == -3 && -7 % 2 == -1 && 7 % -2 == 1 && 10 - 3 - 2 == 5 && 1--1 == 2 && --1 == 1",
        "-9223372036854775808 < 0 && -0x8000000000000000 < 0 && 0xFFu == 255u && .5 == 5e-1",
        "1 < 2 == true && false < true && (true || false && false)",
        "dyn(1) == dyn(1u) && dyn(1u) == dyn(1.0) && dyn(-1) < dyn(0u) && dyn(1) in [dyn(1.0)]",
        "dyn(18446744073709551615u) > dyn(9223372036854775807) && dyn(1) != dyn('1')",
        "1.0 / 0.0 > 1e308 && 0.0 / 0.0 != 0.0 / 0.0 && 0.0 == -0.0",
        "int('-7') == -7 && uint(7) == 7u && double('1.5') == 1.5 && string(7u) == '7'",
        "int(7.9) == 7 && int(-7.9) == -7 && uint(7.9) == 7u && double('1e3') == 1000.0",
        "string(1.5) == '1.5' && string(1e6) == '1e+06' && string(1e-5) == '1e-05'",
        "bool('true') && !bool('F') && int(_flow.time) == 1795867200 && dyn(1) == 1",
        // Time.
        "_flow.time > timestamp('2026-11-28T12:00:00Z')",
        "_flow.time - timestamp('2026-11-28T12:00:00Z') == duration('500ms')",
        "_flow.time + duration('1h30m') < timestamp('2026-11-28T13:30:01Z')",
        "_flow.time.getHours() == 12 && _flow.time.getMonth() == 10",
        "_flow.time.getDate() == 28 && _flow.time.getDayOfMonth() == 27 && _flow.time.getSeconds() == 0",
        "_flow.time.getDayOfWeek() == 6 && _flow.time.getDayOfYear() == 331",
        "_flow.time.getFullYear() == 2026 && _flow.time.getMilliseconds() == 500",
        "_flow.time == timestamp('2026-11-28T14:00:00.5+02:00')",
        "string(_flow.time) == '2026-11-28T12:00:00.5Z' && timestamp(0) < _flow.time",
        "duration('1.5h30m') == duration('2h') && duration('1m1h') == duration('61m')",
        "duration('-1s') < duration('0') && duration('.5s') == duration('+500ms')",
        "duration('1.s') - duration('1s') == duration('0.0000000001s')",
        "duration('0.000000007s') == duration('7ns') && string(duration('-1.5ms')) == '-0.0015s'",
        "duration('10000s').getHours() == 2 && duration('1.234s').getMilliseconds() == 1234",
        "string(duration('1h')) == '3600s' && string(duration('0')) == '0s'",
        // What decides hides what has no value.
        "1 / 0 == 1 || true",
        "!(false && 1 / 0 == 1)",
        "[0, 1].exists(x, 1 / x == 1) && ![0, 1].all(x, 1 / x == 2)",
        "_flow.l4.TCP.flags.SYN ? true : 1 / 0 == 1",
        "true || dyn('a')",
        "false ? true : false ? 1 / 0 == 1 : true",
        // Comments and white space.
        "true // and nothing else",
    ] {
        assert_eq!(run(&[text], &flow).0, Ok(true), "{text}");
    }
}

#[test]
fn what_has_no_value_or_is_no_bool_does_not_match() {
    let flow = denied();
    for text in [
        "_flow.source.labels[7] == ''",
        "_flow.source.labels[-1] == ''",
        "[1, 2][dyn(0.5)] == 1",
        "1 / 0 == 1 || false",
        "true && 1 % 0 == 1",
        "1 / 0 == 1 ? true : true",
        "9223372036854775807 + 1 > 0",
        "-9223372036854775808 - 1 < 0",
        "-(-9223372036854775808) > 0",
        "-9223372036854775808 / -1 > 0",
        "-9223372036854775808 % -1 == 0",
        "18446744073709551615u + 1u > 0u",
        "0u - 1u > 0u",
        "int('seven') == 7",
        "int(' 7') == 7",
        "int('') == 0",
        "int(1e19) > 0",
        "int(-9223372036854775808.0) < 0",
        "int(18446744073709551615u) > 0",
        "uint(-1) > 0u",
        "uint(-0.5) == 0u",
        "double('a') == 0.0",
        "bool('yes')",
        "timestamp('yesterday') < _flow.time",
        "timestamp('2026-11-28T12:00:00') < _flow.time",
        "timestamp('0001-01-01T00:00:00Z') - duration('1ns') < _flow.time",
        "duration('1') == duration('1s')",
        "duration('') == duration('0s')",
        "duration('s') == duration('1s')",
        "duration('1 s') == duration('1s')",
        "duration('1d') == duration('24h')",
        "duration('1.2.3s') == duration('1s')",
        "duration('320000000000s') > duration('0')",
        "duration('2562047h') + duration('1h') > duration('0')",
        "dyn('a') < dyn(1)",
        "dyn(1) && true",
        "true && dyn('a')",
        "[0, 1].all(x, 1 / x == 1)",
        "[0, 2].exists(x, 1 / x == 1)",
        "[0, 1].exists_one(x, 1 / x == 1)",
        "[0, 1].map(x, 1 / x) != []",
        "[0, 1].filter(x, 1 / x == 1) != []",
    ] {
        assert!(run(&[text], &flow).0.is_err(), "{text}");
    }
    for text in [
        "_flow.is_reply == true",
        "0.0 / 0.0 < 1.0",
        "false && 1 / 0 == 1",
        "1 / 0 == 1 && false",
        "dyn(null) == dyn(0)",
    ] {
        assert_eq!(run(&[text], &flow).0, Ok(false), "{text}");
    }
}

#[test]
fn every_field_of_a_flow_can_be_looked_at_but_one() {
    let mut refused = Vec::new();
    let mut seen = Vec::new();
    let mut messages = vec![read(&[]).unwrap().flow];
    while let Some(message) = messages.pop() {
        for field in message.fields() {
            match types::Field::of(&field).map(|field| field.kind) {
                Err(fault) => refused.push(fault),
                Ok(types::Type::List(item)) => seen.push(*item),
                Ok(kind) => seen.push(kind),
            }
            if let Some(types::Type::Message(inner)) = seen.last()
                && !seen[..seen.len() - 1].contains(&types::Type::Message(inner.clone()))
            {
                messages.push(inner.clone());
            }
        }
    }
    assert_eq!(refused, ["flow.Flow.extensions is not supported here"]);
}
