//! Sets of keys: what is taken from them, and what is left out.

use super::super::jwk::{Secrets, parse};
use super::*;

fn set(members: &[Value]) -> String {
    json!({"keys": members}).to_string()
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

#[test]
fn each_kind_of_key_is_taken_and_the_others_are_left_out() {
    let signers = Signer::of_each_kind();
    let [secret, rsa, p256, ed25519] = &signers;
    let good: Vec<Value> = signers
        .iter()
        .zip(["a", "b", "c", "d"])
        .map(|(signer, kid)| signer.jwk(kid))
        .collect();
    let bad = [
        (json!(7), "of the wrong type"),
        (json!({}), "`kty` is missing"),
        (json!({"kty": "PQ", "alg": "ML-DSA-65"}), "unknown kind"),
        (
            json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}),
            "unknown kind",
        ),
        (with(rsa.jwk("e"), "use", json!("enc")), "`use`"),
        (
            with(rsa.jwk("e"), "key_ops", json!(["encrypt"])),
            "`key_ops`",
        ),
        (with(rsa.jwk("e"), "alg", json!("PS256")), "`alg`"),
        (with(rsa.jwk("e"), "alg", json!("HS256")), "`alg`"),
        (
            with(rsa.jwk("e"), "n", json!("AQAB")),
            "an RSA key of 17 bits",
        ),
        (with(rsa.jwk("e"), "n", json!("+/")), "`n` is not base64url"),
        (with(rsa.jwk("e"), "e", json!(null)), "`e` is missing"),
        (with(p256.jwk("e"), "x", json!("AA")), "malformed point"),
        (with(ed25519.jwk("e"), "x", json!("AA")), "malformed point"),
        (
            with(secret.jwk("e"), "k", json!("AAAA")),
            "a secret of 3 bytes",
        ),
        (rsa.jwk("b"), "the same `kid`"),
    ];
    let mut members = good.clone();
    members.extend(bad.iter().map(|(member, _)| member.clone()));
    let taken = parse(set(&members).as_bytes(), Secrets::Permitted, 32).unwrap();
    assert_eq!(taken.keys.len(), 4);
    assert_eq!(taken.left_out.len(), bad.len());
    for ((place, why), (index, (_, expected))) in taken.left_out.iter().zip(bad.iter().enumerate())
    {
        assert_eq!(*place, index + 5);
        assert!(why.contains(expected), "{expected}: {why}");
    }
    let verifier = verifier(taken.keys);
    for (signer, kid) in signers.iter().zip(["a", "b", "c", "d"]) {
        assert!(
            verify(&verifier, &signer.token_named(kid, &claims())).is_ok(),
            "{kid}"
        );
    }
}

#[test]
fn a_secret_is_not_taken_from_where_anybody_may_fetch_it() {
    let members = [Signer::secret().jwk("a"), Signer::ed25519().jwk("b")];
    let taken = parse(set(&members).as_bytes(), Secrets::Refused, 32).unwrap();
    assert_eq!(taken.keys.len(), 1);
    assert_eq!(
        taken.left_out,
        [(1, "a secret is taken from a file alone".to_owned())]
    );
}

#[test]
fn no_more_keys_are_kept_than_permitted() {
    let signer = Signer::ed25519();
    let members: Vec<Value> = (0..5)
        .map(|index| signer.jwk(&format!("{index}")))
        .collect();
    let taken = parse(set(&members).as_bytes(), Secrets::Refused, 3).unwrap();
    assert_eq!(taken.keys.len(), 3);
    let (place, why) = &taken.left_out[0];
    assert_eq!((taken.left_out.len(), *place), (1, 4));
    assert!(why.contains("auth_keys_max = 3"), "{why}");
}

#[test]
fn what_is_no_set() {
    for (text, expected) in [
        ("", "is not a JWK set"),
        ("<html>", "is not a JWK set"),
        ("{}", "see line 1, column 2"),
        (r#"{"keys":"a secret"}"#, "see line 1, column 18"),
        (r#"{"keys":{}}"#, "is not a JWK set"),
        (
            r#"{"keys":[]}"#,
            "without a key that can be used (it is empty)",
        ),
        (
            r#"{"keys":[{"kty":"X"}]}"#,
            "without a key that can be used (key 1: it holds a key of an unknown kind",
        ),
    ] {
        let message = parse(text.as_bytes(), Secrets::Permitted, 32)
            .unwrap_err()
            .to_string();
        assert!(message.contains(expected), "{text}: {message}");
        assert!(!message.contains("secret\""), "{message}");
    }
    let deep = format!(r#"{{"keys":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
    assert!(parse(deep.as_bytes(), Secrets::Permitted, 32).is_err());
}
