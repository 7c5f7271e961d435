//! The files of the page, in the binary.

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use include_dir::{Dir, File, include_dir};
use std::hash::{DefaultHasher, Hash, Hasher};

static PAGE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/page");

/// `GET /`.
pub(super) async fn index(headers: HeaderMap) -> Response {
    answer("index.html", &headers)
}

/// `GET /page/{file}`.
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    answer(&name, &headers)
}

fn answer(name: &str, asked: &HeaderMap) -> Response {
    let found = PAGE.get_file(name);
    let (Some(file), Some(kind)) = (found, content_type(name)) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let tag = tag(file);
    let known = asked.get(header::IF_NONE_MATCH);
    let is_known = known
        .and_then(|known| known.to_str().ok())
        .is_some_and(|known| known.split(',').any(|one| one.trim() == tag));
    // Asked for each time, sent only when it changed: a new binary shows at once.
    let about = [
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    let kind = [(header::CONTENT_TYPE, kind)];
    (about, kind, file.contents()).into_response()
}

/// Of this content: whoever has it need not get it again.
fn tag(file: &File<'_>) -> String {
    let mut hasher = DefaultHasher::new();
    file.contents().hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// By the end of the name; None for what is no part of the page.
fn content_type(name: &str) -> Option<&'static str> {
    let (_, kind) = name.rsplit_once('.')?;
    Some(match kind {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}
