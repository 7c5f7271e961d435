//! `/api/flows`: a window of the table, newest first, and what comes while one looks.

use super::filter::RowFilter;
use super::router::Page;
use super::row::Row;
use super::streams;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use portcullis_observe::{Position, Why};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Lines of one answer.
const LINES_MAX: usize = 500;
/// Events that are looked at for one answer: whoever wants more asks again from there.
const LOOKED_MAX: usize = 50_000;
/// Events that are looked at before others have their turn.
const BATCH: usize = 512;
/// How often a stream tells what came.
const PERIOD: Duration = Duration::from_millis(250);
/// Lines that a stream tells at one time; the others are counted.
const LIVE_MAX: usize = 200;
/// Batches that a stream looks at in one period.
const LIVE_BATCHES_MAX: usize = 64;

/// What is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Question {
    filter: String,
    /// Only events with a smaller number.
    before: Option<u64>,
    limit: Option<usize>,
}

/// A part of the table.
#[derive(Debug, Serialize)]
struct Window {
    /// When the daemon started: another one has other numbers.
    started: Timestamp,
    rows: Vec<Row>,
    /// The number after the newest event that was looked at.
    end: u64,
    /// Where to ask on; absent when nothing older is kept.
    next: Option<u64>,
    /// Events that were looked at.
    looked: usize,
}

/// What came while one looked.
#[derive(Debug, Serialize)]
struct News {
    /// When the daemon started.
    started: Timestamp,
    /// Newest first.
    rows: Vec<Row>,
    /// Lines that were too many to be told.
    skipped: usize,
    /// Events that were missed.
    lost: u64,
}

/// `GET /api/flows?filter=…&before=…&limit=…`.
pub(super) async fn window(
    State(page): State<Arc<Page>>,
    Query(question): Query<Question>,
) -> Response {
    let filter = match RowFilter::parse(&question.filter) {
        Ok(filter) => filter,
        Err(fault) => return refusal(fault),
    };
    let limit = question.limit.unwrap_or(100).min(LINES_MAX);
    let mut next = Some(question.before.unwrap_or(u64::MAX));
    let (mut rows, mut looked, mut end) = (Vec::new(), 0, 0);
    while let Some(before) = next
        && rows.len() < limit
        && looked < LOOKED_MAX
    {
        let events = page.sources.history.events_before(before, BATCH);
        next = events.last().map(|event| event.number);
        looked += events.len();
        end = end.max(events.first().map_or(0, |event| event.number + 1));
        for event in &events {
            let row = Row::of(event);
            if filter.matches(&row) {
                rows.push(row);
            }
            if rows.len() == limit {
                next = Some(event.number);
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    let window = Window {
        started: page.sources.node.started,
        rows,
        end,
        next,
        looked,
    };
    Json(window).into_response()
}

/// `GET /api/flows/stream?filter=…`.
pub(super) async fn stream(
    State(page): State<Arc<Page>>,
    Query(question): Query<Question>,
) -> Response {
    let filter = match RowFilter::parse(&question.filter) {
        Ok(filter) => filter,
        Err(fault) => return refusal(fault),
    };
    let start = question.before.map_or(Position::Newest, Position::Number);
    let mut reader = page.sources.history.reader_at(start);
    let started = page.sources.node.started;
    streams::serve(&page.streams, |teller| async move {
        // At once who tells it, whatever there is to tell.
        let mut has_any = true;
        loop {
            let mut news = News {
                started,
                rows: Vec::new(),
                skipped: 0,
                lost: 0,
            };
            for _ in 0..LIVE_BATCHES_MAX {
                let batch = reader.read(BATCH);
                news.lost += batch.lost.map_or(0, |gap| gap.count) + batch.unwritten;
                let rows = batch.events.iter().map(Row::of);
                news.rows.extend(rows.filter(|row| filter.matches(row)));
                let excess = news.rows.len().saturating_sub(LIVE_MAX);
                news.rows.drain(..excess);
                news.skipped += excess;
                if batch.events.is_empty() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            news.rows.reverse();
            has_any |= !news.rows.is_empty() || news.lost > 0;
            if std::mem::take(&mut has_any) && teller.tell("news", &news).await.is_err() {
                return;
            }
            if teller.pause(PERIOD).await.is_err() {
                return;
            }
        }
    })
}

/// An event, and why it is what it is.
#[derive(Debug, Serialize)]
struct Explained {
    row: Row,
    why: Why,
}

/// `GET /api/flow/{number}/why`.
pub(super) async fn why(State(page): State<Arc<Page>>, Path(number): Path<u64>) -> Response {
    let found = page
        .sources
        .history
        .events_before(number.saturating_add(1), 1)
        .pop()
        .filter(|event| event.number == number);
    let Some(event) = found else {
        let text = "this event is not kept any more";
        return (StatusCode::NOT_FOUND, Json(Fault { error: text.into() })).into_response();
    };
    let (row, why) = (Row::of(&event), Why::of(&event));
    Json(Explained { row, why }).into_response()
}

#[derive(Debug, Serialize)]
struct Fault {
    error: String,
}

fn refusal(error: String) -> Response {
    (StatusCode::BAD_REQUEST, Json(Fault { error })).into_response()
}
