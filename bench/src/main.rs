//! The load generator and latency harness. Not built yet: this binary says so and fails.

fn main() -> std::process::ExitCode {
    eprintln!("shardcast-bench is not built yet: there is nothing to measure with here.");
    std::process::ExitCode::FAILURE
}
