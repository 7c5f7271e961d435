use super::*;
use axum::routing::get;
use std::io::{Read, Write};
use std::net::TcpStream;

fn settings(listen: &str, token: Option<&str>) -> HttpSettings {
    HttpSettings {
        listen: listen.parse().unwrap(),
        token: token.map(str::to_owned),
        tls: None,
    }
}

fn ask(address: SocketAddr, host: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn routes() -> Vec<Router> {
    vec![
        Router::new().route("/metrics", get(|| async { "counted\n" })),
        Router::new().route("/", get(|| async { "page\n" })),
    ]
}

#[test]
fn an_address_that_others_reach_needs_certificates_and_a_token() {
    let error = settings("0.0.0.0:8080", None).check().unwrap_err();
    assert_eq!(
        error,
        "http.listen: 0.0.0.0:8080 can be reached from elsewhere: expected http.tls and token with \
         it, or a loopback address"
    );
    let error = settings("[::]:80", Some("secret")).check().unwrap_err();
    assert!(error.contains("expected http.tls with it"), "{error}");
    for local in ["127.0.0.1:0", "[::1]:80"] {
        assert_eq!(settings(local, None).check(), Ok(()));
    }
}

#[test]
fn on_loopback_who_asks_by_address_is_served_and_a_strangers_name_is_not() {
    let servers = Servers::new(|| {}).unwrap();
    let address = servers
        .start_http(&settings("127.0.0.1:0", None), routes())
        .unwrap();
    for host in ["127.0.0.1", "localhost:80", "[::1]:9"] {
        assert!(ask(address, host, "").ends_with("counted\n"), "{host}");
    }
    assert!(ask(address, "evil.example:80", "").starts_with("HTTP/1.1 403 "));
}

#[test]
fn a_token_opens_as_bearer_and_as_password_and_nothing_else_does() {
    let servers = Servers::new(|| {}).unwrap();
    let address = servers
        .start_http(&settings("127.0.0.1:0", Some("open sesame")), routes())
        .unwrap();
    for (header, status) in [
        ("", "401"),
        ("Authorization: Bearer open\r\n", "401"),
        ("Authorization: Bearer open sesame\r\n", "200"),
        // anyone:open sesame
        ("Authorization: Basic YW55b25lOm9wZW4gc2VzYW1l\r\n", "200"),
        // anyone:closed
        ("Authorization: Basic YW55b25lOmNsb3NlZA==\r\n", "401"),
        ("Authorization: Basic !!\r\n", "401"),
    ] {
        let answer = ask(address, "any.example", header);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{header}: {answer}"
        );
        let is_text = answer.contains("content-type: text/plain; charset=utf-8\r\n")
            && (status == "200" || answer.contains("x-content-type-options: nosniff\r\n"));
        assert!(is_text, "{answer}");
    }
}

#[test]
fn strangers_who_say_nothing_or_know_no_token_do_not_hold_all_places() {
    let servers = Servers::new(|| {}).unwrap();
    let address = servers
        .start_http(&settings("127.0.0.1:0", Some("open sesame")), routes())
        .unwrap();
    // A connection that was let in stays, however long nothing is asked.
    let mut friend = TcpStream::connect(address).unwrap();
    let question = b"GET /metrics HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer open sesame\r\n\r\n";
    friend.write_all(question).unwrap();
    let mut part = [0; 12];
    friend.read_exact(&mut part).unwrap();
    assert_eq!(&part, b"HTTP/1.1 200");
    let strangers = || -> Vec<TcpStream> {
        (0..300)
            .map(|number| {
                let mut stream = TcpStream::connect(address).unwrap();
                let said: &[u8] = match number % 3 {
                    0 => b"",
                    1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
                    _ => b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n",
                };
                stream.write_all(said).unwrap();
                stream
            })
            .collect()
    };
    let held = strangers();
    let known = "Authorization: Bearer open sesame\r\n";
    assert!(ask(address, "any.example", known).starts_with("HTTP/1.1 200 "));
    drop(held);
    friend.write_all(question).unwrap();
    let mut rest = [0; 4096];
    let mut answer = String::new();
    while !answer.contains("HTTP/1.1 200") {
        let count = friend.read(&mut rest).unwrap();
        assert!(count > 0, "closed after {answer}");
        answer.push_str(&String::from_utf8_lossy(&rest[..count]));
    }
}

#[test]
fn a_request_without_an_end_is_refused() {
    let servers = Servers::new(|| {}).unwrap();
    let address = servers
        .start_http(&settings("127.0.0.1:0", None), routes())
        .unwrap();
    let long = "x".repeat(1 << 16);
    for start in [
        format!(
            "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            long.repeat(2)
        ),
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nA: {}",
            long.repeat(32)
        ),
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        // It may hang up before it has heard everything.
        let _ = stream.write_all(start.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let is_refused = ["HTTP/1.1 414 ", "HTTP/1.1 431 "]
            .iter()
            .any(|refusal| answer.starts_with(refusal));
        assert!(answer.is_empty() || is_refused, "{answer}");
    }
    assert!(ask(address, "localhost", "").ends_with("counted\n"));
}
