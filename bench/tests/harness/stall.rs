//! A server that stalls once: an open loop shows it, a closed loop hides it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shardcast_bench::result::RunResult;

use crate::bench::{Bench, latency};
use crate::server::{Fate, Server};

/// The measured part. There is no warm-up: the first message of all is the first measured one.
const MEASURED: Duration = Duration::from_secs(8);

/// The stall begins so long after the first message and lasts so long; both are far from the ends of the measured part.
const STALL_AFTER: Duration = Duration::from_millis(2500);
const STALL: Duration = Duration::from_secs(2);

/// How far the measured p99 may be from the true one.
const TOLERANCE: f64 = 0.05;

/// The p-quantile of an open loop's latencies, in seconds, when the server stands still once for `stall_s` of `measured_s`.
///
/// Messages are intended at a steady rate, so the share of them that is intended during the stall is `stall_s / measured_s`.
/// One that is intended when `x` seconds of the stall are left has its answer after these `x` seconds, and
/// `x` is spread evenly over 0 to `stall_s`; all others have theirs at once (`base_s`). So the share of messages slower
/// than `x` is `(stall_s - x) / measured_s`, and this is `1 - p` at `x = stall_s - (1 - p) * measured_s`.
fn true_quantile_s(p: f64, stall_s: f64, measured_s: f64, base_s: f64) -> f64 {
    (stall_s - (1.0 - p) * measured_s).max(0.0) + base_s
}

#[test]
fn the_true_quantile_is_that_of_every_message_counted_singly() {
    let (count, measured_s, stall_s) = (100_000, 8.0, 2.0);
    let mut latencies: Vec<f64> = (0..count)
        .map(|number| f64::from(number) / f64::from(count) * measured_s)
        .map(|intended_s| {
            let stalled = (3.0..3.0 + stall_s).contains(&intended_s);
            if stalled {
                3.0 + stall_s - intended_s
            } else {
                0.0
            }
        })
        .collect();
    latencies.sort_by(f64::total_cmp);
    for p in [0.8, 0.9, 0.99, 0.999] {
        let counted = latencies[(p * f64::from(count)) as usize];
        let derived = true_quantile_s(p, stall_s, measured_s, 0.0);
        assert!((counted - derived).abs() < 1e-3, "{p}: {counted} {derived}");
    }
}

/// One run against a server that stalls, and how long it really did.
fn run(more: &str) -> (RunResult, f64) {
    let stalled = Arc::new(Mutex::new(None));
    let its_stalled = Arc::clone(&stalled);
    let mut first = None;
    let server = Server::with_fates(move |_| {
        let first = *first.get_or_insert_with(Instant::now);
        let mut stalled = its_stalled.lock().unwrap();
        if stalled.is_none() && first.elapsed() >= STALL_AFTER {
            let begun = Instant::now();
            std::thread::sleep(STALL);
            *stalled = Some(begun.elapsed().as_secs_f64());
        }
        Fate::Deliver
    });
    let words = format!(
        "echo --connections 2 --rate 100 --warmup 0 --duration {} {more}",
        MEASURED.as_secs()
    );
    let result = Bench::against(&server.address(), "echo", &words).passes();
    let stalled_s = stalled.lock().unwrap().expect("the server has stalled");
    (result, stalled_s)
}

/// What is wrong with the latencies of an open loop; `None` when they are those of the stall.
fn open_loop_fault(result: &RunResult, stalled_s: f64) -> Option<String> {
    let quantiles = latency(result, "delivery").latency.quantiles;
    let base_s = quantiles.p50_us / 1e6;
    let truth_s = true_quantile_s(0.99, stalled_s, MEASURED.as_secs_f64(), base_s);
    let found_s = quantiles.p99_us / 1e6;
    let series = || {
        let seconds = result.seconds.iter();
        seconds
            .map(|second| {
                (
                    second.received,
                    second.latency.map(|latency| latency.p99_us),
                )
            })
            .collect::<Vec<_>>()
    };
    if (found_s / truth_s - 1.0).abs() > TOLERANCE {
        return Some(format!(
            "p99 of the open loop is {found_s:.3} s, the true one {truth_s:.3} s: a stall of {stalled_s:.3} s; {quantiles:?}"
        ));
    }
    let silent = |second: &&shardcast_bench::result::Second| {
        second.received == 0 && second.latency.is_none() && second.published > 100
    };
    if result.seconds.iter().find(silent).is_none() {
        return Some(format!(
            "no second of the stall in which messages left and none came: {:?}",
            series()
        ));
    }
    // In the second in which the stall ends nearly a second's worth of its messages and those of up to a second after
    // it arrive, so its p99 lies some hundredths of a second below the whole stall.
    let latest = |second: &shardcast_bench::result::Second| {
        second.latency.is_some_and(|latency| {
            latency.p99_us / 1e6 > 0.9 * stalled_s && latency.p99_us / 1e6 < 1.1 * stalled_s
        })
    };
    if !result.seconds.iter().any(latest) {
        return Some(format!(
            "no second whose p99 is near the stall of {stalled_s:.3} s: {:?}",
            series()
        ));
    }
    None
}

/// What is wrong with the latencies of a closed loop; `None` when they hide the stall as such a loop does.
fn closed_loop_fault(result: &RunResult, stalled_s: f64) -> Option<String> {
    let quantiles = latency(result, "delivery").latency.quantiles;
    let truth_s = true_quantile_s(0.99, stalled_s, MEASURED.as_secs_f64(), 0.0);
    if quantiles.p99_us / 1e6 > truth_s / 10.0 {
        return Some(format!(
            "p99 of the closed loop is not below a tenth of {truth_s:.3} s: {quantiles:?}"
        ));
    }
    if (quantiles.max_us / 1e6 / stalled_s - 1.0).abs() > TOLERANCE {
        return Some(format!(
            "the stall of {stalled_s:.3} s is not in the measured part of the closed loop: {quantiles:?}"
        ));
    }
    None
}

/// A machine that is busy with other tests may itself stall, so one more attempt is made.
fn in_two_attempts(more: &str, fault: impl Fn(&RunResult, f64) -> Option<String>) {
    let mut found = Vec::new();
    for _ in 0..2 {
        let (result, stalled_s) = run(more);
        match fault(&result, stalled_s) {
            None => return,
            Some(text) => found.push(text),
        }
    }
    panic!("twice: {found:#?}");
}

#[test]
fn an_open_loop_shows_the_stall_and_a_closed_loop_hides_it() {
    // Both mostly wait.
    std::thread::scope(|scope| {
        let closed = scope.spawn(|| in_two_attempts("--closed-loop", closed_loop_fault));
        in_two_attempts("", open_loop_fault);
        if let Err(panic) = closed.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
