//! What a backend answers to a question.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use shardcast_shard::app::Dismissal;
use shardcast_shard::hub::Name;
use shardcast_shard::hub::event::ErrorCode;
use shardcast_shard::verdict::Ruling;
use shardcast_shard::ws::close::{FORBIDDEN, POLICY, TRY_AGAIN_LATER};

/// Bytes of a reason that are passed on.
const REASON_SIZE_MAX: usize = 256;

/// What is said where the backend gives no reason.
const REASON_DEFAULT: &str = "refused";

#[derive(Deserialize)]
struct Answer<'a> {
    allow: bool,
    code: Option<u16>,
    reason: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// An answer that says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("the answer is not what a backend answers: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the answer has the close code {0}; 1008, 1013 and 4000 to 4999 are permitted")]
    Code(u16),
}

/// Reads the body of an answer with a status from 200 to 299. An empty one allows.
pub(super) fn ruling(body: &[u8], is_publish: bool) -> Result<Ruling, AnswerError> {
    if body.trim_ascii().is_empty() {
        return Ok(Ruling::Allow);
    }
    let Answer {
        allow,
        code,
        reason,
        content,
    } = serde_json::from_slice(body)?;
    if allow {
        return Ok(match content {
            Some(content) if is_publish => {
                Ruling::Rewrite(Bytes::copy_from_slice(content.get().as_bytes()))
            }
            _ => Ruling::Allow,
        });
    }
    let reason = clip(reason.as_deref().unwrap_or(REASON_DEFAULT));
    match code {
        Some(code @ (POLICY | TRY_AGAIN_LATER | 4000..=4999)) => {
            Ok(Ruling::Dismiss(Dismissal { code, reason }))
        }
        Some(code) => Err(AnswerError::Code(code)),
        None if is_publish => Ok(Ruling::Refuse {
            code: ErrorCode::Forbidden,
            message: reason,
        }),
        None => Ok(Ruling::Dismiss(Dismissal {
            code: FORBIDDEN,
            reason,
        })),
    }
}

fn clip(reason: &str) -> Name {
    let mut end = reason.len().min(REASON_SIZE_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    Name::from(&reason[..end])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn dismiss(code: u16, reason: &str) -> Ruling {
        Ruling::Dismiss(Dismissal {
            code,
            reason: reason.into(),
        })
    }

    #[test]
    fn answers() {
        let rewrite = |text: &'static str| Ruling::Rewrite(Bytes::from_static(text.as_bytes()));
        let forbid = |message: &str| Ruling::Refuse {
            code: ErrorCode::Forbidden,
            message: message.into(),
        };
        // The body, and what it says of a connection and of a message.
        let cases = [
            ("", Ruling::Allow, Ruling::Allow),
            (" \r\n", Ruling::Allow, Ruling::Allow),
            (r#"{"allow":true}"#, Ruling::Allow, Ruling::Allow),
            (r#"{"allow":true,"more":[1]}"#, Ruling::Allow, Ruling::Allow),
            (
                r#"{"allow":false}"#,
                dismiss(4403, "refused"),
                forbid("refused"),
            ),
            (
                r#"{"reason":"no","allow":false}"#,
                dismiss(4403, "no"),
                forbid("no"),
            ),
            (
                r#"{"allow":false,"code":4007,"reason":"bann\u00e9"}"#,
                dismiss(4007, "banné"),
                dismiss(4007, "banné"),
            ),
            (
                r#"{"allow":true, "content": {"b":1, "a":12345678901234567890123} }"#,
                Ruling::Allow,
                rewrite(r#"{"b":1, "a":12345678901234567890123}"#),
            ),
        ];
        for (body, connect, publish) in cases {
            assert_eq!(ruling(body.as_bytes(), false).unwrap(), connect, "{body}");
            assert_eq!(ruling(body.as_bytes(), true).unwrap(), publish, "{body}");
        }
    }

    #[test]
    fn what_is_no_answer() {
        for body in [
            "yes",
            "{}",
            "[]",
            "null",
            r#"{"allow":1}"#,
            r#"{"allow":"true"}"#,
            r#"{"allow":true}{}"#,
            r#"{"allow":false,"code":1000}"#,
            r#"{"allow":false,"code":70000}"#,
            r#"{"allow":true,"content":}"#,
            "{\"allow\":true,\"content\":\"\u{1}\"}",
        ] {
            assert!(ruling(body.as_bytes(), true).is_err(), "{body}");
        }
        assert!(ruling(b"{\"allow\":true,\"content\":\"\xff\"}", true).is_err());
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let body = format!(r#"{{"allow":false,"reason":"x{}"}}"#, "é".repeat(300));
        let Ruling::Dismiss(Dismissal { reason, .. }) = ruling(body.as_bytes(), false).unwrap()
        else {
            panic!("the connection was refused");
        };
        assert_eq!(reason.len(), 255);
    }
}
