//! Tokens that do not count: each reason, with each algorithm.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;

/// What is wrong with a token, for the message of a failure; the token; why it is refused.
pub(super) type Case = (String, String, Refused);

const HEADER: Refused = Refused::Malformed("its header is no JSON object with `alg`");
const CLAIMS: Refused = Refused::Malformed("its claims are no JSON object");
const BASE64: Refused = Refused::Malformed("a part of it is not base64url");
const PARTS: Refused = Refused::Malformed("it is not three parts with full stops between");
const TYPES: Refused = Refused::Claims("one is of the wrong type or comes twice");

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// The token with its part number `index` (header, claims, signature) replaced.
fn with_part(token: &str, index: usize, part: &str) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[index] = part;
    parts.join(".")
}

/// Tokens whose form is wrong.
fn malformed(signer: &Signer) -> Vec<Case> {
    let good = signer.token(&claims());
    let header = good.split('.').next().unwrap();
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let named = |what: &str, token: String, refused| (what.to_owned(), token, refused);
    let mut cases = vec![
        named("empty", String::new(), PARTS),
        named("one part", "abc".to_owned(), PARTS),
        named(
            "two parts",
            good.rsplit_once('.').unwrap().0.to_owned(),
            PARTS,
        ),
        named("four parts", format!("{good}."), PARTS),
        named("an encrypted token", format!("{good}.a.b"), PARTS),
        named("full stops alone", "..".to_owned(), HEADER),
        named("a space before it", format!(" {good}"), BASE64),
        named("a space behind it", format!("{good} "), BASE64),
        named("padding", good.replacen('.', "=.", 1), BASE64),
        named("another alphabet", with_part(&good, 1, "ey+/"), BASE64),
        named("bits to spare", with_part(&good, 2, "AB"), BASE64),
        named("no text", with_part(&good, 0, &encode(b"\xff{}")), HEADER),
        named(
            "claims that are no text",
            with_part(&good, 1, &encode(b"{\"sub\":\"\xff\"}")),
            CLAIMS,
        ),
        named(
            "a deep claim that means nothing",
            with_part(&good, 1, &encode(format!(r#"{{"sub":"ada","x":{deep}}}"#))),
            Refused::Claims("`exp` is missing"),
        ),
        named(
            "a deep audience",
            with_part(&good, 1, &encode(format!(r#"{{"aud":{deep}}}"#))),
            CLAIMS,
        ),
        named(
            "a deep header",
            with_part(
                &good,
                0,
                &encode(format!(r#"{{"alg":"HS256","kid":{deep}}}"#)),
            ),
            HEADER,
        ),
        named(
            "crit",
            signer.token_of(
                &json!({"alg": signer.algorithm(), "crit": ["exp"], "exp": 1}),
                &claims(),
            ),
            Refused::Malformed("its header asks for an extension"),
        ),
    ];
    for text in [
        "",
        "{",
        "null",
        "7",
        "\"alg\"",
        "[]",
        "[\"HS256\"]",
        "{}",
        "{} {}",
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":7}"#,
        r#"{"ALG":"HS256"}"#,
    ] {
        cases.push((
            format!("the header {text}"),
            with_part(&good, 0, &encode(text)),
            HEADER,
        ));
    }
    for text in [
        "",
        "{",
        "null",
        "[]",
        r#"["ada"]"#,
        "{\"sub\":\"ada\",}",
        r#"{"sub":"\ud800"}"#,
        r#"{"exp":1e400}"#,
        r#"{"exp":01}"#,
        "{}{}",
    ] {
        cases.push((
            format!("the claims {text}"),
            format!("{header}.{}.AAAA", encode(text)),
            CLAIMS,
        ));
    }
    cases
}

/// Tokens that claim another algorithm.
fn algorithms(signer: &Signer) -> Vec<Case> {
    let mut cases = Vec::new();
    for none in ["none", "None", "NONE", "nOnE"] {
        let token = signer.token_of(&json!({"alg": none}), &claims());
        cases.push((
            none.to_owned(),
            with_part(&token, 2, ""),
            Refused::AlgorithmNone,
        ));
        cases.push((format!("{none}, signed"), token, Refused::AlgorithmNone));
    }
    for other in [
        "HS256",
        "RS256",
        "ES256",
        "EdDSA",
        "HS384",
        "HS512",
        "RS512",
        "PS256",
        "ES384",
        "ES256K",
        "hs256",
        "rs256",
        " HS256",
        "HS256\u{0}",
        "",
    ] {
        if other != signer.algorithm() {
            let token = signer.token_of(&json!({"alg": other}), &claims());
            cases.push((
                format!("alg {other:?}"),
                token,
                Refused::AlgorithmNotPermitted,
            ));
        }
    }
    // The public key is no secret, whatever the header says (RFC 8725 §2.1).
    let public = signer.public_file();
    for secret in [public.as_slice(), public.trim_ascii_end()] {
        if signer.algorithm() != "HS256" {
            let token = Signer::with_secret(secret).token(&claims());
            cases.push((
                "HS256 with the public key".to_owned(),
                token,
                Refused::AlgorithmNotPermitted,
            ));
        }
    }
    cases
}

/// Tokens whose signature is wrong.
fn signatures(signer: &Signer, other: &Signer) -> Vec<Case> {
    let good = signer.token(&claims());
    let signature = good.rsplit('.').next().unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut flipped = bytes.clone();
    flipped[0] ^= 1;
    let longer = [bytes.as_slice(), &[0]].concat();
    let forged = claims_with(&json!({"sub": "root"})).to_string();
    [
        ("another's key", other.token(&claims())),
        (
            "another's signature",
            with_part(&good, 2, other.token(&claims()).rsplit('.').next().unwrap()),
        ),
        ("no signature", with_part(&good, 2, "")),
        (
            "a signature of zeros",
            with_part(&good, 2, &encode(vec![0; bytes.len()])),
        ),
        ("one bit", with_part(&good, 2, &encode(flipped))),
        ("one byte less", with_part(&good, 2, &encode(&bytes[1..]))),
        ("one byte more", with_part(&good, 2, &encode(longer))),
        ("other claims", with_part(&good, 1, &encode(forged))),
        (
            "another header",
            with_part(
                &good,
                0,
                &encode(json!({"alg": signer.algorithm()}).to_string()),
            ),
        ),
    ]
    .map(|(what, token)| (what.to_owned(), token, Refused::Signature))
    .into()
}

/// Tokens whose signature is right and whose claims are not.
fn wrong_claims(signer: &Signer) -> Vec<Case> {
    let long = "x".repeat(256);
    let rules: Vec<_> = (0..65).map(|index| format!("u{index}")).collect();
    let no_time = |name| {
        Refused::Claims(match name {
            "exp" => "`exp` is no time",
            "nbf" => "`nbf` is no time",
            _ => "`iat` is no time",
        })
    };
    let mut cases = vec![
        (json!({"exp": NOW - LEEWAY}), Refused::Expired),
        (json!({"exp": 0}), Refused::Expired),
        (json!({"nbf": NOW + LEEWAY + 1}), Refused::NotYetValid),
        (json!({"iss": "https://evil.example"}), Refused::Issuer),
        (json!({"iss": "https://id.example/"}), Refused::Issuer),
        (json!({"aud": "Chat"}), Refused::Audience),
        (json!({"aud": []}), Refused::Audience),
        (json!({"aud": ["a", "b"]}), Refused::Audience),
        (
            json!({"sub": ""}),
            Refused::Claims("`sub` is no name of a user"),
        ),
        (
            json!({"sub": "a\nb"}),
            Refused::Claims("`sub` is no name of a user"),
        ),
        (
            json!({"sub": long}),
            Refused::Claims("`sub` is no name of a user"),
        ),
        (
            json!({"sub": "cafe\u{301}"}),
            Refused::Claims("`sub` is no name of a user"),
        ),
        (
            json!({"rooms": [{"room": "a", "rights": ["join", "admin"]}]}),
            Refused::Claims("a right is none of join, publish, presence, history"),
        ),
        (
            json!({"rooms": [{"room": "a", "rights": ["JOIN"]}]}),
            Refused::Claims("a right is none of join, publish, presence, history"),
        ),
        (
            json!({"rooms": [{"room": "", "rights": []}]}),
            Refused::Claims("a `room` is no pattern"),
        ),
        (
            json!({"rooms": [{"room": "*********", "rights": []}]}),
            Refused::Claims("a `room` is no pattern"),
        ),
        (
            json!({"rooms": [{"room": "cafe\u{301}*", "rights": []}]}),
            Refused::Claims("a `room` is no pattern"),
        ),
        (
            json!({"direct": [""]}),
            Refused::Claims("a pattern in `direct` is none"),
        ),
        (
            json!({"direct": rules}),
            Refused::Claims("too many entries in `rooms` and `direct`"),
        ),
    ];
    for name in ["exp", "nbf", "iat"] {
        for time in [
            json!(-1),
            json!(1e300),
            json!(253_402_300_800_u64),
            json!(u64::MAX),
        ] {
            cases.push((json!({name: time}), no_time(name)));
        }
        for other in [json!("1"), json!(null), json!([]), json!({}), json!(true)] {
            cases.push((json!({name: other}), TYPES));
        }
    }
    for name in ["sub", "iss", "aud", "rooms", "direct"] {
        for other in [
            json!(7),
            json!(null),
            json!({"a": "b"}),
            json!([1]),
            json!(false),
        ] {
            cases.push((json!({name: other}), TYPES));
        }
    }
    for rooms in [
        json!([{"room": "a"}]),
        json!([{"rights": []}]),
        json!([{"room": "a", "rights": "join"}]),
        json!(["a"]),
        json!([{"room": ["a"], "rights": []}]),
    ] {
        cases.push((json!({"rooms": rooms}), TYPES));
    }
    let mut cases: Vec<Case> = cases
        .into_iter()
        .map(|(others, refused)| {
            (
                others.to_string(),
                signer.token(&claims_with(&others)),
                refused,
            )
        })
        .collect();
    for (name, refused) in [
        ("sub", Refused::Claims("`sub` is missing")),
        ("exp", Refused::Claims("`exp` is missing")),
        ("iss", Refused::Issuer),
        ("aud", Refused::Audience),
    ] {
        cases.push((
            format!("no {name}"),
            signer.token(&claims_without(name)),
            refused,
        ));
    }
    let header = json!({"alg": signer.algorithm()}).to_string();
    let good = claims().to_string();
    let twice = good.replacen('{', r#"{"sub":"root","#, 1);
    let escaped = good.replacen('{', r#"{"\u0073ub":"root","#, 1);
    let digits = good.replacen(&(NOW + 60).to_string(), &"9".repeat(300), 1);
    for (text, refused) in [(twice, TYPES), (escaped, TYPES), (digits, no_time("exp"))] {
        cases.push((text.clone(), signer.token_of_text(&header, &text), refused));
    }
    cases
}

/// All of them.
pub(super) fn cases(signer: &Signer, other: &Signer) -> Vec<Case> {
    let size_max = Limits::default().token_size_max;
    let large = "x".repeat(4096);
    let mut cases = vec![
        (
            "too large".to_owned(),
            signer.token(&claims_with(&json!({"x": large}))),
            Refused::TooLarge(size_max),
        ),
        (
            "much too large".to_owned(),
            ".".repeat(1 << 20),
            Refused::TooLarge(size_max),
        ),
    ];
    cases.extend(malformed(signer));
    cases.extend(algorithms(signer));
    cases.extend(signatures(signer, other));
    cases.extend(wrong_claims(signer));
    cases
}

#[test]
fn each_reason_with_each_algorithm() {
    for (signer, other) in Signer::of_each_kind().iter().zip(&Signer::of_each_kind()) {
        let verifier = verifier(vec![key(signer, None)]);
        for (what, token, refused) in cases(signer, other) {
            let found = verify(&verifier, &token);
            assert_eq!(found, Err(refused), "{}: {what:.200}", signer.algorithm());
        }
    }
}

#[test]
fn a_key_that_is_not_there() {
    let signer = Signer::secret();
    let nothing = verifier(Vec::new());
    let token = signer.token(&claims());
    assert_eq!(verify(&nothing, &token), Err(Refused::UnknownKey));
    assert!(!nothing.keys.take_missed(), "no fetch would help");
    let named = signer.token_named("new", &claims());
    assert_eq!(verify(&nothing, &named), Err(Refused::UnknownKey));
    assert!(nothing.keys.take_missed());

    nothing.keys.replace(Keyring {
        keys: Vec::new(),
        awaited: true,
    });
    assert_eq!(verify(&nothing, &token), Err(Refused::NoKeys));
    // Two of a kind, and the token does not say which.
    let two = verifier(vec![
        key(&signer, Some("a")),
        key(&Signer::secret(), Some("b")),
    ]);
    assert_eq!(verify(&two, &token), Err(Refused::UnknownKey));
    assert!(verify(&two, &signer.token_named("a", &claims())).is_ok());
}

#[test]
fn what_is_not_expected_is_not_checked() {
    let signer = Signer::secret();
    let mut verifier = verifier(vec![key(&signer, None)]);
    verifier.expected = Expected::default();
    let token = signer.token(&json!({"sub": "ada", "exp": NOW + 1, "iss": "any", "aud": ["any"]}));
    assert!(verify(&verifier, &token).is_ok());
    // Without leeway a token counts up to the second, and not in it.
    for (exp, nbf, refused) in [
        (NOW, NOW, Refused::Expired),
        (NOW + 1, NOW + 1, Refused::NotYetValid),
    ] {
        let token = signer.token(&json!({"sub": "ada", "exp": exp, "nbf": nbf}));
        assert_eq!(verify(&verifier, &token), Err(refused));
    }
}

/// What is said of a refusal fits into a close frame and into the header of RFC 6750 §3 as it is.
#[test]
fn every_reason_can_be_said() {
    let mut texts = Vec::new();
    let (signer, other) = (Signer::secret(), Signer::secret());
    for (_, _, refused) in cases(&signer, &other) {
        let text = refused.to_string();
        assert!(text.len() <= 123, "{text}");
        let fits = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        assert!(text.bytes().all(fits), "{text}");
        texts.push(text);
    }
    let outcomes: std::collections::HashSet<String> = cases(&signer, &other)
        .iter()
        .map(|case| format!("{:?}", case.2.outcome()))
        .collect();
    assert_eq!(
        outcomes.len(),
        10,
        "every outcome that a token alone can have: {outcomes:?}"
    );
}
