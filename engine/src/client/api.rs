//! The admin API, as these commands use it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

/// Time for an answer, from the first attempt to connect. The server itself takes no longer than `admin_wait_ms_max`.
const ANSWER_MS_MAX: u64 = 15_000;

/// Time in which a connection must stand.
const CONNECT_MS_MAX: u64 = 5_000;

/// Bytes of an answer: a thousand messages of a room, each as long as a message may be, are less.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Where the admin API is, and what opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiOptions {
    /// Its address, without a slash at its end.
    pub url: String,
    /// The file of its token.
    pub token: Option<PathBuf>,
}

/// Why the admin API has not done what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody answered.
    #[error(
        "cannot reach the admin API on {url}: {why}; is the server running? name another with --api"
    )]
    Unreachable {
        /// Its address.
        url: String,
        /// What came of it.
        why: String,
    },
    /// It answered with a problem.
    #[error("{detail}{}", hint(*.status))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says itself.
        detail: String,
    },
    /// The answer is none of the admin API.
    #[error("{url} does not answer as an admin API does ({why}); --api names another")]
    Strange {
        /// Its address.
        url: String,
        /// What is odd.
        why: String,
    },
    /// The file of the token holds none.
    #[error("cannot read the token of the admin API in {}: {why} (--api-token)", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl ApiError {
    /// Whether there is no such thing.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether nothing further can succeed either.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(
            self,
            Self::Refused {
                status: 404 | 413 | 422 | 503,
                ..
            }
        )
    }
}

const fn hint(status: u16) -> &'static str {
    match status {
        401 => "; --api-token names the file of the token",
        503 => "; try again in a moment",
        _ => "",
    }
}

/// A problem document (RFC 9457), as far as it is shown.
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

/// The address of an admin API.
///
/// # Errors
/// It is none; the text completes "invalid value".
pub fn parse_url(text: &str) -> Result<String, String> {
    let why = || "it must be an address such as http://127.0.0.1:9001".to_owned();
    let uri: Uri = text.parse().map_err(|_| why())?;
    let speaks_http = matches!(uri.scheme_str(), Some("http" | "https"));
    match speaks_http && uri.host().is_some() && uri.query().is_none() {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(why()),
    }
}

/// A part of a path, with every character escaped that means something there.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// An admin API.
#[derive(Debug)]
pub struct Api {
    url: String,
    authorization: Option<String>,
    agent: Agent,
}

impl Api {
    /// Reads the token, where there is one.
    ///
    /// # Errors
    /// The file holds none.
    pub fn new(options: &ApiOptions) -> Result<Self, ApiError> {
        let token = options.token.as_ref().map(|path| {
            let unusable = |why: String| ApiError::Token {
                path: path.clone(),
                why,
            };
            let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
            let token = text.trim();
            match token.is_empty() || token.bytes().any(|byte| !byte.is_ascii_graphic()) {
                true => Err(unusable("it holds no token".to_owned())),
                false => Ok(format!("Bearer {token}")),
            }
        });
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_millis(ANSWER_MS_MAX)))
            .timeout_connect(Some(Duration::from_millis(CONNECT_MS_MAX)))
            .user_agent(concat!("shardcast/", env!("CARGO_PKG_VERSION")))
            // A server on this host is reached directly, whatever the environment says of proxies.
            .proxy(None)
            .build();
        Ok(Self {
            url: options.url.clone(),
            authorization: token.transpose()?,
            agent: agent.into(),
        })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks for something.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        self.answer(request.call())
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// It was not done.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &str) -> Result<T, ApiError> {
        let request = self.agent.post(format!("{}{path}", self.url));
        let mut request = request.content_type("application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        self.answer(request.send(body))
    }

    fn answer<T: DeserializeOwned>(
        &self,
        response: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, ApiError> {
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let text = body
            .read_to_string()
            .map_err(|error| self.unreachable(&error))?;
        let strange = |why: String| ApiError::Strange {
            url: self.url.clone(),
            why,
        };
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| strange(error.to_string()));
        }
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => Err(ApiError::Refused {
                status: status.as_u16(),
                detail: problem.detail,
            }),
            Err(_) => Err(strange(status.to_string())),
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> ApiError {
        let why = match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "connection refused".to_owned()
            }
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            error => error.to_string(),
        };
        ApiError::Unreachable {
            url: self.url.clone(),
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let cases = [
            ("http://127.0.0.1:9001", Some("http://127.0.0.1:9001")),
            ("https://admin.example/", Some("https://admin.example")),
            ("127.0.0.1:9001", None),
            ("ws://127.0.0.1:9001", None),
            ("http://", None),
            ("http://host/?query", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_url(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn names_in_a_path() {
        assert_eq!(escaped("tea"), "tea");
        assert_eq!(escaped("a/b?c d"), "a%2Fb%3Fc%20d");
        assert_eq!(escaped("é"), "%C3%A9");
    }
}
