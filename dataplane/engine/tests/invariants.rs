//! The rules of the house, read off the sources: what the pure crates may not touch, which way
//! imports point, how long files and functions are.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// What a pure crate may not name outside its tests.
const FORBIDDEN: &[&str] = &[
    "std::fs",
    "std::io",
    "std::net::Tcp",
    "std::net::Udp",
    "std::net::ToSocketAddrs",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime",
    "std::thread",
    "std::process",
    "std::env",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "unsafe ",
    "rand::",
    "println!",
    "eprintln!",
    "dbg!(",
    "todo!(",
    "unimplemented!(",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_path_buf()
}

/// The Rust sources below a folder, tests left out, with their names.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_some_and(|name| name != "tests.rs")
        {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, without_tests(&text)));
        }
    }
    found
}

fn pure_sources() -> Vec<(PathBuf, String)> {
    let mut all = sources(&root().join("policy/src"));
    all.extend(sources(&root().join("dataplane/engine/src")));
    assert!(all.len() > 20, "only {} sources found", all.len());
    all
}

/// The text before the test module, which stands last.
fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]").next().unwrap().to_owned()
}

/// A line without its comment, and without what is quoted in it.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut is_quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if is_quoted => {
                characters.next();
            }
            '"' => is_quoted = !is_quoted,
            '/' if !is_quoted && characters.peek() == Some(&'/') => break,
            other if !is_quoted => code.push(other),
            _ => {}
        }
    }
    code
}

fn forbidden_in(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = code_of(line);
        for word in FORBIDDEN {
            if code.contains(word) {
                found.push((number + 1, *word));
            }
        }
    }
    found
}

/// Functions of a text that rustfmt has laid out, with their lines: from `fn` to the closing
/// brace at the same depth of indentation.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let is_function = [
            "fn ",
            "pub fn ",
            "const fn ",
            "pub const fn ",
            "pub(crate) fn ",
        ]
        .iter()
        .chain(&["pub(crate) const fn ", "pub(super) fn "])
        .any(|opening| code.starts_with(opening));
        if !is_function || code.ends_with('}') {
            continue;
        }
        let closing = format!("{}}}", &line[..line.len() - code.len()]);
        if let Some(length) = lines[start..].iter().position(|line| *line == closing) {
            found.push((start + 1, length + 1));
        }
    }
    found
}

fn code_lines(text: &str) -> usize {
    text.lines()
        .filter(|line| !code_of(line).trim().is_empty())
        .count()
}

/// The names in the dependency tables of a manifest, those for tests left out.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut is_inside = false;
    let mut found = Vec::new();
    let lines = manifest.lines().map(str::trim);
    for line in lines.filter(|line| !line.starts_with('#')) {
        if line.starts_with('[') {
            is_inside = line == "[dependencies]" || line.starts_with("[target.");
        } else if is_inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            found.push(name.to_owned());
        }
    }
    found
}

#[test]
fn the_pure_crates_touch_no_world() {
    for (path, text) in pure_sources() {
        assert_eq!(forbidden_in(&text), vec![], "{}", path.display());
    }
}

#[test]
fn files_and_functions_stay_short() {
    for (path, text) in pure_sources() {
        let lines = code_lines(&text);
        assert!(lines <= FILE_LINES_MAX, "{}: {lines} lines", path.display());
        for (line, length) in functions(&text) {
            let place = format!("{}:{line}", path.display());
            assert!(length <= FUNCTION_LINES_MAX, "{place}: {length} lines");
        }
    }
}

#[test]
fn imports_point_one_way() {
    let ours = [
        "portcullis",
        "portcullis-engine",
        "portcullis-policy",
        "xdp-redirect",
        "portcullis-benches",
        "netns-tests",
    ];
    let rooms: [(&str, &[&str]); 3] = [
        ("policy", &[]),
        ("dataplane/engine", &["portcullis-policy"]),
        ("xdp-redirect", &[]),
    ];
    for (room, permitted) in rooms {
        let manifest = fs::read_to_string(root().join(room).join("Cargo.toml")).unwrap();
        let imported: Vec<String> = dependencies(&manifest)
            .into_iter()
            .filter(|name| ours.contains(&name.as_str()))
            .collect();
        assert_eq!(imported, permitted, "{room}");
    }
}

#[test]
fn the_pure_crates_depend_on_nothing_that_touches_the_world() {
    let permitted = [
        "portcullis-policy",
        "etherparse",
        "hashbrown",
        "siphasher",
        "serde",
        "serde_json",
        "serde-saphyr",
        "serde_path_to_error",
        "strsim",
        "regex",
    ];
    for room in ["policy", "dataplane/engine"] {
        let manifest = fs::read_to_string(root().join(room).join("Cargo.toml")).unwrap();
        let imported = dependencies(&manifest);
        assert!(!imported.is_empty(), "{room}");
        for name in imported {
            assert!(permitted.contains(&name.as_str()), "{room}: {name} is new");
        }
    }
}

#[test]
fn bytes_of_a_forwarded_frame_change_in_one_place_only() {
    // `finish_checksum` and `segment` finish and copy; answers are new frames; `translate` is the
    // part of rewriting that changes addresses.
    let writers = [
        "arp.rs",
        "checksum.rs",
        "icmp_error.rs",
        "neighbour_discovery.rs",
        "translate.rs",
    ];
    for (path, text) in sources(&root().join("dataplane/engine/src")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "rewrite.rs" || name == "segment.rs" || writers.contains(&name) {
            continue;
        }
        assert!(!text.contains("frame.head["), "{name} writes to a frame");
    }
}

#[test]
fn policy_is_asked_in_one_place_only() {
    for (path, text) in sources(&root().join("dataplane/engine/src")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_asking = text
            .lines()
            .map(code_of)
            .any(|code| code.contains(".judge(") || code.contains(".judge_audit("));
        assert_eq!(is_asking, name == "decide.rs", "{name}");
    }
}

#[test]
fn the_reading_of_sources_finds_what_it_looks_for() {
    let text = "use std::fs;\n// std::env\nlet a = \"std::io\";\nfn a() {\n    b();\n}\n";
    assert_eq!(forbidden_in(text), vec![(1, "std::fs")]);
    assert_eq!(functions(text), vec![(4, 3)]);
    assert_eq!(code_lines(text), 5);
    let manifest = "[dependencies]\na.workspace = true\nb = \"1\"\n[dev-dependencies]\nc = \"1\"\n";
    assert_eq!(dependencies(manifest), vec!["a", "b"]);
}
