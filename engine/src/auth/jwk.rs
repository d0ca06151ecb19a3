//! Sets of keys as JSON (RFC 7517), read leniently: a member that cannot be used does not spoil the others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::key::{Algorithm, Key, KeyError};

/// Bytes that the text of a set may have.
pub(super) const SET_SIZE_MAX: u64 = 1 << 20;

/// Members of a set that are looked at; those behind them count for nothing.
const MEMBERS_MAX: usize = 2048;

/// Whether secrets (`kty` is `oct`) are taken from a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    /// From a file of the operator's.
    Permitted,
    /// Whoever may fetch the set could sign tokens.
    Refused,
}

/// The keys of a set, and why others of it are left out.
#[derive(Debug)]
pub(super) struct Set {
    /// At least one.
    pub(super) keys: Vec<Key>,
    /// The place of each in the array, counted from 1, and what is wrong with it.
    pub(super) left_out: Vec<(usize, String)>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

/// Reads a set, of which at most `keys_max` keys are kept.
pub(super) fn parse(text: &[u8], secrets: Secrets, keys_max: u64) -> Result<Set, KeyError> {
    let document: Document = serde_json::from_slice(text).map_err(|error| KeyError::NotSet {
        line: error.line(),
        column: error.column(),
    })?;
    let mut set = Set {
        keys: Vec::new(),
        left_out: Vec::new(),
    };
    for (index, member) in document.keys.into_iter().take(MEMBERS_MAX).enumerate() {
        let place = index + 1;
        if set.keys.len() as u64 >= keys_max {
            let why =
                format!("it and those behind it are beyond auth_keys_max = {keys_max}; raise that");
            set.left_out.push((place, why));
            break;
        }
        let key = serde_json::from_value::<Jwk>(member)
            .map_err(|_| "its `kty` is missing, or a member of it is of the wrong type".to_owned())
            .and_then(|jwk| jwk.key(secrets));
        match key {
            Ok(key) => {
                let twin = |other: &Key| {
                    key.id.is_some() && other.id == key.id && other.algorithm() == key.algorithm()
                };
                match set.keys.iter().any(twin) {
                    true => set.left_out.push((
                        place,
                        "an earlier key of its kind has the same `kid`".to_owned(),
                    )),
                    false => set.keys.push(key),
                }
            }
            Err(why) => set.left_out.push((place, why)),
        }
    }
    if set.keys.is_empty() {
        let why = set.left_out.first().map_or_else(
            || "it is empty".to_owned(),
            |(place, why)| format!("key {place}: {why}"),
        );
        return Err(KeyError::EmptySet(why));
    }
    Ok(set)
}

impl Jwk {
    fn key(self, secrets: Secrets) -> Result<Key, String> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err("it is not for signatures (`use`)".to_owned());
        }
        if let Some(operations) = &self.key_ops
            && !operations.iter().any(|operation| operation == "verify")
        {
            return Err("it is not for checking signatures (`key_ops`)".to_owned());
        }
        let id = self.kid.clone();
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Key::rsa(id, &bytes("n", &self.n)?, &bytes("e", &self.e)?),
            ("EC", Some("P-256")) => {
                let point = [vec![4], bytes("x", &self.x)?, bytes("y", &self.y)?];
                Key::p256(id, &point.concat())
            }
            ("OKP", Some("Ed25519")) => Key::ed25519(id, &bytes("x", &self.x)?),
            ("oct", _) if secrets == Secrets::Permitted => Key::secret(id, &bytes("k", &self.k)?),
            ("oct", _) => return Err("a secret is taken from a file alone".to_owned()),
            _ => Err(KeyError::UnknownKind),
        };
        let key = key.map_err(|error| format!("it {error}"))?;
        match &self.alg {
            Some(name) if Algorithm::named(name) != Some(key.algorithm()) => {
                Err("it is for an algorithm that is not known here (`alg`)".to_owned())
            }
            _ => Ok(key),
        }
    }
}

fn bytes(name: &str, encoded: &Option<String>) -> Result<Vec<u8>, String> {
    let encoded = encoded
        .as_deref()
        .ok_or_else(|| format!("`{name}` is missing"))?;
    URL_SAFE_NO_PAD
        .decode(encoded.trim_end_matches('='))
        .map_err(|_| format!("`{name}` is not base64url"))
}
