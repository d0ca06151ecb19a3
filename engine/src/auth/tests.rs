//! Tokens against the verifier: what counts, what does not and why, and what that costs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod costs;
mod good;
mod key_files;
mod mutations;
mod refusals;
mod sets;
#[path = "../../tests/signer/mod.rs"]
mod signer;

use std::sync::Arc;

use serde_json::{Value, json};
use shardcast_shard::limits::Limits;
use shardcast_shard::rights::Identity;

use super::claims::Expected;
use super::key::Key;
use super::keyring::Keyring;
use super::refused::Refused;
use super::rules::RulesCache;
use super::token::Verifier;
use signer::Signer;

/// The time at which tokens are checked, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

/// How far clocks may be apart, in seconds.
const LEEWAY: u64 = 10;

/// What the server of these tests expects of a token.
fn expected() -> Expected {
    Expected {
        issuer: Some("https://id.example".to_owned()),
        audience: Some("chat".to_owned()),
        leeway_ms: LEEWAY * 1000,
    }
}

/// Claims that count.
fn claims() -> Value {
    json!({"sub": "ada", "exp": NOW + 60, "iss": "https://id.example", "aud": "chat"})
}

/// The claims that count, with others in place of some of them or besides.
fn claims_with(others: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in others.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// The claims that count without one of them.
fn claims_without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// The key that checks what `signer` signs, under the name given.
fn key(signer: &Signer, id: Option<&str>) -> Key {
    let set = json!({"keys": [signer.jwk(id.unwrap_or_default())]}).to_string();
    let set = super::jwk::parse(set.as_bytes(), super::jwk::Secrets::Permitted, 1).unwrap();
    let mut key = set.keys.into_iter().next().unwrap();
    key.id = id.map(str::to_owned);
    key
}

fn verifier(keys: Vec<Key>) -> Verifier {
    let verifier = Verifier {
        keys: Arc::default(),
        expected: expected(),
    };
    verifier.keys.replace(Keyring {
        keys: keys.into_iter().map(Arc::new).collect(),
        awaited: false,
    });
    verifier
}

fn verify(verifier: &Verifier, token: &str) -> Result<Identity, Refused> {
    let (limits, mut cache) = (Limits::default(), RulesCache::default());
    verifier.verify(token, NOW * 1000, &limits, &mut cache)
}
