//! `scripts/settings.table`: what sysctl should say for a number of connections, and what it says.

use super::system::System;
use super::{Exam, number};
use crate::preflight::Finding;

/// The table. Its head explains the columns.
const TABLE: &str = include_str!("../../../scripts/settings.table");

/// How a value is to compare with the one wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    AtLeast,
    AtMost,
    Exactly,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The setting as the table has it, with `[i]` where it holds several values.
    pub(super) label: &'static str,
    /// The setting.
    pub(super) name: &'static str,
    /// Which of several values is meant.
    pub(super) index: Option<usize>,
    pub(super) comparison: Comparison,
    base: u64,
    each: u64,
}

/// The rows. A line that is none is left out; a test says that there is no such line.
pub(super) fn rows() -> impl Iterator<Item = Row> {
    lines().filter_map(row)
}

/// The lines that are no comments.
fn lines() -> impl Iterator<Item = &'static str> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
}

fn row(line: &'static str) -> Option<Row> {
    let mut fields = line.split_whitespace();
    let label = fields.next()?;
    let (name, index) = match label.split_once('[') {
        Some((name, index)) => (name, Some(index.strip_suffix(']')?.parse().ok()?)),
        None => (label, None),
    };
    Some(Row {
        label,
        name,
        index,
        comparison: match fields.next()? {
            "at-least" => Comparison::AtLeast,
            "at-most" => Comparison::AtMost,
            "exactly" => Comparison::Exactly,
            _ => return None,
        },
        base: fields.next()?.parse().ok()?,
        each: fields.next()?.parse().ok()?,
    })
}

impl Row {
    /// The value wanted for so many connections.
    pub(super) fn wanted(&self, connections: u64) -> u64 {
        self.base
            .saturating_add(self.each.saturating_mul(connections))
    }

    /// The value among those that the setting holds.
    fn value(&self, text: &str) -> Option<u64> {
        text.split_whitespace()
            .nth(self.index.unwrap_or(0))?
            .parse()
            .ok()
    }

    fn is_met(&self, value: u64, wanted: u64) -> bool {
        match self.comparison {
            Comparison::AtLeast => value >= wanted,
            Comparison::AtMost => value <= wanted,
            Comparison::Exactly => value == wanted,
        }
    }

    fn examine(&self, exam: &Exam<'_>) -> Finding {
        let Some(text) = exam.system.settings.get(self.name) else {
            return Finding::ok(self.label, "this kernel does not have it".to_owned());
        };
        let wanted = self.wanted(exam.connections);
        let value = self.value(text);
        if value.is_some_and(|value| self.is_met(value, wanted)) {
            return Finding::ok(self.label, value.map(number).unwrap_or_default());
        }
        let comparison = match self.comparison {
            Comparison::AtLeast => "at least ",
            Comparison::AtMost => "at most ",
            Comparison::Exactly => "",
        };
        let value = value.map_or_else(|| format!("`{text}`"), number);
        Finding::warning(
            self.label,
            format!("{value}, should be {comparison}{}", number(wanted)),
            remedy(exam.system, self.name, exam.connections),
        )
    }
}

/// A finding for each row.
pub(super) fn examine(exam: &Exam<'_>) -> Vec<Finding> {
    rows().map(|row| row.examine(exam)).collect()
}

/// The command that gives a setting what all of its rows want. So two rows of one setting have the same command, and neither undoes the other's.
pub(super) fn remedy(system: &System, name: &str, connections: u64) -> String {
    let text = system.settings.get(name).map_or("", String::as_str);
    let mut values: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    for row in rows().filter(|row| row.name == name) {
        let wanted = row.wanted(connections);
        let index = row.index.unwrap_or(0);
        if row
            .value(text)
            .is_some_and(|value| row.is_met(value, wanted))
        {
            continue;
        }
        if values.len() <= index {
            values.resize(index + 1, String::new());
        }
        if let Some(value) = values.get_mut(index) {
            *value = wanted.to_string();
        }
    }
    match &values[..] {
        [value] => format!("sysctl -w {name}={value}"),
        values => format!("sysctl -w {name}='{}'", values.join(" ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_row() {
        assert_eq!(rows().count(), lines().count());
        assert!(rows().count() >= 10);
    }

    #[test]
    fn fields_of_a_row() {
        let read = row("net.ipv4.tcp_mem[2]  at-least 196608 2  pages").unwrap();
        assert_eq!(read.label, "net.ipv4.tcp_mem[2]");
        assert_eq!(read.name, "net.ipv4.tcp_mem");
        assert_eq!(read.wanted(1_000_000), 2_196_608);
        assert_eq!(read.value("287901\t383868\t575802"), Some(575_802));
        assert_eq!(read.value("1 2"), None);
        for line in [
            "",
            "vm.swappiness",
            "vm.swappiness about 10 0",
            "vm.swappiness at-most ten 0",
            "vm.swappiness at-most 10",
            "net.ipv4.tcp_mem[2 at-least 1 0",
            "net.ipv4.tcp_mem[x] at-least 1 0",
        ] {
            assert_eq!(row(line), None, "{line:?}");
        }
    }

    #[test]
    fn values_compare() {
        let row = |comparison| Row {
            label: "a.b",
            name: "a.b",
            index: None,
            comparison,
            base: 10,
            each: 0,
        };
        let cases = [
            (Comparison::AtLeast, [false, true, true]),
            (Comparison::AtMost, [true, true, false]),
            (Comparison::Exactly, [false, true, false]),
        ];
        for (comparison, met) in cases {
            for (value, met) in (9..).zip(met) {
                assert_eq!(
                    row(comparison).is_met(value, 10),
                    met,
                    "{comparison:?} {value}"
                );
            }
        }
    }
}
