//! The comparison as Markdown, and its place in a README: between two markers, so that a new one replaces the old.

use std::time::{Duration, UNIX_EPOCH};

use super::catalogue::FLOOR;
use super::comparison::Comparison;
use super::table;

/// Stands before the comparison in a README.
pub(super) const BEGIN: &str = "<!-- compare:begin -->";
/// Stands after it.
pub(super) const END: &str = "<!-- compare:end -->";

/// What of the machine the document names; all of it is in the JSON.
const MACHINE: [&str; 5] = [
    "kernel",
    "processor",
    "logical cores",
    "virtual machine",
    "memory",
];

/// The markers of a README are not there, or not in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "needs the line {BEGIN} and below it the line {END}, once each: the text between them is replaced"
)]
pub struct MarkersError;

/// The text with the document between the markers in place of what stood there.
///
/// # Errors
/// A marker is missing, stands twice, or the two are in the wrong order.
pub fn replace_between_markers(text: &str, document: &str) -> Result<String, MarkersError> {
    let (before, rest) = text.split_once(BEGIN).ok_or(MarkersError)?;
    let (old, after) = rest.split_once(END).ok_or(MarkersError)?;
    let stray = [before, old, after]
        .iter()
        .any(|part| part.contains(BEGIN) || part.contains(END));
    if stray {
        return Err(MarkersError);
    }
    Ok(format!(
        "{before}{BEGIN}\n\n{}\n\n{END}{after}",
        document.trim()
    ))
}

impl Comparison {
    /// The tables, how they were made, and where a peer is ahead, as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut parts = vec![self.origin(), self.legend()];
        parts.extend(self.workloads.iter().map(table::markdown));
        parts.push(self.ahead_list());
        parts.extend(self.versions());
        if !self.missing.is_empty() {
            parts.push(bullets("Left out:", &self.missing));
        }
        parts.join("\n")
    }

    /// The tables for a terminal, and where a peer is ahead.
    #[must_use]
    pub fn terminal(&self) -> String {
        let mut text = String::new();
        for workload in &self.workloads {
            text.push_str(&table::terminal(workload));
            text.push('\n');
        }
        text.push_str(&self.legend());
        text.push('\n');
        text.push_str(&self.ahead_list());
        text
    }

    fn origin(&self) -> String {
        let machine = self.machine.iter();
        let machine = machine.filter(|fact| MACHINE.contains(&&*fact.name));
        let machine: Vec<String> = machine
            .map(|fact| format!("{}: {}", fact.name, fact.value))
            .collect();
        let ended_early = if self.orders.len() < self.rounds as usize {
            format!(" of {} planned (the time was up)", self.rounds)
        } else {
            String::new()
        };
        let rounds = if self.orders.len() == 1 {
            "round"
        } else {
            "rounds"
        };
        let mut text = format!(
            "Measured on {} in {:.0} s with `{}`: {} {rounds}{ended_early}, seed {}, each server on {}, the generator on {}.\n",
            date(self.started_unix_ms),
            self.took_s,
            self.command,
            self.orders.len(),
            self.seed,
            cores(&self.server_cores),
            cores(&self.generator_cores),
        );
        if !machine.is_empty() {
            text.push_str(&format!("The machine: {}.\n", machine.join("; ")));
        }
        text
    }

    fn legend(&self) -> String {
        format!(
            "A cell holds the median over the rounds (the smallest to the largest), and below it how many times the figure of {} it is, made \
             within each round. `{FLOOR}` is a bare loop of `send`: what the kernel alone costs. The best stands first. Failed runs count in \
             no figure.\n",
            self.baseline
        )
    }

    fn ahead_list(&self) -> String {
        let title = if self.baseline == "shardcast" {
            "Where a peer is ahead of Shardcast:".to_owned()
        } else {
            format!("Where another server is ahead of {}:", self.baseline)
        };
        let mut lines = self.ahead_of_baseline();
        if lines.is_empty() {
            lines.push("in nothing that was measured here".to_owned());
        }
        lines.extend(self.not_compared());
        bullets(&title, &lines)
    }

    /// The workloads in which there is nothing to compare with.
    fn not_compared(&self) -> Vec<String> {
        let without = self.workloads.iter().filter(|workload| {
            let mut rows = workload.rows.iter();
            !rows.any(|row| {
                workload.baseline.as_ref() == Some(&row.server) && !row.figures.is_empty()
            })
        });
        without
            .map(|workload| {
                format!(
                    "{}: not compared, as {} has no passed run",
                    workload.name, self.baseline
                )
            })
            .collect()
    }

    fn versions(&self) -> Option<String> {
        let known: Vec<String> = self
            .servers
            .iter()
            .filter_map(|server| Some(format!("{}: {}", server.name, server.version.as_ref()?)))
            .collect();
        (!known.is_empty()).then(|| bullets("Versions:", &known))
    }
}

fn cores(list: &str) -> String {
    let several = list.contains(['-', ',']);
    format!("{} {list}", if several { "cores" } else { "core" })
}

fn bullets(title: &str, lines: &[String]) -> String {
    let mut text = format!("{title}\n\n");
    for line in lines {
        text.push_str(&format!("* {}\n", table::escaped(line)));
    }
    text
}

/// The day in UTC, such as `2026-01-31`.
fn date(unix_ms: u64) -> String {
    let moment = UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms));
    let text = moment.map(|moment| humantime::format_rfc3339_seconds(moment).to_string());
    text.and_then(|text| Some(text.split_once('T')?.0.to_owned()))
        .unwrap_or_else(|| format!("{unix_ms} ms after 1970"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_text_between_the_markers_is_replaced_and_nothing_else() {
        let text = format!("# A\n\n{BEGIN}\nold\n{END}\n\nrest\n");
        let new = replace_between_markers(&text, "new\n").unwrap();
        assert_eq!(new, format!("# A\n\n{BEGIN}\n\nnew\n\n{END}\n\nrest\n"));
        assert_eq!(replace_between_markers(&new, "new").unwrap(), new);
    }

    #[test]
    fn markers_that_are_missing_doubled_or_turned_round_are_an_error() {
        for text in [
            "nothing".to_owned(),
            BEGIN.to_owned(),
            format!("{END}{BEGIN}"),
            format!("{BEGIN}{BEGIN}{END}"),
            format!("{BEGIN}{END}{END}"),
        ] {
            assert_eq!(replace_between_markers(&text, "new"), Err(MarkersError));
        }
    }

    #[test]
    fn a_date_is_the_day_in_utc() {
        assert_eq!(date(1_767_225_599_000), "2025-12-31");
        assert_eq!(date(1_767_225_600_000), "2026-01-01");
    }
}
