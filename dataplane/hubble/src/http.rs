//! The listener for metrics and page: open on loopback alone; elsewhere it demands TLS and a token.

use crate::accept;
use crate::servers::Servers;
use crate::tls::TlsSettings;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// How metrics and page are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where.
    pub listen: SocketAddr,
    /// What a reader must know: sent as `Authorization: Bearer TOKEN`, or by a browser as the
    /// password of any user.
    pub token: Option<String>,
    /// Certificates.
    pub tls: Option<TlsSettings>,
}

impl HttpSettings {
    /// That strangers are kept out.
    ///
    /// # Errors
    /// When the address can be reached from elsewhere and TLS or the token is missing.
    pub fn check(&self) -> Result<(), String> {
        if self.listen.ip().is_loopback() {
            return Ok(());
        }
        let missing = match (&self.tls, &self.token) {
            (Some(_), Some(_)) => return Ok(()),
            (None, Some(_)) => "tls",
            (Some(_), None) => "token",
            (None, None) => "tls and token",
        };
        Err(format!(
            "http.listen: {} can be reached from elsewhere: expected http.{missing} with it, or a \
             loopback address",
            self.listen
        ))
    }
}

impl Servers {
    /// Serves these routes, all at one address, until the process ends. Gives the address: of port
    /// 0 the one that was chosen.
    ///
    /// # Errors
    /// What `HttpSettings::check` says, certificates that do not fit, an address that is taken.
    pub fn start_http(
        &self,
        settings: &HttpSettings,
        routers: Vec<Router>,
    ) -> Result<SocketAddr, String> {
        settings.check()?;
        let tls = settings.tls.as_ref().map(TlsSettings::acceptor);
        let tls = tls.transpose().map_err(|e| format!("http.tls: {e}"))?;
        let (listener, address) = self
            .bind(settings.listen)
            .map_err(|e| format!("http.listen: {}: {e}", settings.listen))?;
        let router = routers.into_iter().fold(Router::new(), Router::merge);
        let guarded = router.layer(middleware::from_fn_with_state(
            Arc::new(Guard {
                token: settings.token.clone(),
            }),
            guard,
        ));
        self.spawn(accept::serve_tcp(listener, tls, guarded));
        Ok(address)
    }
}

struct Guard {
    token: Option<String>,
}

async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match &guard.token {
        Some(token) if !has_token(request.headers(), token) => refusal(
            StatusCode::UNAUTHORIZED,
            "a token is needed: http.token of config.yaml\n",
        ),
        // A page of a stranger may have its name point at our loopback address: its requests name
        // that stranger, ours an address.
        None if !is_named_as_local(&request) => refusal(
            StatusCode::FORBIDDEN,
            "ask by address or as localhost, or set http.token in config.yaml\n",
        ),
        _ => next.run(request).await,
    }
}

fn refusal(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        let value = header::HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    if status == StatusCode::UNAUTHORIZED {
        let scheme = header::HeaderValue::from_static("Basic realm=\"portcullis\", Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

fn is_named_as_local(request: &Request) -> bool {
    let host = request
        .uri()
        .host()
        .or_else(|| request.headers().get(header::HOST)?.to_str().ok());
    let Some(host) = host else { return false };
    let without_port = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    without_port.eq_ignore_ascii_case("localhost") || without_port.parse::<IpAddr>().is_ok()
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let Some(value) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let Some((scheme, rest)) = value.split_once(' ') else {
        return false;
    };
    let given = if scheme.eq_ignore_ascii_case("bearer") {
        Some(rest.trim().as_bytes().to_vec())
    } else if scheme.eq_ignore_ascii_case("basic") {
        // USER:PASSWORD, and any user will do.
        decode_base64(rest.trim()).and_then(|pair| {
            let colon = pair.iter().position(|byte| *byte == b':')?;
            Some(pair[colon + 1..].to_vec())
        })
    } else {
        None
    };
    given.is_some_and(|given| is_same(&given, token.as_bytes()))
}

/// Takes as long whatever the first difference.
fn is_same(given: &[u8], expected: &[u8]) -> bool {
    let differences = given
        .iter()
        .zip(expected)
        .fold(0, |seen, (one, other)| seen | (one ^ other));
    given.len() == expected.len() && differences == 0
}

/// [RFC 4648 §4]
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
