//! Everything that a person or another program reads of a run: the line while it runs, the table at its end, the page and
//! the HdrHistogram log. `--json` is [`RunResult`] itself.

mod axis;
mod figures;
#[cfg(test)]
mod fixtures;
pub mod hdr_log;
pub mod page;
pub mod plot;
pub mod progress;
mod section;
pub mod table;
mod units;

use crate::result::RunResult;

/// What to call each run beside the others: its server, and from the second run of one server on its number.
fn names(results: &[&RunResult]) -> Vec<String> {
    let is_same = |one: &RunResult, other: &RunResult| {
        one.server == other.server && one.workload == other.workload
    };
    results
        .iter()
        .enumerate()
        .map(|(place, result)| {
            let earlier = results[..place]
                .iter()
                .filter(|other| is_same(result, other))
                .count();
            match earlier {
                0 => result.server.clone(),
                _ => format!("{}, run {}", result.server, earlier + 1),
            }
        })
        .collect()
}

/// The runs of each workload, in the order in which workloads first come.
fn by_workload(results: &[RunResult]) -> Vec<(&str, Vec<&RunResult>)> {
    let mut groups: Vec<(&str, Vec<&RunResult>)> = Vec::new();
    for result in results {
        match groups.iter_mut().find(|(name, _)| *name == result.workload) {
            Some((_, group)) => group.push(result),
            None => groups.push((&result.workload, vec![result])),
        }
    }
    groups
}
