//! Tokens that count, and what they grant.

use std::sync::Arc;

use serde_json::json;
use shardcast_shard::limits::Limits;
use shardcast_shard::rights::{Rights, RoomRule, Rules};

use super::*;

#[test]
fn a_token_of_each_algorithm_counts() {
    for signer in Signer::of_each_kind() {
        let verifier = verifier(vec![key(&signer, None)]);
        let identity = verify(&verifier, &signer.token(&claims())).unwrap();
        assert_eq!(identity.user, "ada");
        let grant = identity.grant.unwrap();
        assert_eq!(grant.rules, None);
        assert_eq!(grant.expires_unix_ms, Some((NOW + 60 + LEEWAY) * 1000));
    }
}

#[test]
fn what_may_stand_in_a_token() {
    let signer = Signer::secret();
    let verifier = verifier(vec![key(&signer, None)]);
    let cases = [
        json!({"exp": NOW - LEEWAY + 1}),
        json!({"exp": (NOW as f64) + 0.25}),
        json!({"nbf": NOW + LEEWAY, "iat": NOW + 1000}),
        json!({"nbf": 0, "iat": 0.5}),
        json!({"aud": ["other", "chat"]}),
        json!({"sub": "Jürgen 😀", "name": {"deep": [[[]]]}, "admin": null}),
        json!({"rooms": [], "direct": []}),
    ];
    for case in cases {
        let token = signer.token(&claims_with(&case));
        assert!(verify(&verifier, &token).is_ok(), "{case}");
    }
    for header in [
        json!({"alg": "HS256"}),
        json!({"alg": "HS256", "kid": "one", "typ": "at+jwt", "jku": "https://evil.example", "jwk": {"kty": "oct"}}),
        json!({"alg": "HS256", "kid": null}),
    ] {
        let token = signer.token_of(&header, &claims());
        assert!(verify(&verifier, &token).is_ok(), "{header}");
    }
    let spaced = signer.token_of_text(
        " {\"alg\" :\n\"HS\\u0032\\u00356\"}\r\n",
        &claims().to_string(),
    );
    assert!(verify(&verifier, &spaced).is_ok());
}

#[test]
fn rooms_and_users_are_granted_as_the_claims_say() {
    let signer = Signer::secret();
    let verifier = verifier(vec![key(&signer, None)]);
    let rules = |case| {
        let token = signer.token(&claims_with(&case));
        let grant = verify(&verifier, &token).unwrap().grant.unwrap();
        Rules::clone(&grant.rules.expect("the token has rules"))
    };
    let granted = rules(json!({
        "rooms": [
            {"room": "chat.*", "rights": ["join", "publish", "join"]},
            {"room": "news", "rights": ["history", "presence"], "since": 5},
            {"room": "*", "rights": []},
        ],
        "direct": ["support", "team.*"],
    }));
    let rule = |pattern: &str, rights| RoomRule {
        rooms: pattern.parse().unwrap(),
        rights,
    };
    assert_eq!(
        granted.rooms,
        [
            rule("chat.*", Rights::JOIN | Rights::PUBLISH),
            rule("news", Rights::HISTORY | Rights::PRESENCE),
            rule("*", Rights::empty()),
        ]
    );
    assert!(granted.may_direct("team.a") && !granted.may_direct("bob"));

    let rooms_alone = rules(json!({"rooms": [{"room": "a", "rights": ["join"]}]}));
    assert!(rooms_alone.may_direct("anybody"));
    let users_alone = rules(json!({"direct": []}));
    assert_eq!(users_alone.rights_in("any"), Rights::all());
    assert!(!users_alone.may_direct("anybody"));
}

#[test]
fn equal_rules_are_kept_once() {
    let signer = Signer::secret();
    let verifier = verifier(vec![key(&signer, None)]);
    let (limits, mut cache) = (Limits::default(), RulesCache::default());
    let mut rules = |user: &str| {
        let claims = claims_with(&json!({"sub": user, "direct": ["a", "b"]}));
        let identity = verifier.verify(&signer.token(&claims), NOW * 1000, &limits, &mut cache);
        identity.unwrap().grant.unwrap().rules.unwrap()
    };
    assert!(Arc::ptr_eq(&rules("ada"), &rules("bob")));
}

#[test]
fn the_header_names_the_key_where_there_are_several() {
    let (old, new, other, own) = (
        Signer::p256(),
        Signer::p256(),
        Signer::ed25519(),
        Signer::secret(),
    );
    let verifier = verifier(vec![
        key(&own, None),
        key(&old, Some("old")),
        key(&new, Some("new")),
        key(&other, Some("new")),
    ]);
    let claims = claims();
    let verify = |token: String| verify(&verifier, &token).map(|identity| identity.user);
    for (signer, kid) in [(&old, "old"), (&new, "new"), (&other, "new")] {
        assert!(verify(signer.token_named(kid, &claims)).is_ok(), "{kid}");
    }
    // The only one of its algorithm needs no name, and one without a name may be called anything.
    assert!(verify(other.token(&claims)).is_ok());
    assert!(verify(own.token_named("own", &claims)).is_ok());

    assert_eq!(verify(new.token(&claims)), Err(Refused::UnknownKey));
    assert_eq!(
        verify(new.token_named("old", &claims)),
        Err(Refused::Signature)
    );
    assert!(!verifier.keys.take_missed());
    assert_eq!(
        verify(new.token_named("newest", &claims)),
        Err(Refused::UnknownKey)
    );
    assert!(verifier.keys.take_missed(), "the set may have a new key");
    assert_eq!(
        verify(own.token_named("old", &claims)),
        Err(Refused::AlgorithmNotPermitted)
    );
}
