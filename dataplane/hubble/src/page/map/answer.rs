//! `/api/map`: the map, or what changed of it since it was told last.

use super::link::{Counts, Link, LinkKey, PortKey};
use super::place::Place;
use super::recent::{Rates, WINDOW_SECONDS};
use super::service_map::{Other, ServiceMap};
use crate::page::router::Page;
use crate::page::streams;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use portcullis_observe::protocol_name;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// How often a stream tells what changed.
const PERIOD: Duration = Duration::from_secs(1);

/// What changed, or all of it.
#[derive(Debug, Serialize)]
pub(crate) struct Delta {
    /// What it is now: whoever has this version needs only what comes later.
    pub(crate) version: u64,
    /// Whether this is all, and whatever else is known is to be forgotten.
    pub(crate) is_whole: bool,
    /// Seconds that rates are about.
    pub(crate) window_seconds: i64,
    /// Places that are new or changed.
    pub(crate) places: Vec<Place>,
    /// Links that are new or changed.
    pub(crate) links: Vec<ToldLink>,
    /// Places that are gone.
    pub(crate) gone_places: Vec<u32>,
    /// Links that are gone.
    pub(crate) gone_links: Vec<u32>,
    /// What found no room.
    pub(crate) other: Other,
    /// Events that were missed.
    pub(crate) lost: u64,
    /// Connections that are open, as far as is known.
    pub(crate) connections: usize,
}

/// A link as it is told.
#[derive(Debug, Serialize)]
pub(crate) struct ToldLink {
    id: u32,
    /// The place that began it.
    from: u32,
    /// The place it was for.
    to: u32,
    /// `TCP`; empty for what could not be read and for further ports.
    protocol: String,
    /// The port; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// Whether it stands for further ports between these two.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_further: bool,
    #[serde(flatten)]
    counts: Counts,
    rates: Rates,
    /// How long handshakes took: the microseconds in the middle of each step, and how many it has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    round_trips: Vec<(u32, u32)>,
    /// Why the last packet was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Second of the first event since 1970.
    first: i64,
    /// Second of the last event.
    last: i64,
}

impl ToldLink {
    fn of(key: &LinkKey, link: &Link, now: i64) -> Self {
        let (protocol, port) = match key.port {
            PortKey::At(protocol, port) => (protocol_name(protocol), Some(port)),
            PortKey::Whole(protocol) => (protocol_name(protocol), None),
            PortKey::Unknown | PortKey::Further => (String::new(), None),
        };
        Self {
            id: link.id,
            from: key.from,
            to: key.to,
            protocol,
            port,
            is_further: key.port == PortKey::Further,
            counts: link.counts,
            rates: link.recent.rates(now, link.first),
            round_trips: link.round_trips.told(),
            reason: link.reason,
            first: link.first,
            last: link.last,
        }
    }
}

impl ServiceMap {
    /// What changed since a version; all of it since version 0 and since one that is too old.
    pub(crate) fn delta(&self, since: u64) -> Delta {
        let is_whole = since == 0 || since < self.gone_before || since > self.version;
        let is_new = |version: u64| is_whole || version > since;
        let gone = |is_link: bool| {
            self.gone
                .iter()
                .filter(|gone| !is_whole && gone.version > since && gone.is_link == is_link)
                .map(|gone| gone.id)
                .collect()
        };
        let mut places: Vec<Place> = self
            .places
            .values()
            .filter(|place| is_new(place.version))
            .cloned()
            .collect();
        places.sort_by_key(|place| place.id);
        let mut links: Vec<ToldLink> = self
            .links
            .iter()
            .filter(|(_, link)| is_new(link.version))
            .map(|(key, link)| ToldLink::of(key, link, self.now.max(link.last)))
            .collect();
        links.sort_by_key(|link| link.id);
        Delta {
            version: self.version,
            is_whole,
            window_seconds: WINDOW_SECONDS,
            places,
            links,
            gone_places: gone(false),
            gone_links: gone(true),
            other: self.other,
            lost: self.lost,
            connections: self.connections(),
        }
    }
}

/// `GET /api/map`.
pub(crate) async fn answer(State(page): State<Arc<Page>>) -> Json<Delta> {
    Json(page.map.lock().delta(0))
}

/// `GET /api/map/stream`.
pub(crate) async fn stream(State(page): State<Arc<Page>>) -> Response {
    let map = page.map.clone();
    streams::serve(&page.streams, |teller| async move {
        let mut known = 0;
        loop {
            let delta = {
                let map = map.lock();
                (map.version != known).then(|| map.delta(known))
            };
            if let Some(delta) = delta {
                known = delta.version;
                if teller.tell("delta", &delta).await.is_err() {
                    return;
                }
            }
            if teller.pause(PERIOD).await.is_err() {
                return;
            }
        }
    })
}
