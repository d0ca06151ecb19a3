//! A diagnosis as lines for people and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::{CAPACITY, Diagnosis, Group};
use crate::preflight::{Finding, Severity, commas};

/// How `shardcast doctor` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line for each finding.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    listen: String,
    connections: u64,
    capacity: u64,
    capped_by: Option<&'a str>,
    sufficient: bool,
    findings: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    group: &'a str,
    severity: &'a str,
    what: &'a str,
    value: &'a str,
    remedy: Option<&'a str>,
}

impl Diagnosis {
    /// The diagnosis in the form asked for, with a line feed at its end.
    #[must_use]
    pub fn print(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Json => self.json(),
        }
    }

    fn text(&self) -> String {
        let title = format!(
            "shardcast {} on {}, examined for {} connections\n",
            env!("CARGO_PKG_VERSION"),
            self.listen,
            commas(self.connections)
        );
        let mut text = self.groups.iter().fold(title, |mut text, group| {
            print_group(&mut text, group);
            text
        });
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    /// How many connections could be held, what bounds them first, and how much was found.
    fn summary(&self) -> String {
        let count = |severity| {
            self.findings()
                .filter(|found| found.severity == severity)
                .count()
        };
        let capacity = self.capacity.connections();
        let mut summary = match self.is_startable() {
            true => format!("holds {} connections", commas(capacity)),
            false => format!("cannot start; would hold {} connections", commas(capacity)),
        };
        if capacity < self.connections {
            summary.push_str(&format!(" of {}", commas(self.connections)));
        }
        if let Some(cap) = self.capacity.lowest() {
            summary.push_str(&format!(", capped first by {}, {}", cap.what, cap.why));
        }
        let (failures, warnings) = (count(Severity::Fatal), count(Severity::Warning));
        summary.push_str(&format!(" (fail: {failures}, warn: {warnings})"));
        summary
    }

    /// Whether nothing but the number of connections is too much.
    fn is_startable(&self) -> bool {
        self.groups
            .iter()
            .filter(|group| group.title != CAPACITY)
            .flat_map(|group| &group.findings)
            .all(|found| found.severity < Severity::Fatal)
    }

    fn json(&self) -> String {
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            listen: self.listen.to_string(),
            connections: self.connections,
            capacity: self.capacity.connections(),
            capped_by: self.capacity.lowest().map(|cap| cap.what),
            sufficient: self.severity() < Severity::Fatal,
            findings: self
                .groups
                .iter()
                .flat_map(|group| {
                    let line = |found| Line::new(group.title, found);
                    group.findings.iter().map(line)
                })
                .collect(),
        };
        // Strings and numbers always have a form in JSON.
        let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl<'a> Line<'a> {
    fn new(group: &'a str, found: &'a Finding) -> Self {
        Self {
            group,
            severity: mark(found.severity),
            what: found.what,
            value: &found.value,
            remedy: found.remedy.as_deref(),
        }
    }
}

fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warning => "warn",
        Severity::Fatal => "fail",
    }
}

/// The findings of a group one below the other, each whole on its line, so that what follows the arrow can be cut out and run.
fn print_group(text: &mut String, group: &Group) {
    let columns = group
        .findings
        .iter()
        .map(|found| found.what.len())
        .max()
        .unwrap_or(0);
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{}", group.title);
    for found in &group.findings {
        let _ = write!(
            text,
            "  {:<4}  {:columns$}  {}",
            mark(found.severity),
            found.what,
            found.value
        );
        let _ = match &found.remedy {
            Some(remedy) => writeln!(text, "  -> {remedy}"),
            None => writeln!(text),
        };
    }
}
