//! What an expression may cost: to read, and for each flow.

use super::*;

#[test]
fn what_is_too_long_or_too_deep_is_refused_on_any_stack() {
    let brackets = |count: usize| format!("{}true{}", "(".repeat(count), ")".repeat(count));
    let lists = |count: usize| format!("{}{} != []", "[".repeat(count), "]".repeat(count));
    let conditions = |count: usize| format!("{}true", "true ? true : ".repeat(count));
    let calls = |count: usize| format!("{}true{}", "bool(".repeat(count), ")".repeat(count));
    let loops = |count: usize| format!("{}true{}", "[1].all(x, ".repeat(count), ")".repeat(count));
    let nots = |count: usize| format!("{}true", "!".repeat(count));
    let sums = |count: usize| format!("1{} > 0", "+1".repeat(count));
    let ors = |count: usize| format!("{}true", "false||".repeat(count));
    let odd = NESTING_MAX + 1;
    let work = move || {
        let flow = denied();
        for text in [
            brackets(NESTING_MAX),
            lists(NESTING_MAX),
            conditions(NESTING_MAX),
            calls(NESTING_MAX),
            loops(NESTING_MAX),
            nots(DEPTH_MAX - 2),
            sums(DEPTH_MAX - 2),
            // A chain is not deep, whatever its length.
            ors(140),
        ] {
            assert_eq!(run(&[&text], &flow).0, Ok(true), "{text}");
        }
        for text in [
            brackets(odd),
            lists(odd),
            conditions(odd),
            calls(odd),
            loops(odd),
            nots(DEPTH_MAX),
            sums(DEPTH_MAX),
            brackets(500),
            "(".repeat(BYTES_MAX),
            "[".repeat(BYTES_MAX),
            "!".repeat(BYTES_MAX),
            "-".repeat(BYTES_MAX),
            format!("''.matches('{}a{}')", "(".repeat(400), ")".repeat(400)),
            format!("true{}", "||'a'.matches('a')".repeat(REGEXES_MAX + 1)),
            "a.".repeat(BYTES_MAX / 2),
            "a[".repeat(BYTES_MAX / 2),
            "a?".repeat(BYTES_MAX / 2),
            "f(".repeat(BYTES_MAX / 2),
            "1+".repeat(BYTES_MAX / 2),
            " ".repeat(BYTES_MAX + 1),
        ] {
            assert!(read(&[&text]).is_err(), "{text}");
        }
    };
    // A quarter of what threads have.
    let thread = std::thread::Builder::new().stack_size(512 << 10);
    thread.spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_flow_costs_a_bounded_number_of_steps() {
    let mut flow = denied();
    let text = "_flow.source.labels.exists(l, l.startsWith('k8s:tier='))";
    let (found, steps) = run(&[text], &flow);
    assert_eq!((found, steps), (Ok(true), 21));
    // A client's loops in loops, and what doubles with each of them.
    let numbers: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    let list = format!("[{}]", numbers.join(","));
    let loops =
        format!("{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, a + b + c + d >= 0))))");
    let lists = format!(
        "[[1, 2]{}].all(v, v == v)",
        ".map(x, [x, x]).map(x, x + x)".repeat(20)
    );
    let items = format!("[[1, 2]]{} == []", ".map(x, x + x)".repeat(30));
    let texts = format!("['0123456789abcdef']{} == []", ".map(x, x + x)".repeat(30));
    flow.source.as_mut().unwrap().labels = vec!["k8s:app=web".into(); 1000];
    let labels = "_flow.source.labels.all(x, x in _flow.source.labels)";
    let patterns = "_flow.source.labels.all(x, x.matches('^(a|k)*8s.*b$'))";
    for text in [&loops, &lists, &items, &texts, labels, patterns] {
        let (found, steps) = run(&[text, "true"], &flow);
        assert!(found.is_err() || text == patterns, "{text}");
        assert!(steps <= STEPS_MAX, "{text}");
    }
    // They share what there is: many cost no more than one.
    let all = vec![loops.as_str(); 32];
    assert!(run(&all, &flow).0.is_err());
    // What was lost is not found again by what decides.
    assert!(run(&[&format!("{loops} || true")], &flow).0.is_err());
    assert!(read(&[r"'a'.matches('(\\w{100}){100}')"]).is_err());
    assert!(holds(r"'web-0'.matches('^\\w+-[0-9]{1,3}$')", &flow));
}
