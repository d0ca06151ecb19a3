//! Signatures of requests, as the Standard Webhooks specification (version 1.0.0) has them: HMAC-SHA256 over the request's id, its time and its body.

use std::io::{self, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use ring::hmac;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// Bytes of a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Secrets that a file may have.
const SECRETS_MAX: usize = 4;

/// Bytes of a file with secrets.
const FILE_SIZE_MAX: u64 = 4096;

/// Base64 whose padding may be missing, as some tools leave it out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why there is no secret in a file. Completes the sentence "the file …", remedy included.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The system does not give it out.
    #[error("cannot be read: {0}; name a file that this user may read")]
    Unreadable(io::Error),
    /// There is nothing in it.
    #[error("holds no secret; `echo whsec_$(openssl rand -base64 32) > FILE` makes one")]
    Empty,
    /// It is no file with secrets.
    #[error(
        "holds more than {SECRETS_MAX} lines or {FILE_SIZE_MAX} bytes; leave one secret a line, and no more than {SECRETS_MAX}"
    )]
    TooMany,
    /// A line that is no secret.
    #[error("holds a line {0} that is not `whsec_` and {least} to {most} bytes in base64; `echo whsec_$(openssl rand -base64 32) > FILE` makes one", least = SECRET_BYTES.start(), most = SECRET_BYTES.end())]
    Malformed(usize),
}

/// Signs requests; with every secret there is, so that a backend may know the old one or the new one.
#[derive(Debug, Default)]
pub(super) struct Signer {
    keys: Vec<hmac::Key>,
}

impl Signer {
    /// With the secrets of a file. Without a file nothing is signed.
    pub(super) fn of(file: Option<&Path>) -> Result<Self, SecretError> {
        let Some(path) = file else {
            return Ok(Self::default());
        };
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_SIZE_MAX + 1).read_to_string(&mut text))
            .map_err(SecretError::Unreadable)?;
        match text.len() as u64 > FILE_SIZE_MAX {
            true => Err(SecretError::TooMany),
            false => Self::from_text(&text),
        }
    }

    fn from_text(text: &str) -> Result<Self, SecretError> {
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty());
        let keys: Vec<hmac::Key> = lines
            .map(|(index, line)| key(line).ok_or(SecretError::Malformed(index + 1)))
            .collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(SecretError::Empty),
            1..=SECRETS_MAX => Ok(Self { keys }),
            _ => Err(SecretError::TooMany),
        }
    }

    /// The value of the header `webhook-signature`; `None` where nothing is signed.
    pub(super) fn header(&self, id: &str, unix_seconds: u64, body: &[u8]) -> Option<String> {
        let signatures = self.keys.iter().map(|key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{unix_seconds}.").as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign()))
        });
        let header = signatures.collect::<Vec<_>>().join(" ");
        (!header.is_empty()).then_some(header)
    }
}

fn key(line: &str) -> Option<hmac::Key> {
    let secret = LENIENT.decode(line.strip_prefix(PREFIX)?).ok()?;
    SECRET_BYTES
        .contains(&secret.len())
        .then(|| hmac::Key::new(hmac::HMAC_SHA256, &secret))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The example of the specification's reference libraries.
    #[test]
    fn a_known_signature() {
        let signer = Signer::from_text(SECRET).unwrap();
        let header = signer.header(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(
            header.unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn every_secret_signs() {
        let both = format!("\n{SECRET}\r\n\nwhsec_{}\n", "A".repeat(43));
        let signer = Signer::from_text(&both).unwrap();
        let header = signer.header("a", 1, b"{}").unwrap();
        let parts: Vec<&str> = header.split(' ').collect();
        assert_eq!(parts.len(), 2);
        let alone = Signer::from_text(SECRET).unwrap();
        assert_eq!(parts[0], alone.header("a", 1, b"{}").unwrap());
        assert_eq!(Signer::default().header("a", 1, b"{}"), None);
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let cases = [
            ("", "holds no secret"),
            ("\n \n", "holds no secret"),
            ("secret", "a line 1 that is not"),
            ("whsec_", "a line 1 that is not"),
            ("whsec_?", "a line 1 that is not"),
            ("whsec_c2hvcnQ=", "a line 1 that is not"),
        ];
        for (text, expected) in cases {
            let error = Signer::from_text(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let two = format!("{SECRET}\nnothing");
        assert!(matches!(
            Signer::from_text(&two),
            Err(SecretError::Malformed(2))
        ));
        let many = format!("{SECRET}\n").repeat(SECRETS_MAX + 1);
        assert!(matches!(
            Signer::from_text(&many),
            Err(SecretError::TooMany)
        ));
        let missing = Signer::of(Some(Path::new("/nonexistent/secret")));
        assert!(matches!(missing, Err(SecretError::Unreadable(_))));
    }
}
