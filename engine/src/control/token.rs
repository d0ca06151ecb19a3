//! The bearer token of the admin API (RFC 6750).

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use crate::config::AdminConfig;

/// Bytes that a token has at least: fewer could be guessed.
const TOKEN_SIZE_MIN: usize = 16;

/// Bytes that a token has at the most.
const TOKEN_SIZE_MAX: usize = 4096;

/// A token that requests must bring. What it is is not kept, but its digest, by which it is compared: that takes the same time for any that is wrong.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken([u8; 32]);

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// A file that holds no token.
#[derive(Debug, thiserror::Error)]
#[error("admin_token: the file {path} {problem}", path = path.display())]
pub struct AdminTokenError {
    path: PathBuf,
    problem: TokenProblem,
}

#[derive(Debug, thiserror::Error)]
enum TokenProblem {
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error(
        "holds {0} bytes; a token has {TOKEN_SIZE_MIN} to {TOKEN_SIZE_MAX}, for instance those of `openssl rand -hex 32`"
    )]
    Size(usize),
    #[error(
        "holds more than one line, or characters that a header cannot carry; a token is visible ASCII"
    )]
    Characters,
}

impl AdminToken {
    /// The token that the configuration names a file for.
    ///
    /// # Errors
    /// The file cannot be read or holds no token.
    pub(super) fn configured(config: &AdminConfig) -> Result<Option<Arc<Self>>, AdminTokenError> {
        let path = config.token_file.as_deref();
        path.map(|path| Self::read(path).map(Arc::new)).transpose()
    }

    /// Reads a token from a file; a line end behind it does not belong to it.
    ///
    /// # Errors
    /// The file cannot be read or holds no token.
    pub fn read(path: &Path) -> Result<Self, AdminTokenError> {
        let failed = |problem| AdminTokenError {
            path: path.to_path_buf(),
            problem,
        };
        let mut content = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| {
                file.take(TOKEN_SIZE_MAX as u64 + 2)
                    .read_to_end(&mut content)
            })
            .map_err(|error| failed(TokenProblem::Unreadable(error)))?;
        let token = content.trim_ascii_end();
        if !(TOKEN_SIZE_MIN..=TOKEN_SIZE_MAX).contains(&token.len()) {
            return Err(failed(TokenProblem::Size(token.len())));
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err(failed(TokenProblem::Characters));
        }
        Ok(Self::of(token))
    }

    fn of(token: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token).as_ref());
        Self(bytes)
    }

    /// Whether the value of a header `Authorization` brings the token.
    pub(super) fn is_in(&self, authorization: &[u8]) -> bool {
        let Some((scheme, token)) = authorization.split_at_checked(7) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && Self::of(token.trim_ascii()) == *self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_header_brings_the_token_or_does_not() {
        let token = AdminToken::of(b"a-token-of-many-bytes");
        for (header, expected) in [
            ("Bearer a-token-of-many-bytes", true),
            ("bearer  a-token-of-many-bytes ", true),
            ("Bearer a-token-of-many-byteS", false),
            ("Basic a-token-of-many-bytes", false),
            ("a-token-of-many-bytes", false),
            ("Bearer", false),
            ("", false),
        ] {
            assert_eq!(token.is_in(header.as_bytes()), expected, "{header}");
        }
        assert!(!format!("{token:?}").contains("many"));
    }

    #[test]
    fn a_file_is_read_or_refused_with_the_reason() {
        let directory =
            std::env::temp_dir().join(format!("shardcast-token-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let long = "x".repeat(TOKEN_SIZE_MAX + 10);
        for (name, content, expected) in [
            ("good", "0123456789abcdef\n", None),
            ("short", "0123\n", Some("holds 4 bytes")),
            ("long", long.as_str(), Some("holds 4098 bytes")),
            (
                "lines",
                "0123456789abcdef\n0123",
                Some("more than one line"),
            ),
        ] {
            let path = directory.join(name);
            std::fs::write(&path, content).unwrap();
            let told = AdminToken::read(&path).err().map(|error| error.to_string());
            match (&told, expected) {
                (None, None) => {}
                (Some(told), Some(expected)) => assert!(told.contains(expected), "{told}"),
                _ => panic!("{name}: {told:?}"),
            }
        }
        let missing = AdminToken::read(&directory.join("missing")).unwrap_err();
        assert!(missing.to_string().contains("cannot be read"), "{missing}");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
