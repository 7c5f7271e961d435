//! `portcullis observe --input-file`, run as people do.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

const FLOWS: &str = r#"
{"flow":{"time":"2026-11-28T12:00:00Z","uuid":"a","verdict":"DROPPED","source":{"pod_name":"web-0","labels":["k8s:app=web"]},"l4":{"TCP":{"destination_port":5432}}}}
{"flow":{"time":"2026-11-28T12:00:01Z","uuid":"b","verdict":"FORWARDED","source":{"pod_name":"web-1","labels":["k8s:app=web"]},"l4":{"TCP":{"destination_port":80}}}}
{"flow":{"time":"2026-11-28T12:00:02Z","uuid":"c","verdict":"DROPPED","source":{"pod_name":"db-0"},"l4":{"UDP":{"destination_port":53}}}}
"#;

/// What it says of these flows.
fn observe(name: &str, words: &[&str]) -> Output {
    let file: PathBuf = std::env::temp_dir().join(format!("{name}-{}.json", std::process::id()));
    fs::write(&file, FLOWS).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["observe", "--input-file"])
        .arg(&file)
        .args(["-o", "jsonpb"])
        .args(words)
        .output();
    fs::remove_file(&file).expect("the file");
    output.expect("portcullis")
}

fn told(name: &str, words: &[&str]) -> Vec<String> {
    let output = observe(name, words);
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).expect("text");
    let uuid = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line["flow"]["uuid"].as_str().unwrap_or_default().to_owned()
    };
    lines.lines().map(uuid).collect()
}

#[test]
fn an_expression_chooses_what_the_flag_for_the_same_field_chooses() {
    let by_flag = told("flag", &["--verdict", "DROPPED"]);
    assert_eq!(by_flag, ["a", "c"]);
    let is_dropped = "_flow.verdict == Verdict.DROPPED";
    assert_eq!(told("same", &["--cel-expression", is_dropped]), by_flag);
    // With other flags both must hold; of two expressions, one.
    let web = "'k8s:app=web' in _flow.source.labels";
    let both = ["--verdict", "DROPPED", "--cel-expression", web];
    assert_eq!(told("both", &both), ["a"]);
    let udp = "has(_flow.l4.UDP)";
    let either = ["--cel-expression", udp, "--cel-expression", web];
    assert_eq!(told("either", &either), ["a", "b", "c"]);
    assert_eq!(told("not", &["--not", "--cel-expression", web]), ["c"]);
}

#[test]
fn an_expression_that_is_not_understood_is_refused_with_its_place() {
    let output = observe("refused", &["--cel-expression", "_flow.verdit == 1"]);
    assert!(!output.status.success(), "{output:?}");
    let words = String::from_utf8(output.stderr).expect("text");
    let expected = "--cel-expression: expected a field of flow.Flow, found \
                    \"verdit\", at character 6 of \"_flow.verdit == 1\"";
    assert!(words.contains(expected), "{words}");
}
