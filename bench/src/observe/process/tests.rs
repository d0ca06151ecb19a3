#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use super::*;

const MILLISECOND_NS: u64 = 1_000_000;
/// A loop that keeps a shell busy for some hundred milliseconds.
const BURN: &str = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";

/// A shell that runs the lines it is sent, and is killed at the end.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn start() -> Self {
        let mut child = Command::new("sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            input,
            output,
        }
    }

    fn tree(&self) -> ProcessTree {
        ProcessTree::of(self.child.id()).unwrap()
    }

    /// Runs a line and waits for the last word that it prints.
    fn run(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}\necho").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn this_process_is_read_whole() {
    let tree = ProcessTree::of(std::process::id()).unwrap();
    let usage = tree.usage().unwrap();
    assert!(usage.resident_bytes > 0);
    let private = usage.private_bytes.unwrap();
    assert!(private > 0 && usage.proportional_bytes.unwrap() >= private);
    assert!(usage.processes >= 1 && usage.threads >= 1);
    assert!(usage.open_descriptors.unwrap() >= 3);
    assert!(usage.voluntary_switches.is_some() && usage.involuntary_switches.is_some());
    let json = serde_json::to_string(&usage).unwrap();
    assert_eq!(serde_json::from_str::<ProcessUsage>(&json).unwrap(), usage);
}

#[test]
fn a_light_reading_leaves_out_what_is_dear() {
    let shell = Shell::start();
    let usage = shell.tree().usage_light().unwrap();
    assert_eq!(usage.private_bytes, None);
    assert_eq!(usage.voluntary_switches, None);
    assert!(usage.resident_bytes > 0 && usage.anonymous_bytes.unwrap() > 0);
    assert_eq!((usage.processes, usage.threads), (1, 1));
}

#[test]
fn a_busy_process_uses_processor_time() {
    let mut shell = Shell::start();
    let tree = shell.tree();
    let before = tree.usage_light().unwrap();
    shell.run(BURN);
    let used = tree.usage_light().unwrap().since(&before);
    let exact_ns = used.on_cpu_ns.unwrap();
    assert!(exact_ns > 20 * MILLISECOND_NS, "{used:?}");
    let sampled_ns = used.user_ns + used.system_ns;
    assert!(
        exact_ns.abs_diff(sampled_ns) <= 40 * MILLISECOND_NS,
        "{used:?}"
    );
    assert!(exact_ns <= used.wall_ns + 10 * MILLISECOND_NS, "{used:?}");
    assert!(used.cores > 0.0 && used.cores < 1.5);
}

#[test]
fn children_and_their_children_are_counted() {
    let mut shell = Shell::start();
    let tree = shell.tree();
    let alone = tree.usage().unwrap();
    // The second shell waits for a process of its own, which ends by itself should this test not get to its end.
    shell.run("sh -c 'sleep 10 & wait' >/dev/null &");
    eventually("three processes", || {
        tree.usage_light().unwrap().processes == 3
    });
    let together = tree.usage().unwrap();
    assert_eq!(together.threads, 3);
    assert!(together.private_bytes.unwrap() > alone.private_bytes.unwrap());
    assert!(together.open_descriptors.unwrap() > alone.open_descriptors.unwrap());
}

/// While it lives, a child's time is its own; as a zombie too; once it is collected it is the parent's. Never both, never none.
#[test]
fn the_time_of_a_child_that_has_ended_is_counted_once() {
    let mut shell = Shell::start();
    let tree = shell.tree();
    let before = tree.usage_light().unwrap();
    shell.run(&format!("sh -c '{BURN}' &"));
    eventually("the child has ended", || {
        tree.usage_light().unwrap().processes == 1
    });
    let ended = tree
        .usage_light()
        .unwrap()
        .since(&before)
        .on_cpu_ns
        .unwrap();
    shell.run("wait");
    let collected = tree
        .usage_light()
        .unwrap()
        .since(&before)
        .on_cpu_ns
        .unwrap();
    assert!(ended > 20 * MILLISECOND_NS, "{ended} ns");
    // What was collected is rounded down to ticks, and the shell itself did next to nothing.
    assert!(
        ended.abs_diff(collected) <= 25 * MILLISECOND_NS,
        "{ended} then {collected} ns"
    );
}

#[test]
fn no_such_process() {
    for pid in [u32::MAX, i32::MAX.unsigned_abs(), 0] {
        let error = ProcessTree::of(pid).unwrap_err();
        assert!(
            matches!(error, ObserveError::NoSuchProcess { .. }),
            "{error}"
        );
        let message = error.to_string();
        assert!(
            message.contains(&pid.to_string()) && message.contains("pgrep"),
            "{message}"
        );
    }
}

#[test]
fn a_process_that_ends_is_said_to_have_ended() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let tree = ProcessTree::of(child.id()).unwrap();
    tree.usage_light().unwrap();
    child.kill().unwrap();
    eventually(
        "it has ended",
        || matches!(tree.usage_light(), Err(ObserveError::Ended { pid }) if pid == child.id()),
    );
    // A zombie is there, and is not a process to observe.
    assert!(matches!(
        ProcessTree::of(child.id()),
        Err(ObserveError::Ended { .. })
    ));
    child.wait().unwrap();
    assert!(matches!(tree.usage(), Err(ObserveError::Ended { .. })));
}

#[test]
fn a_sum_with_an_unknown_part_is_unknown() {
    let cases = [
        (Some(1), Some(2), Some(3)),
        (Some(1), None, None),
        (None, Some(2), None),
    ];
    for (before, summand, after) in cases {
        let mut sum = before;
        add(&mut sum, summand);
        assert_eq!(sum, after);
    }
}

#[test]
fn use_of_processor_time_between_readings() {
    let mut earlier = CpuSums {
        at_ns: 1000,
        user_ns: 100,
        system_ns: 50,
        on_cpu_ns: Some(155),
        complete: true,
    }
    .usage(Depth::Light);
    let mut later = earlier.clone();
    later.at_ns = 2000;
    later.user_ns = 600;
    later.system_ns = 550;
    later.on_cpu_ns = Some(2155);
    let used = later.since(&earlier);
    assert_eq!(
        (used.wall_ns, used.user_ns, used.system_ns),
        (1000, 500, 500)
    );
    assert_eq!(used.on_cpu_ns, Some(2000));
    assert!((used.cores - 2.0).abs() < 1e-9);
    earlier.on_cpu_ns = None;
    let sampled = later.since(&earlier);
    assert_eq!(sampled.on_cpu_ns, None);
    assert!((sampled.cores - 1.0).abs() < 1e-9);
    assert!(later.since(&later).cores.abs() < 1e-9);
}

#[test]
fn switches_of_a_thread() {
    let cases = [
        (
            "Name:\tx\nvoluntary_ctxt_switches:\t15\nnonvoluntary_ctxt_switches:\t3\n",
            Some((15, 3)),
        ),
        ("nonvoluntary_ctxt_switches:\t3\n", None),
        (
            "voluntary_ctxt_switches:\tmany\nnonvoluntary_ctxt_switches:\t3\n",
            None,
        ),
        ("", None),
    ];
    for (status, switches) in cases {
        assert_eq!(switches_in(status), switches, "{status:?}");
    }
}
