//! The admin API of a server, as a client of HTTP sees it.

use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use crate::server::Server;

/// What the server prints before the address of its admin API.
const ADMIN: &str = "admin API on http://";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body, which must be JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text))
    }

    /// The body of a success.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// A header of the answer, empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// What a problem says.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(
            self.content_type, "application/problem+json",
            "{}",
            self.text
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        problem["detail"].as_str().unwrap().to_owned()
    }
}

/// The admin API of one server.
pub(crate) struct Admin {
    pub(crate) address: String,
    agent: Agent,
    token: Option<String>,
}

impl Admin {
    /// Of a server that was started with `--admin`.
    pub(crate) fn of(server: &Server) -> Self {
        let lines = server.output();
        let address = lines.iter().find_map(|line| line.strip_prefix(ADMIN));
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        Self {
            address: address.expect("the server says where").to_owned(),
            agent: agent.into(),
            token: None,
        }
    }

    /// The same with a token.
    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.token = Some(format!("Bearer {token}"));
        self
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.get(self.url(path));
        for (name, value) in headers.iter().copied().chain(self.authorization()) {
            request = request.header(name, value);
        }
        answer(request.call())
    }

    pub(crate) fn head(&self, path: &str) -> Answer {
        answer(self.agent.head(self.url(path)).call())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, body, &[])
    }

    pub(crate) fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let mut request = self
            .agent
            .post(self.url(path))
            .content_type("application/json");
        for (name, value) in headers.iter().copied().chain(self.authorization()) {
            request = request.header(name, value);
        }
        answer(request.send(body.to_string()))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn authorization(&self) -> Option<(&str, &str)> {
        Some(("Authorization", self.token.as_deref()?))
    }
}

fn answer(response: Result<Response<Body>, ureq::Error>) -> Answer {
    let mut response = response.expect("the admin API answers");
    let headers = response.headers().clone();
    let content_type = headers.get("content-type");
    Answer {
        status: response.status().as_u16(),
        content_type: content_type
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default(),
        headers,
        text: response.body_mut().read_to_string().unwrap(),
    }
}
