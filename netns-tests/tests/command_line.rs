//! What people type and what they get back, where neither a daemon nor root is needed.

use netns_tests::manifests::{ALLOW_FRONTEND, DEFAULT_DENY};
use netns_tests::portcullis;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A directory that is gone after the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).expect("a file");
    }

    fn run(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(portcullis());
        let output: Output = command
            .args(words)
            .current_dir(&self.0)
            .output()
            .expect("it can be started");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it was there");
    }
}

#[test]
fn valid_policies_are_listed_and_the_exit_code_is_0() {
    let directory = Directory::new("valid");
    directory.write(
        "web.yaml",
        &format!("{ALLOW_FRONTEND}\n---\n{DEFAULT_DENY}"),
    );
    let (code, stdout, stderr) = directory.run(&["policy", "check", "web.yaml"]);
    let expected = "ok: web.yaml, document 1: CiliumNetworkPolicy backend/allow-frontend\n\
                    ok: web.yaml, document 2: CiliumNetworkPolicy backend/default-deny\n\
                    1 files, 2 policies: valid\n";
    assert_eq!((code, stdout.as_str()), (Some(0), expected));
    // `ingress: []` means something else to other engines.
    assert!(
        stderr.starts_with("warning: web.yaml, document 2, spec.ingress"),
        "{stderr}"
    );
}

#[test]
fn a_fault_names_file_document_field_expected_and_found_and_the_exit_code_is_1() {
    let directory = Directory::new("fault");
    let wrong_port = ALLOW_FRONTEND.replace("\"80\"", "\"eighty thousand\"");
    directory.write("web.yaml", &format!("{DEFAULT_DENY}\n---\n{wrong_port}"));
    let (code, stdout, stderr) = directory.run(&["policy", "check", "web.yaml"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    let place = "error: web.yaml, document 2, spec.ingress[0].toPorts[0].ports[0].port: expected ";
    assert!(stderr.starts_with(place), "{stderr}");
    assert!(stderr.contains("found \"eighty thousand\""), "{stderr}");
    assert!(stderr.ends_with("error: 1 fault\n"), "{stderr}");
}

#[test]
fn every_fault_of_every_file_is_told() {
    let directory = Directory::new("faults");
    directory.write(
        "a.yaml",
        &ALLOW_FRONTEND.replace("fromEndpoints", "fromEndpoint"),
    );
    directory.write(
        "b.yaml",
        &ALLOW_FRONTEND.replace("protocol: TCP", "protocol: IPX"),
    );
    directory.write("c.yaml", "kind: [");
    let (code, _, stderr) = directory.run(&[
        "policy",
        "check",
        "a.yaml",
        "b.yaml",
        "c.yaml",
        "missing.yaml",
    ]);
    assert_eq!(code, Some(1), "{stderr}");
    for named in [
        "a.yaml, document 1, spec.ingress[0].fromEndpoint",
        "b.yaml, document 1, spec.ingress[0].toPorts[0].ports[0].protocol",
        "c.yaml, line 1, column 7: expected YAML",
        "missing.yaml",
    ] {
        assert!(
            stderr.contains(&format!("error: {named}")),
            "{named} in {stderr}"
        );
    }
}

/// A policy of one egress rule.
fn egress(rule: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: names\n  \
         namespace: a\nspec:\n  endpointSelector: {{}}\n  egress:\n  - {rule}\n"
    )
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let directory = Directory::new("unsupported");
    let groups = egress("toGroups: [{aws: {region: eu-west-1}}]");
    let kafka = ALLOW_FRONTEND.replace(
        "protocol: TCP",
        "protocol: TCP\n      rules:\n        kafka:\n        - topic: orders",
    );
    for (text, field) in [(groups.as_str(), "toGroups"), (kafka.as_str(), "kafka")] {
        directory.write("policy.yaml", text);
        let (code, _, stderr) = directory.run(&["policy", "check", "policy.yaml"]);
        assert_eq!(code, Some(1), "{field}: {stderr}");
        let line = stderr.lines().next().expect("an error");
        assert!(
            line.starts_with("error: policy.yaml, document 1, spec.") && line.contains(field),
            "{stderr}"
        );
    }
}

#[test]
fn what_is_not_enforced_yet_is_warned_of_by_name() {
    let directory = Directory::new("later");
    let names = egress("toFQDNs: [{matchName: example.com}]");
    let http = ALLOW_FRONTEND.replace(
        "protocol: TCP",
        "protocol: TCP\n      rules:\n        http:\n        - method: GET",
    );
    for (text, field) in [(names.as_str(), "toFQDNs"), (http.as_str(), "toPorts[0]")] {
        directory.write("policy.yaml", text);
        let (code, _, stderr) = directory.run(&["policy", "check", "policy.yaml"]);
        assert_eq!(code, Some(0), "{field}: {stderr}");
        let is_warned = stderr.lines().any(|line| {
            line.starts_with("warning: policy.yaml, document 1, spec.")
                && line.contains(field)
                && line.contains("until")
        });
        assert!(is_warned, "{stderr}");
    }
}

#[test]
fn definitions_of_the_kinds_are_printed_as_yaml() {
    let directory = Directory::new("crds");
    let (code, stdout, stderr) = directory.run(&["policy", "crds"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let documents: Vec<_> = stdout.split("---\n").skip(1).collect();
    assert_eq!(documents.len(), 4, "{stdout}");
    for document in documents {
        assert!(
            document.contains("\nkind: CustomResourceDefinition\n"),
            "{document}"
        );
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_by_name_and_the_limits_are_told() {
    let directory = Directory::new("bytes");
    fs::write(
        directory.0.join("web.yaml"),
        b"kind: Pod\nmetadata: {name: \xff\xfe}\n",
    )
    .expect("a file");
    for words in [&["policy", "check", "web.yaml"], &["policy", "check", "."]] {
        let (code, _, stderr) = directory.run(words);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("web.yaml: "), "{stderr}");
        assert!(stderr.contains("UTF-8"), "{stderr}");
    }
    let (code, stdout, _) = directory.run(&["policy", "check", "--help"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("16 MiB"), "{stdout}");
}

#[test]
fn a_wrong_command_line_has_exit_code_2() {
    let directory = Directory::new("wrong");
    for words in [
        &["policy", "check"][..],
        &["observe", "--verdict", "PERHAPS"],
        &["run"],
        &["frobnicate"],
    ] {
        let (code, stdout, stderr) = directory.run(words);
        assert_eq!(
            (code, stdout.as_str()),
            (Some(2), ""),
            "{words:?}: {stderr}"
        );
    }
}

#[test]
fn without_a_daemon_the_exit_code_is_1_and_the_socket_is_named() {
    let directory = Directory::new("nobody");
    for command in ["status", "observe"] {
        let (code, stdout, stderr) = directory.run(&[command, "--socket", "no.sock"]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.starts_with("error: no.sock"), "{stderr}");
    }
}
