//! Keys that tokens are checked with. Which algorithm a key permits follows from what kind of key it is, never from a token (RFC 8725 §3.1).

use std::fmt;
use std::io::{self, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rsa::PublicKeyComponents;
use ring::{hmac, signature};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;

use super::der::{PublicKey, public_key, without_zeros};

/// Bytes that a file with a key may have; the largest key takes a few thousand.
const KEY_FILE_SIZE_MAX: u64 = 64 << 10;

/// Bytes that a secret must have: as many as the hash (RFC 7518 §3.2).
const SECRET_SIZE_MIN: usize = 32;

/// Bits of an RSA key (RFC 7518 §3.3); above the upper bound each check would take milliseconds.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What a file begins with whose secret is written in base64.
const BASE64_PREFIX: &[u8] = b"base64:";

/// The algorithms that tokens may be signed with (RFC 7518 §3, RFC 8037 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The algorithm that a header or a key names so; names are compared to the letter (RFC 7515 §4.1.1).
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            // The second is the name of RFC 9864.
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// Why there is no key in a file or in a member of a set. Completes the sentence "the file …", remedy included.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system does not give it out.
    #[error("cannot be read: {0}; name a file that this user may read")]
    Unreadable(io::Error),
    /// It is larger than anything expected.
    #[error("has more than {0} bytes; name a file with nothing but the keys")]
    TooLarge(u64),
    /// A secret that is easy to guess.
    #[error(
        "holds a secret of {0} bytes, and at least {SECRET_SIZE_MIN} are needed (RFC 7518 §3.2); `openssl rand -out FILE 32` makes one"
    )]
    SecretTooShort(usize),
    /// `base64:` and then something else.
    #[error("begins with `base64:`, but what follows is not base64; correct it")]
    NotBase64,
    /// Whoever checks tokens has no use for what signs them.
    #[error(
        "holds a private key, which checks nothing; give the public one, as `openssl pkey -in FILE -pubout` prints it"
    )]
    PrivateKey,
    /// A certificate, of which the name and the dates would mean nothing here.
    #[error(
        "holds a certificate; give the key in it, as `openssl x509 -in FILE -pubkey -noout` prints it"
    )]
    Certificate,
    /// PEM without a public key.
    #[error(
        "is not a public key in PEM (`-----BEGIN PUBLIC KEY-----`); `openssl pkey -in FILE -pubout` prints one"
    )]
    NotPem,
    /// RSA, EC P-256 and Ed25519 are known.
    #[error("holds a key of an unknown kind; RSA, EC P-256 and Ed25519 are known")]
    UnknownKind,
    /// A point that is not written out.
    #[error(
        "holds a compressed or malformed point; `openssl ec -pubin -in FILE -conv_form uncompressed` writes it out"
    )]
    Point,
    /// Too few bits to be safe, or too many to be checked.
    #[error("holds an RSA key of {0} bits; {min} to {max} are permitted", min = RSA_BITS.start(), max = RSA_BITS.end())]
    RsaBits(usize),
    /// Not the text of a set, from this line and column on. The parser's own message might repeat a secret.
    #[error(
        "is not a JWK set, an object with an array `keys` (RFC 7517 §5): see line {line}, column {column}; correct it, or use --auth-key for one key"
    )]
    NotSet {
        /// Counted from 1.
        line: usize,
        /// In bytes.
        column: usize,
    },
    /// Not one key of it can be used.
    #[error(
        "is a JWK set without a key that can be used ({0}); RSA of {min} bits or more, EC P-256, Ed25519 and, in a file, secrets are", min = RSA_BITS.start()
    )]
    EmptySet(String),
}

/// A key and the one algorithm that it permits.
pub(super) struct Key {
    /// What tokens call it (`kid`), where it has such a name.
    pub(super) id: Option<String>,
    material: Material,
}

