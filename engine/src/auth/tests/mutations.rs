//! Whatever somebody sends: nothing but a signed token counts, and nothing panics.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// A verifier with a key of each kind, and a good token for each.
static BENCH: LazyLock<(Vec<Verifier>, Vec<String>)> = LazyLock::new(|| {
    let signers = Signer::of_each_kind();
    let verifiers = signers
        .iter()
        .map(|signer| verifier(vec![key(signer, None)]));
    let tokens = signers.iter().map(|signer| signer.token(&claims()));
    (verifiers.collect(), tokens.collect())
});

#[derive(Clone, Debug)]
enum Mutation {
    Replace(usize, char),
    Insert(usize, char),
    Remove(usize),
    Truncate(usize),
    Swap(usize, usize),
    Double(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = 0..2000_usize;
    let character = prop_oneof![
        3 => prop::char::range('-', 'z'),
        1 => any::<char>(),
    ];
    prop_oneof![
        (place.clone(), character.clone()).prop_map(|(at, with)| Mutation::Replace(at, with)),
        (place.clone(), character).prop_map(|(at, with)| Mutation::Insert(at, with)),
        place.clone().prop_map(Mutation::Remove),
        place.clone().prop_map(Mutation::Truncate),
        (place.clone(), place.clone()).prop_map(|(one, other)| Mutation::Swap(one, other)),
        (place.clone(), place).prop_map(|(from, to)| Mutation::Double(from, to)),
    ]
}

fn mutate(token: &str, mutations: &[Mutation]) -> String {
    let mut text: Vec<char> = token.chars().collect();
    for mutation in mutations {
        let length = text.len().max(1);
        match *mutation {
            Mutation::Insert(at, with) => text.insert(at % length.min(text.len() + 1), with),
            _ if text.is_empty() => {}
            Mutation::Replace(at, with) => text[at % length] = with,
            Mutation::Remove(at) => drop(text.remove(at % length)),
            Mutation::Truncate(at) => text.truncate(at % length),
            Mutation::Swap(one, other) => text.swap(one % length, other % length),
            Mutation::Double(from, to) => {
                let (from, to) = (
                    (from % length).min(to % length),
                    (from % length).max(to % length),
                );
                let copy: Vec<char> = text[from..to].to_vec();
                text.splice(to..to, copy);
            }
        }
    }
    text.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_changed_token_does_not_count(which in 0..4_usize, mutations in prop::collection::vec(mutation(), 1..4)) {
        let (verifiers, tokens) = &*BENCH;
        let changed = mutate(&tokens[which], &mutations);
        prop_assume!(changed != tokens[which]);
        for verifier in verifiers {
            prop_assert!(verify(verifier, &changed).is_err(), "{changed}");
        }
    }

    #[test]
    fn any_text_is_refused(text in ".{0,200}") {
        for verifier in &BENCH.0 {
            prop_assert!(verify(verifier, &text).is_err());
        }
    }

    /// The bytes come as somebody signs them who has the key: what they say is anything.
    #[test]
    fn any_signed_bytes_do_not_panic(claims in prop::collection::vec(any::<u8>(), 0..200), json in "[\\{\\}\\[\\]:,\"a-z0-9.]{0,100}") {
        static SIGNER: LazyLock<(Signer, Verifier)> = LazyLock::new(|| {
            let signer = Signer::secret();
            let verifier = verifier(vec![key(&signer, None)]);
            (signer, verifier)
        });
        let (signer, verifier) = &*SIGNER;
        let claims = String::from_utf8_lossy(&claims);
        for text in [claims.as_ref(), &json] {
            let token = signer.token_of_text(r#"{"alg":"HS256"}"#, text);
            prop_assert!(verify(verifier, &token).is_err(), "{text}");
        }
        let token = signer.token_of_text(&json, &claims);
        prop_assert!(verify(verifier, &token).is_err());
    }
}
