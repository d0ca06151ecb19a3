//! What a token costs whoever checks it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::json;

use super::refusals::{Case, cases};
use super::*;

/// The median time of a check.
fn cost(verifier: &Verifier, token: &str, rounds: usize) -> Duration {
    let (limits, mut cache) = (Limits::default(), RulesCache::default());
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            let outcome = verifier.verify(black_box(token), NOW * 1000, &limits, &mut cache);
            let time = begun.elapsed();
            drop(black_box(outcome));
            time
        })
        .collect();
    times.sort_unstable();
    times[rounds / 2]
}

/// A good token of as many bytes and rules as are permitted.
fn largest(signer: &Signer) -> String {
    let limits = Limits::default();
    let rooms: Vec<Value> = (0..limits.token_rules_max)
        .map(|index| json!({"room": format!("{index}"), "rights": ["join"]}))
        .collect();
    let token = |size: usize| {
        let pad = "x".repeat(size);
        signer.token(&claims_with(&json!({"rooms": rooms, "pad": pad})))
    };
    let spare = limits.token_size_max as usize - token(0).len();
    // Base64 makes four characters of three bytes.
    let token = token(spare / 4 * 3);
    assert!(
        token.len() as u64 > limits.token_size_max - 8,
        "{}",
        token.len()
    );
    token
}

/// The costliest token of each reason.
fn costliest(verifier: &Verifier, cases: &[Case], rounds: usize) -> Vec<(String, Duration)> {
    let mut found: Vec<(String, Duration)> = Vec::new();
    for (_, token, refused) in cases {
        let (name, time) = (
            format!("{:?}", refused.outcome()),
            cost(verifier, token, rounds),
        );
        match found.iter_mut().find(|(other, _)| *other == name) {
            Some((_, most)) => *most = time.max(*most),
            None => found.push((name, time)),
        }
    }
    found
}

/// A refusal is not dearer than what is granted: nobody gains by sending tokens that do not count.
#[test]
fn a_refusal_costs_no_more_than_the_largest_good_token() {
    // As a test it is generous: other work on the machine is in these times.
    const TOLERANCE: u32 = 4;
    for (signer, other) in Signer::of_each_kind().iter().zip(&Signer::of_each_kind()) {
        let verifier = verifier(vec![key(signer, None)]);
        let good = cost(&verifier, &largest(signer), 101);
        for (reason, time) in costliest(&verifier, &cases(signer, other), 11) {
            assert!(
                time <= good * TOLERANCE,
                "{}: {reason} took {time:?}, a good token {good:?}",
                signer.algorithm()
            );
        }
    }
}

/// `cargo test --release -p shardcast --lib auth::tests::costs -- --ignored --nocapture`
#[test]
#[ignore = "prints a table, in a release build"]
fn table() {
    let signers = Signer::of_each_kind();
    let mut rows: Vec<(String, Vec<Duration>)> = Vec::new();
    let mut enter = |name: &str, time| match rows.iter_mut().find(|(other, _)| other == name) {
        Some((_, times)) => times.push(time),
        None => rows.push((name.to_owned(), vec![time])),
    };
    for (signer, other) in signers.iter().zip(&Signer::of_each_kind()) {
        let verifier = verifier(vec![key(signer, None)]);
        enter(
            "good, small",
            cost(&verifier, &signer.token(&claims()), 1001),
        );
        enter("good, largest", cost(&verifier, &largest(signer), 1001));
        for (reason, time) in costliest(&verifier, &cases(signer, other), 1001) {
            enter(&reason, time);
        }
        let named = verifier_named(signer);
        let token = signer.token_named("other", &claims());
        enter("UnknownKey", cost(&named, &token, 1001));
    }
    let names: Vec<&str> = signers.iter().map(Signer::algorithm).collect();
    println!("| outcome | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (name, times) in rows {
        let cells: Vec<String> = times
            .iter()
            .map(|time| format!("{:.1}", time.as_nanos() as f64 / 1000.0))
            .collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn verifier_named(signer: &Signer) -> Verifier {
    verifier(vec![key(signer, Some("one"))])
}
