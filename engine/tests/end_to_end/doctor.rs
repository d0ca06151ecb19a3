//! The doctor: what `shardcast doctor` says of the machine that the tests run on, and of limits that a test lowers.

use std::process::{Command, Output};

use serde_json::Value;

/// `shardcast doctor` with these arguments, on a port that nobody has.
fn doctor(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    command
        .args(["doctor", "--listen", "127.0.0.1:0"])
        .args(arguments);
    command
}

/// The same below the limits that `ulimit` of a shell sets.
fn doctor_below(limits: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_shardcast"))
        .args(["doctor", "--listen", "127.0.0.1:0"])
        .args(arguments);
    command
}

/// What it prints, and the code that it leaves with.
fn run(mut command: Command) -> (String, Option<i32>) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the doctor can be run");
    let errors = String::from_utf8_lossy(&stderr);
    assert!(errors.is_empty(), "{errors}");
    (
        String::from_utf8(stdout).expect("it prints UTF-8"),
        status.code(),
    )
}

/// The line about something.
fn line<'a>(text: &'a str, severity: &str, what: &str) -> &'a str {
    let start = format!("  {severity:<4}  {what}");
    text.lines()
        .find(|line| line.starts_with(&start))
        .unwrap_or_else(|| panic!("no line starts with `{start}`: {text}"))
}

/// A finding of the JSON form.
fn finding<'a>(report: &'a Value, what: &str) -> &'a Value {
    report["findings"]
        .as_array()
        .and_then(|findings| findings.iter().find(|found| found["what"] == what))
        .unwrap_or_else(|| panic!("nothing about {what}: {report}"))
}

/// The hard limit of open files of this process, which its children inherit.
fn descriptors_hard() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("/proc is mounted");
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok())
        .expect("the kernel names the limit as a number")
}

/// A number with commas between its groups of three digits.
fn commas(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are ASCII"))
        .collect();
    groups.join(",")
}

#[test]
fn few_connections_can_be_held_here_and_the_real_limit_is_found() {
    let (text, code) = run(doctor(&["--connections", "100", "--shards", "2"]));
    assert_eq!(code, Some(0), "{text}");
    let hard = commas(descriptors_hard());
    let found = line(&text, "ok", "descriptors");
    assert!(
        found.ends_with(&format!(" {hard} for the process and for each ring")),
        "{hard}: {found}"
    );
    let summary = text.lines().last().expect("there is a summary");
    assert!(summary.starts_with("holds "), "{summary}");
}

#[test]
fn sixteen_million_connections_cannot() {
    let (text, code) = run(doctor(&["--connections", "16000000"]));
    assert_eq!(code, Some(1), "{text}");
    let found = line(&text, "fail", "connections_max");
    assert!(found.ends_with("-> --connections-max 16000000"), "{found}");
    let summary = text.lines().last().expect("there is a summary");
    assert!(
        summary.contains(" connections of 16,000,000, capped first by "),
        "{summary}"
    );
}

#[test]
fn a_low_limit_of_descriptors_says_what_it_caps() {
    let arguments = ["--connections", "1000", "--shards", "2"];
    let (text, code) = run(doctor_below("ulimit -n 256", &arguments));
    assert_eq!(code, Some(1), "{text}");
    let found = line(&text, "fail", "direct descriptors");
    assert!(
        found.contains("384: 192 for each of 2 shards") && found.contains("--shards 6"),
        "{found}"
    );
    assert!(
        text.contains("\nholds 384 connections of 1,000, capped first by direct descriptors, 192 for each of 2 shards"),
        "{text}"
    );
    let arguments = ["--connections", "384", "--shards", "2"];
    let (text, code) = run(doctor_below("ulimit -n 256", &arguments));
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_low_limit_of_locked_memory_keeps_the_engine_from_starting() {
    let arguments = ["--connections", "100", "--shards", "2"];
    let (text, code) = run(doctor_below("ulimit -l 256", &arguments));
    assert_eq!(code, Some(1), "{text}");
    let found = line(&text, "fail", "locked memory");
    assert!(
        found.contains("256 KiB") && found.contains("-> ulimit -l "),
        "{found}"
    );
    assert!(text.contains("\ncannot start; would hold "), "{text}");
}

#[test]
fn the_json_form_says_the_same() {
    let mut arguments = vec!["--connections", "1000", "--shards", "2", "--json"];
    let (text, code) = run(doctor_below("ulimit -n 256", &arguments));
    assert_eq!(code, Some(1), "{text}");
    let report: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(report["sufficient"], false);
    assert_eq!(report["capacity"], 384);
    assert_eq!(report["capped_by"], "direct descriptors");
    assert_eq!(finding(&report, "direct descriptors")["severity"], "fail");
    arguments[1] = "100";
    let (text, code) = run(doctor(&arguments));
    assert_eq!(code, Some(0), "{text}");
    let report: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(report["sufficient"], true);
    assert_eq!(finding(&report, "direct descriptors")["severity"], "ok");
}

/// Not only numbers that the doctor knows: the address that this test listens on.
#[test]
fn a_port_that_is_taken_is_found() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let arguments = ["--connections", "100", "--listen", &address];
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    command.arg("doctor").args(arguments);
    let (text, code) = run(command);
    assert_eq!(code, Some(0), "{text}");
    let found = line(&text, "warn", "listen");
    assert!(found.contains(&format!("{address} is taken")), "{found}");
}
