//! The server's answers: 101, or an error and the end of the connection (RFC 6455 §4.2.2, RFC 9110 §15).

use std::borrow::Cow;

use bytes::Bytes;
use tungstenite::handshake::derive_accept_key;

use super::headers;
use super::request::UpgradeRequest;
use crate::ws::deflate::Agreement;

/// The 101 that opens the session.
///
/// `protocol` is the subprotocol chosen. It is named only when the client offered it: a client must fail the
/// connection when it is answered any other, and nothing but the client's own token gets into the headers.
///
/// `deflate` is what was agreed about compressed messages, from the same request.
#[must_use]
pub fn response(
    request: &UpgradeRequest<'_>,
    protocol: Option<&str>,
    deflate: Option<&Agreement>,
) -> Bytes {
    let mut answer = String::with_capacity(320);
    answer.push_str(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    headers::push(
        &mut answer,
        "Sec-WebSocket-Accept",
        &derive_accept_key(request.key().as_bytes()),
    );
    let chosen = protocol.and_then(|chosen| request.protocols().find(|offered| *offered == chosen));
    if let Some(chosen) = chosen.filter(|chosen| headers::is_token(chosen)) {
        headers::push(&mut answer, "Sec-WebSocket-Protocol", chosen);
    }
    if let Some(agreement) = deflate {
        headers::push(
            &mut answer,
            "Sec-WebSocket-Extensions",
            &agreement.to_string(),
        );
    }
    answer.push_str("\r\n");
    Bytes::from(answer)
}

/// Why a request is not an upgrade request, or did not become one in time. The text is the body of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Not HTTP, or not the way HTTP is written.
    #[error("the request is not valid HTTP/1.1")]
    Malformed,
    /// Another version of HTTP.
    #[error("a WebSocket handshake is an HTTP/1.1 request")]
    HttpVersion,
    /// Another method than GET.
    #[error("only GET opens a WebSocket")]
    Method,
    /// No `Host`, an empty one, or several.
    #[error("the request needs exactly one Host header")]
    Host,
    /// An ordinary GET.
    #[error("this address speaks WebSocket: the request needs `Upgrade: websocket`")]
    NotUpgrade,
    /// An upgrade to something else.
    #[error("the Upgrade header must name websocket")]
    Upgrade,
    /// `Connection` does not name `Upgrade`.
    #[error("the Connection header must name Upgrade")]
    Connection,
    /// No `Sec-WebSocket-Key`, several, or not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
    /// Another version of the WebSocket protocol.
    #[error("only version 13 of the WebSocket protocol is spoken here")]
    Version,
    /// `Sec-WebSocket-Extensions` is not written as RFC 6455 §9.1 says.
    #[error("the Sec-WebSocket-Extensions header is malformed")]
    Extensions,
    /// The head is larger than the session's limit.
    #[error("the request is too large")]
    TooLarge,
    /// The head has more headers than the session's limit.
    #[error("the request has too many headers")]
    TooManyHeaders,
    /// The request was not whole in time. Whoever holds the clock says so: a session never does.
    #[error("the request took too long to arrive")]
    TimedOut,
}

impl Rejection {
    /// The status of the answer and its reason phrase.
    #[must_use]
    pub const fn status(&self) -> (u16, &'static str) {
        match self {
            Self::Malformed
            | Self::HttpVersion
            | Self::Host
            | Self::Upgrade
            | Self::Connection
            | Self::Key
            | Self::Extensions => (400, "Bad Request"),
            Self::Method => (405, "Method Not Allowed"),
            Self::TimedOut => (408, "Request Timeout"),
            Self::NotUpgrade | Self::Version => (426, "Upgrade Required"),
            Self::TooLarge | Self::TooManyHeaders => (431, "Request Header Fields Too Large"),
        }
    }

