//! `shardcast publish`: a message to a room or a user, or one for each line.

use std::io::{self, BufRead, Read as _, Write as _};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ClientError;
use super::api::{Api, ApiOptions, escaped};
use super::text::harmless;

/// Bytes of a line of standard input. A longer one is not published: no server takes as much in one message.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// What the command was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Through which admin API.
    pub api: ApiOptions,
    /// To whom.
    pub target: Target,
    /// What; `-` stands for the lines of standard input.
    pub content: String,
    /// How that is to be understood.
    pub form: Content,
    /// In whose name.
    pub sender: Option<String>,
    /// What makes a repeat harmless.
    pub id: Option<String>,
}

/// To whom is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All who are in a room.
    Room(String),
    /// Every connection of a user.
    User(String),
}

/// What the content is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// An object or an array of JSON is what it is; anything else is text, `42` and `true` too.
    Either,
    /// A JSON value of any kind.
    Json,
    /// Text.
    Text,
}

/// The content was to be JSON.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{}` is not JSON: {error}; without --json it would be published as text",
    harmless(content)
)]
pub struct NotJson {
    content: String,
    error: serde_json::Error,
}

impl Content {
    /// The JSON that is published for a text.
    ///
    /// # Errors
    /// It was to be JSON and is not.
    fn json(self, text: &str) -> Result<Box<RawValue>, NotJson> {
        let parsed = match self {
            Self::Text => None,
            Self::Json => Some(text),
            Self::Either => Some(text).filter(|text| text.trim_start().starts_with(['{', '['])),
        };
        match parsed.map(serde_json::from_str::<Box<RawValue>>) {
            Some(Ok(json)) => Ok(json),
            Some(Err(error)) if self == Self::Json => Err(NotJson {
                content: text.to_owned(),
                error,
            }),
            _ => {
                RawValue::from_string(serde_json::Value::from(text).to_string()).map_err(|error| {
                    NotJson {
                        content: text.to_owned(),
                        error,
                    }
                })
            }
        }
    }
}

/// A message as the admin API takes it.
#[derive(Serialize)]
struct Message<'a> {
    content: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

/// Its place.
#[derive(Deserialize)]
struct Receipt {
    epoch: u64,
    seq: u64,
    duplicate: bool,
}

/// Publishes, and prints the place of each message.
///
/// # Errors
/// Nothing was published, or of lines no more can be.
pub fn run(options: &Options) -> Result<ExitCode, ClientError> {
    let publisher = Publisher {
        api: Api::new(&options.api)?,
        path: options.target.path(),
        options,
    };
    if options.content == "-" {
        return publisher.publish_lines(&mut io::stdin().lock());
    }
    publisher.publish(&options.content, options.id.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

impl Target {
    fn path(&self) -> String {
        match self {
            Self::Room(room) => format!("/v1/rooms/{}/messages", escaped(room)),
            Self::User(user) => format!("/v1/users/{}/messages", escaped(user)),
        }
    }
}

struct Publisher<'a> {
    api: Api,
    path: String,
    options: &'a Options,
}

impl Publisher<'_> {
    fn publish(&self, text: &str, id: Option<&str>) -> Result<(), ClientError> {
        let content = self.options.form.json(text)?;
        let message = Message {
            content: &content,
            user: self.options.sender.as_deref(),
            id,
        };
        // Strings and raw JSON always become JSON.
        let body = serde_json::to_string(&message).map_err(io::Error::from)?;
        let Receipt {
            epoch,
            seq,
            duplicate,
        } = self.api.post(&self.path, &body)?;
        let repeat = if duplicate { " (published before)" } else { "" };
        writeln!(io::stdout(), "{epoch}.{seq}{repeat}")?;
        Ok(())
    }

    /// Every line stands for itself: one that is refused is named, and the next ones are published all the same.
    fn publish_lines(&self, lines: &mut impl BufRead) -> Result<ExitCode, ClientError> {
        let mut outcome = ExitCode::SUCCESS;
        for number in 1_u64.. {
            let mut line = Vec::new();
            lines
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)?;
            if line.is_empty() {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            let id = self.options.id.as_ref().map(|id| format!("{id}/{number}"));
            match self.publish(text, id.as_deref()) {
                Ok(()) => {}
                Err(ClientError::Api(error)) if error.is_final() => return Err(error.into()),
                Err(ClientError::Terminal(error)) => return Err(error.into()),
                Err(error) => {
                    eprintln!("error: line {number}: {error}");
                    outcome = ExitCode::FAILURE;
                }
            }
        }
        Ok(outcome)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_for_a_text() {
        let cases = [
            (Content::Either, "hello", Some(r#""hello""#)),
            (
                Content::Either,
                r#"{"text": "hi"}"#,
                Some(r#"{"text": "hi"}"#),
            ),
            (Content::Either, "[1, 2]", Some("[1, 2]")),
            (Content::Either, "42", Some(r#""42""#)),
            (Content::Either, "true", Some(r#""true""#)),
            (Content::Either, "{not json", Some(r#""{not json""#)),
            (Content::Either, "", Some(r#""""#)),
            (Content::Json, "42.10", Some("42.10")),
            (Content::Json, "hello", None),
            (Content::Text, "[1]", Some(r#""[1]""#)),
            (Content::Text, "a \"b\"\n", Some(r#""a \"b\"\n""#)),
        ];
        for (form, text, expected) in cases {
            let json = form.json(text).ok();
            assert_eq!(json.as_ref().map(|json| json.get()), expected, "{text}");
        }
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(
            Target::Room("a/b".to_owned()).path(),
            "/v1/rooms/a%2Fb/messages"
        );
        assert_eq!(
            Target::User("ada".to_owned()).path(),
            "/v1/users/ada/messages"
        );
    }
}
