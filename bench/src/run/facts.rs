//! What a reader of numbers wants to know of the run's surroundings.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::observe::Machine;
use crate::result::Fact;

/// Milliseconds since 1970 (UTC).
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The command line as a shell would take it, with the program's name alone.
pub(super) fn command_line() -> String {
    let quoted = |word: String| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,=+@%".contains(&byte);
        if !word.is_empty() && word.bytes().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let words = std::env::args().skip(1).map(quoted);
    ["shardcast-bench".to_owned()]
        .into_iter()
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What a reader of numbers wants to know of the machine.
pub(super) fn machine_facts(machine: &Machine) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        facts.extend(value.map(|value| Fact::new(name, value)));
    };
    add("kernel", machine.kernel_release.clone());
    add("architecture", Some(machine.architecture.clone()));
    add("processor", machine.cpu_model.clone());
    add(
        "logical cores",
        machine.logical_cores.map(|cores| cores.to_string()),
    );
    add(
        "physical cores",
        machine.physical_cores.map(|cores| cores.to_string()),
    );
    add(
        "virtual machine",
        machine
            .virtualised
            .map(|is| if is { "yes" } else { "no" }.to_owned()),
    );
    add(
        "memory",
        machine
            .memory_bytes
            .map(|bytes| format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64)),
    );
    add("clock source", machine.clock_source.clone());
    let governors = &machine.frequency_governors;
    add(
        "frequency governor",
        (!governors.is_empty()).then(|| governors.join(", ")),
    );
    if let Some(limit) = &machine.descriptor_limit {
        add(
            "open files (soft limit)",
            limit.soft.map(|soft| soft.to_string()),
        );
    }
    for (name, value) in &machine.settings {
        add(name, Some(value.clone()));
    }
    add(
        "harness",
        Some(format!("shardcast-bench {}", env!("CARGO_PKG_VERSION"))),
    );
    facts
}