enum Material {
    Secret(hmac::Key),
    Rsa(PublicKeyComponents<Vec<u8>>),
    /// The point, uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Key {
    /// The key in a file: a public key in PEM, or a secret.
    ///
    /// A secret is the bytes of the file. Of a text the line end does not count, as editors add one; and a text that begins with
    /// `base64:` is decoded.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn from_file(path: &Path) -> Result<Self, KeyError> {
        Self::parse(&read_file(path, KEY_FILE_SIZE_MAX)?)
    }

    fn parse(content: &[u8]) -> Result<Self, KeyError> {
        if let Some(label) = pem_label(content) {
            return Self::from_pem(content, label);
        }
        let content = without_line_end(content);
        match content.strip_prefix(BASE64_PREFIX) {
            None => Self::secret(None, content),
            Some(encoded) => {
                let secret = STANDARD.decode(encoded.trim_ascii());
                Self::secret(None, &secret.map_err(|_| KeyError::NotBase64)?)
            }
        }
    }

    fn from_pem(content: &[u8], label: &[u8]) -> Result<Self, KeyError> {
        if label.ends_with(b"PRIVATE KEY") {
            return Err(KeyError::PrivateKey);
        }
        if label.ends_with(b"CERTIFICATE") {
            return Err(KeyError::Certificate);
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(content).map_err(|_| KeyError::NotPem)?;
        match public_key(&der).ok_or(KeyError::NotPem)? {
            PublicKey::Rsa { n, e } => Self::rsa(None, n, e),
            PublicKey::P256(point) => Self::p256(None, point),
            PublicKey::Ed25519(point) => Self::ed25519(None, point),
            PublicKey::Other => Err(KeyError::UnknownKind),
        }
    }

    pub(super) fn secret(id: Option<String>, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_SIZE_MIN {
            return Err(KeyError::SecretTooShort(secret.len()));
        }
        let material = Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret));
        Ok(Self { id, material })
    }

    /// `n` and `e` are big-endian.
    pub(super) fn rsa(id: Option<String>, n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let (n, e) = (without_zeros(n), without_zeros(e));
        let unused = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        let bits = n.len() * 8 - unused;
        if !RSA_BITS.contains(&bits) {
            return Err(KeyError::RsaBits(bits));
        }
        let (n, e) = (n.to_vec(), e.to_vec());
        let material = Material::Rsa(PublicKeyComponents { n, e });
        Ok(Self { id, material })
    }

    /// The point is uncompressed (SEC 1, section 2.3.3).
    pub(super) fn p256(id: Option<String>, point: &[u8]) -> Result<Self, KeyError> {
        if point.len() != 65 || point.first() != Some(&4) {
            return Err(KeyError::Point);
        }
        let material = Material::P256(point.to_vec());
        Ok(Self { id, material })
    }

    pub(super) fn ed25519(id: Option<String>, point: &[u8]) -> Result<Self, KeyError> {
        if point.len() != 32 {
            return Err(KeyError::Point);
        }
        let material = Material::Ed25519(point.to_vec());
        Ok(Self { id, material })
    }

    /// The algorithm that it permits.
    pub(super) fn algorithm(&self) -> Algorithm {
        match &self.material {
            Material::Secret(_) => Algorithm::Hs256,
            Material::Rsa(_) => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Whether the signature of the message is this key's.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let checked = match &self.material {
            Material::Secret(secret) => hmac::verify(secret, message, signature),
            Material::Rsa(components) => {
                components.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Material::P256(point) => {
                signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
            }
            Material::Ed25519(point) => {
                signature::UnparsedPublicKey::new(&signature::ED25519, point)
                    .verify(message, signature)
            }
        };
        checked.is_ok()
    }
}

impl fmt::Debug for Key {
    /// Without the key itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = f.debug_struct("Key");
        key.field("id", &self.id)
            .field("algorithm", &self.algorithm());
        key.finish_non_exhaustive()
    }
}

/// The bytes of a file that may have `size_max` of them.
pub(super) fn read_file(path: &Path, size_max: u64) -> Result<Vec<u8>, KeyError> {
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(KeyError::Unreadable)?;
    file.take(size_max + 1)
        .read_to_end(&mut content)
        .map_err(KeyError::Unreadable)?;
    match content.len() as u64 > size_max {
        true => Err(KeyError::TooLarge(size_max)),
        false => Ok(content),
    }
}

/// What the first PEM block is said to be.
fn pem_label(content: &[u8]) -> Option<&[u8]> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let line = content
        .split(|&byte| byte == b'\n')
        .find(|line| line.starts_with(BEGIN))?;
    let label = line.get(BEGIN.len()..)?.trim_ascii();
    Some(label.strip_suffix(b"-----").unwrap_or(label))
}

/// A text without the line end at its end; bytes that are no text as they are.
fn without_line_end(content: &[u8]) -> &[u8] {
    let text = content.strip_suffix(b"\n").unwrap_or(content);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let is_text = std::str::from_utf8(text).is_ok_and(|text| !text.contains(char::is_control));
    if is_text { text } else { content }
}
