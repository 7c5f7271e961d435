//! A headless Chromium on the node of a Lab, told what to do over WebDriver.

use crate::{Lab, PATIENCE, Place, eventually};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// Where the driver listens: in a network of its own, so nobody else does.
const DRIVER: &str = "127.0.0.1:9515";
/// In the private /run of the node, so that nothing is left behind.
const HOME: &str = "/run/chromium";
/// Nothing that asks the outside for anything.
const ARGUMENTS: [&str; 13] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
    "--window-size=1440,960",
    "--user-data-dir=/run/chromium/data",
];

/// A browser with one window.
#[derive(Debug)]
pub struct Browser<'a> {
    node: &'a Place,
    driver: Child,
    session: String,
}

impl<'a> Browser<'a> {
    /// Starts it on the node of a Lab.
    ///
    /// # Panics
    /// When it does not start: packages chromium and chromium-driver are needed.
    #[must_use]
    pub fn start(lab: &'a Lab) -> Self {
        let node = &lab.node;
        node.must(&format!("mkdir -p {HOME}"));
        let port = DRIVER.rsplit_once(':').expect("an address").1;
        let driver = node.spawn_words(
            &[
                "env",
                &format!("HOME={HOME}"),
                "chromedriver",
                &format!("--port={port}"),
                "--log-level=SEVERE",
            ],
            Stdio::null(),
            Stdio::inherit(),
        );
        let mut browser = Self {
            node,
            driver,
            session: String::new(),
        };
        eventually("chromedriver listens", || {
            node.call(|| TcpStream::connect(DRIVER).is_ok())
        });
        let made = browser.ask(
            "POST",
            "/session",
            &json!({"capabilities": {"alwaysMatch": {
                "goog:chromeOptions": {"args": ARGUMENTS},
                "goog:loggingPrefs": {"browser": "ALL"},
            }}}),
        );
        browser.session = format!("/session/{}", made["sessionId"].as_str().expect("an id"));
        browser
    }

    /// Goes to a page.
    pub fn open(&self, address: &str) {
        self.ask_session("POST", "/url", &json!({ "url": address }));
    }

    /// Gives its window another size.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height });
        self.ask_session("POST", "/window/rect", &size);
    }

    /// What a script gives back: the body of a function.
    #[must_use]
    pub fn script(&self, body: &str) -> Value {
        let asked = json!({"script": body, "args": []});
        self.ask_session("POST", "/execute/sync", &asked)
    }

    /// Waits until a script gives back what is expected.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn await_script(&self, body: &str, expected: &Value) {
        let since = std::time::Instant::now();
        loop {
            let found = self.script(body);
            if found == *expected {
                return;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "{body}: expected {expected}, found {found}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Clicks, as a person would: what is covered or not there cannot be clicked.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.ask_session("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Presses keys where the focus is. `\u{e007}` is Enter, `\u{e00c}` Escape, `\u{e015}` Down.
    pub fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})))
            .collect();
        let asked = json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]});
        self.ask_session("POST", "/actions", &asked);
    }

    /// Keeps a picture of the window under `target/page/` and gives its place.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn picture(&self, name: &str) -> PathBuf {
        let picture = self.ask_session("GET", "/screenshot", &Value::Null);
        let bytes = decode_base64(picture.as_str().expect("text"));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/page");
        std::fs::create_dir_all(&folder).expect("the folder of pictures");
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, bytes).expect("the picture");
        path
    }

    /// What the page complained of in the console, since it was asked last.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let log = self.ask_session("POST", "/se/log", &json!({"type": "browser"}));
        let entries = log.as_array().expect("a list").iter();
        entries
            .map(|entry| format!("{}: {}", entry["level"], entry["message"]))
            .collect()
    }

    fn element(&self, selector: &str) -> String {
        let asked = json!({"using": "css selector", "value": selector});
        let found = self.ask_session("POST", "/element", &asked);
        let id = found
            .as_object()
            .and_then(|found| found.values().next()?.as_str());
        id.expect("an element").to_owned()
    }

    fn ask_session(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask(method, &format!("{}{path}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {DRIVER}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = self.node.call(move || exchange(&request));
        let answer = answer.unwrap_or_else(|error| panic!("chromedriver: {path}: {error}"));
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let told: Value = serde_json::from_str(body).expect("JSON");
        let is_good = head.starts_with("HTTP/1.1 200");
        assert!(is_good, "chromedriver: {path}: {}", told["value"]);
        told["value"].clone()
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // The driver takes its browser along; it may have ended by itself.
        if !self.session.is_empty() && !std::thread::panicking() {
            self.ask("DELETE", &self.session, &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn exchange(request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(DRIVER)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(request.as_bytes())?;
    // The driver may keep the connection: what it says of its length counts.
    let (mut answer, mut part) = (Vec::new(), [0; 64 * 1024]);
    loop {
        let count = stream.read(&mut part)?;
        answer.extend_from_slice(&part[..count]);
        if count == 0 || is_whole(&answer) {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|part| part == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|length| length.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}

/// [RFC 4648 §4]
fn decode_base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = LETTERS.iter().position(|known| *known == letter);
        bits = (bits << 6) | u32::try_from(value.expect("base64")).expect("below 64");
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(((bits >> held) & 0xff).try_into().expect("a byte"));
        }
    }
    bytes
}