    /// The whole answer. The connection is to be closed after it.
    #[must_use]
    pub fn response(&self) -> Bytes {
        // A sender of `Upgrade` must name it in `Connection` too (RFC 9110 §7.8).
        let headers: &[(&str, &str)] = match self {
            Self::Method => &[("Allow", "GET")],
            Self::NotUpgrade | Self::Version => &[
                ("Connection", "upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
            ],
            _ => &[],
        };
        error_answer(self.status(), headers, &self.to_string())
    }
}

/// The status of a [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalStatus {
    /// 400: a parameter of the request is wrong.
    BadRequest,
    /// 401: no token, or not a valid one.
    Unauthorized,
    /// 403: the origin, or the user, is not allowed.
    Forbidden,
    /// 404: nothing is at this path.
    NotFound,
    /// 429: too many connections.
    TooManyRequests,
    /// 503: the server is full or going down.
    Unavailable,
}

impl RefusalStatus {
    /// The status and its reason phrase.
    #[must_use]
    pub const fn status(self) -> (u16, &'static str) {
        match self {
            Self::BadRequest => (400, "Bad Request"),
            Self::Unauthorized => (401, "Unauthorized"),
            Self::Forbidden => (403, "Forbidden"),
            Self::NotFound => (404, "Not Found"),
            Self::TooManyRequests => (429, "Too Many Requests"),
            Self::Unavailable => (503, "Service Unavailable"),
        }
    }
}

/// The answer to a valid upgrade request that is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal it is.
    pub status: RefusalStatus,
    /// Why, for people: the body of the answer.
    pub text: Cow<'static, str>,
    /// Seconds after which another try may succeed.
    pub retry_after_seconds: Option<u32>,
    /// Whether it is the token that is to blame (RFC 6750 §3.1); the text then says why, in the challenge too.
    pub invalid_token: bool,
}

impl Refusal {
    /// A refusal that says nothing about another try.
    #[must_use]
    pub fn new(status: RefusalStatus, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            text: text.into(),
            retry_after_seconds: None,
            invalid_token: false,
        }
    }

    /// 401, because of the token that came.
    #[must_use]
    pub fn invalid_token(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            invalid_token: true,
            ..Self::new(RefusalStatus::Unauthorized, text)
        }
    }

    /// The same refusal with a `Retry-After`.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        Self {
            retry_after_seconds: Some(seconds),
            ..self
        }
    }

    /// The whole answer. The connection is to be closed after it.
    #[must_use]
    pub fn response(&self) -> Bytes {
        let retry_after = self.retry_after_seconds.map(|seconds| seconds.to_string());
        let challenge = self.challenge();
        let mut headers = Vec::new();
        if let Some(seconds) = &retry_after {
            headers.push(("Retry-After", seconds.as_str()));
        }
        if self.status == RefusalStatus::Unauthorized {
            // A 401 must name a scheme (RFC 9110 §15.5.2).
            headers.push(("WWW-Authenticate", challenge.as_str()));
        }
        error_answer(self.status.status(), &headers, &self.text)
    }

    fn challenge(&self) -> String {
        if !self.invalid_token {
            return "Bearer".to_owned();
        }
        // What may stand between the quotes (RFC 6750 §3).
        let may_stand =
            |character: &char| matches!(character, ' '..='~') && !matches!(character, '"' | '\\');
        let description: String = self.text.chars().filter(may_stand).collect();
        format!(r#"Bearer error="invalid_token", error_description="{description}""#)
    }
}

fn error_answer((code, reason): (u16, &str), headers: &[(&str, &str)], text: &str) -> Bytes {
    let mut answer = String::with_capacity(256 + text.len());
    answer.push_str(&format!("HTTP/1.1 {code} {reason}\r\n"));
    headers::push(&mut answer, "Connection", "close");
    for (name, value) in headers {
        headers::push(&mut answer, name, value);
    }
    headers::push(&mut answer, "Content-Type", "text/plain; charset=utf-8");
    let length = text.len() + "\n".len();
    headers::push(&mut answer, "Content-Length", &length.to_string());
    answer.push_str("\r\n");
    answer.push_str(text);
    answer.push('\n');
    Bytes::from(answer)
}
