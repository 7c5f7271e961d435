//! The routes as a browser sees them.

use super::{PageSources, router};
use crate::metrics::Figures;
use crate::{Agent, AgentLog, NodeName, Sources};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, StatusCode, header};
use jiff::Timestamp;
use portcullis_engine::{Drop, EndpointId, Record, RecordKind};
use portcullis_observe::{Event, History, Names};
use portcullis_policy::Protocol;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

struct Still(Arc<Names>);

impl Agent for Still {
    fn names(&self) -> Arc<Names> {
        Arc::clone(&self.0)
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }
}

/// A page about two pods, one of which was denied the other twice and allowed once.
fn page() -> (Router, Arc<History>) {
    let mut names = Names::default();
    for (id, namespace, name) in [(1, "frontend", "web"), (2, "backend", "api")] {
        names
            .endpoints
            .insert(EndpointId(id), (namespace.into(), name.into(), None));
    }
    let names = Arc::new(names);
    let history = Arc::new(History::new(100));
    let event = |kind, port| {
        let record = Record {
            kind,
            from: Some(EndpointId(1)),
            to: Some(EndpointId(2)),
            protocol: Some(Protocol::Tcp),
            ports: (40_000, port),
            ..Record::BLANK
        };
        Event::new(Timestamp::now(), record, Arc::clone(&names))
    };
    let denied = RecordKind::Drop(Drop::PolicyDenied);
    history.extend([
        event(RecordKind::Flow, 80),
        event(denied, 8080),
        event(denied, 22),
    ]);
    let sources = Sources {
        history: Arc::clone(&history),
        agent: Arc::new(Still(names)),
        node: NodeName {
            name: "here".into(),
            cluster: "default".into(),
            started: Timestamp::now(),
        },
        log: Arc::new(AgentLog::new(Timestamp::now())),
    };
    let status = Arc::new(|| json!({"generation": 7, "is_ready": true, "workers": []}));
    let routes = router(PageSources { sources, status }, || {}).expect("a thread");
    (routes, history)
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

async fn ask(routes: &Router, request: Request<Body>) -> Response<Body> {
    let answer = routes.clone().oneshot(request).await;
    answer.unwrap_or_else(|never| match never {})
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("a request")
}

async fn json_of(routes: &Router, path: &str) -> (StatusCode, Value) {
    let answer = ask(routes, get(path)).await;
    let status = answer.status();
    let bytes = to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

#[test]
fn files_come_with_their_kind_and_nothing_else_may_run() {
    let (routes, _) = page();
    wait(async {
        for (path, kind) in [
            ("/", "text/html; charset=utf-8"),
            ("/page/main.js", "text/javascript; charset=utf-8"),
            ("/page/style.css", "text/css; charset=utf-8"),
            ("/page/icon.svg", "image/svg+xml"),
        ] {
            let answer = ask(&routes, get(path)).await;
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            let headers = answer.headers();
            assert_eq!(headers[header::CONTENT_TYPE], kind, "{path}");
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str();
            let policy = policy.expect("text");
            assert!(policy.starts_with("default-src 'self';"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            let tag = headers[header::ETAG].clone();
            let mut again = get(path);
            again.headers_mut().insert(header::IF_NONE_MATCH, tag);
            let answer = ask(&routes, again).await;
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{path}");
        }
        for path in [
            "/page/none.js",
            "/page/..%2fCargo.toml",
            "/page/",
            "/Cargo.toml",
        ] {
            let answer = ask(&routes, get(path)).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        }
    });
}

#[test]
fn the_page_only_reads() {
    let (routes, _) = page();
    wait(async {
        for path in [
            "/",
            "/api/map",
            "/api/flows",
            "/api/policies",
            "/api/status",
        ] {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let mut request = get(path);
                *request.method_mut() = method;
                let answer = ask(&routes, request).await;
                assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            }
        }
    });
}

#[test]
fn modules_fetch_nothing_from_elsewhere_and_set_no_markup() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/page");
    for entry in std::fs::read_dir(folder).expect("the page") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for never in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "http://",
            "https://",
            "style=",
            "onclick=",
        ] {
            assert!(!text.contains(never), "{never} in {}", path.display());
        }
    }
}

#[test]
fn the_table_is_newest_first_and_goes_on_where_it_stopped() {
    let (routes, _) = page();
    wait(async {
        let ports = |found: &Value| -> Vec<u64> {
            let rows = found["rows"].as_array().expect("rows").iter();
            rows.filter_map(|row| row["destination"]["port"].as_u64())
                .collect()
        };
        let (_, all) = json_of(&routes, "/api/flows").await;
        assert_eq!(ports(&all), [22, 8080, 80]);
        let (_, first) = json_of(&routes, "/api/flows?limit=2").await;
        assert_eq!(ports(&first), [22, 8080]);
        let next = format!("/api/flows?limit=2&before={}", first["next"]);
        assert_eq!(ports(&json_of(&routes, &next).await.1), [80]);
        let (_, denied) =
            json_of(&routes, "/api/flows?filter=verdict%3DDROPPED+to:port%3D22").await;
        assert_eq!(ports(&denied), [22]);
        let (status, fault) = json_of(&routes, "/api/flows?filter=nonsense").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(
            fault["error"]
                .as_str()
                .is_some_and(|text| text.contains("found \"nonsense\""))
        );
        let why = format!("/api/flow/{}/why", all["rows"][0]["number"]);
        let (status, why) = json_of(&routes, &why).await;
        assert_eq!(
            (status, &why["why"]["verdict"]),
            (StatusCode::OK, &json!("DROPPED"))
        );
        let (status, _) = json_of(&routes, "/api/flow/999/why").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn the_map_and_the_node_are_told() {
    let (routes, history) = page();
    wait(async {
        let mut map = Value::Null;
        for _ in 0..500 {
            map = json_of(&routes, "/api/map").await.1;
            if map["links"]
                .as_array()
                .is_some_and(|links| links.len() == 3)
            {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(map["places"].as_array().map(Vec::len), Some(2), "{map}");
        assert_eq!(map["links"][1]["reason"], "policy_denied", "{map}");
        let (_, status) = json_of(&routes, "/api/status").await;
        assert_eq!(status["daemon"], json!({"generation": 7, "is_ready": true}));
        assert_eq!(
            (&status["node"], &status["kept"]),
            (&json!("here"), &json!(3))
        );
        let (_, policies) = json_of(&routes, "/api/policies").await;
        assert_eq!(policies["policies"], json!([]));
    });
    history.close();
}
