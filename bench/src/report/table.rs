//! The report on the terminal.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use console::{Style, Term};

use super::section::{self, Section};
use super::units;
use super::{by_workload, names};
use crate::result::RunResult;

/// What a report is printed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paper {
    /// Columns to keep within; `None` lets every line be as long as it needs.
    pub width: Option<u16>,
    /// Whether titles and verdicts are coloured.
    pub colour: bool,
}

impl Paper {
    /// What standard output is: a terminal of some width, in colour unless `NO_COLOR` or its like is set;
    /// anything else is plain and as wide as need be.
    #[must_use]
    pub fn of_stdout() -> Self {
        let terminal = Term::stdout();
        Self {
            width: terminal.size_checked().map(|(_, columns)| columns),
            colour: terminal.is_term() && console::colors_enabled(),
        }
    }

    fn painted(self, text: &str, style: &Style) -> String {
        if self.colour {
            style.clone().force_styling(true).apply_to(text).to_string()
        } else {
            text.to_owned()
        }
    }
}

/// The report of one run: what was run, what was measured, notes, and last whether it passed or why not.
#[must_use]
pub fn table(result: &RunResult, paper: Paper) -> String {
    let mut text = paper.painted(&section::headline(result), &Style::new().bold());
    text.push('\n');
    for section in section::measurements(result) {
        push_section(&mut text, &section, paper);
    }
    if !result.notes.is_empty() {
        push_title(&mut text, "Notes", paper);
        for note in &result.notes {
            push_sentence(&mut text, &units::printable(note), paper);
        }
    }
    push_verdict(&mut text, result, paper);
    text
}

/// Runs of the same workload beside each other, one row each, then the failures of each.
#[must_use]
pub fn comparison(results: &[RunResult], paper: Paper) -> String {
    let mut text = String::new();
    for (workload, runs) in by_workload(results) {
        let names = names(&runs);
        let section = section::comparison(workload, &runs, &names);
        push_section(&mut text, &section, paper);
        for (result, name) in runs.iter().zip(&names) {
            for failure in &result.failures {
                let sentence = units::printable(&format!("✗ {name}: {failure}"));
                push_sentence(&mut text, &paper.painted(&sentence, &bad()), paper);
            }
        }
    }
    text
}

fn push_section(text: &mut String, section: &Section, paper: Paper) {
    push_title(text, &section.title, paper);
    if let Some(warning) = &section.warning {
        let style = Style::new().yellow().bold();
        push_sentence(text, &paper.painted(warning, &style), paper);
    }
    for columns in blocks(section, paper) {
        push_block(text, section, &columns, paper);
    }
    for remark in &section.remarks {
        push_sentence(text, &paper.painted(remark, &Style::new().dim()), paper);
    }
}

/// The columns of a section in blocks that fit side by side, each with the first column, which names the rows.
fn blocks(section: &Section, paper: Paper) -> Vec<Vec<usize>> {
    let count = section.rows.first().map_or(0, Vec::len);
    let room = paper.width.map_or(usize::MAX, usize::from);
    let mut blocks: Vec<Vec<usize>> = Vec::new();
    let mut taken = usize::MAX;
    for column in 0..count {
        let width = width_min(section, column);
        match blocks.last_mut() {
            Some(block) if taken.saturating_add(width) <= room => block.push(column),
            Some(_) if column > 0 => {
                blocks.push(vec![0, column]);
                taken = INDENT.len() + width_min(section, 0);
            }
            _ => {
                blocks.push(vec![column]);
                taken = INDENT.len();
            }
        }
        taken += width;
    }
    blocks
}

/// The least width of a column, its padding included: numbers are never broken, words are where there are many.
fn width_min(section: &Section, column: usize) -> usize {
    let cells = section.rows.iter().map(|row| row[column].as_deref());
    let cells = cells.map(|cell| console::measure_text_width(cell.unwrap_or(units::ABSENT)));
    let head = section.columns.get(column).copied().unwrap_or_default();
    let head_width = head.split(' ').map(console::measure_text_width).max();
    let widest = cells.max().unwrap_or(0);
    let widest = if head.is_empty() || is_words(head) {
        widest.min(WORDS_WIDTH)
    } else {
        widest
    };
    widest.max(head_width.unwrap_or(0)) + PADDING
}

/// Some columns of a section, as lines.
fn push_block(text: &mut String, section: &Section, columns: &[usize], paper: Paper) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if let Some(width) = paper.width {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width.saturating_sub(INDENT.len() as u16).max(20));
    }
    if !section.columns.is_empty() {
        table.set_header(columns.iter().map(|column| section.columns[*column]));
    }
    for row in &section.rows {
        let cell = |column: &usize| row[*column].as_deref().unwrap_or(units::ABSENT);
        table.add_row(columns.iter().map(cell));
    }
    // Numbers stand flush right under their head; names, and the sentences of a last column, flush left.
    for (column, of) in columns.iter().zip(table.column_iter_mut()) {
        let name = section.columns.get(*column);
        of.set_padding((0, PADDING as u16));
        of.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(
            width_min(section, *column) as u16,
        )));
        of.set_cell_alignment(if name.is_none_or(|name| is_words(name)) {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        });
    }
    for line in table.lines() {
        text.push_str(INDENT);
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Spaces between two columns.
const PADDING: usize = 2;

/// The width that a column of words keeps where there is little room.
const WORDS_WIDTH: usize = 24;

const INDENT: &str = "  ";

/// Whether a column of this name holds words rather than numbers.
pub(super) fn is_words(column: &str) -> bool {
    matches!(column, "of" | "server" | "because" | "passed")
}

fn push_title(text: &mut String, title: &str, paper: Paper) {
    text.push('\n');
    text.push_str(&paper.painted(&units::printable(title), &Style::new().bold().underlined()));
    text.push('\n');
}

/// A sentence, wrapped at words and indented.
fn push_sentence(text: &mut String, sentence: &str, paper: Paper) {
    let width = paper.width.map_or(usize::MAX, usize::from).max(20);
    let mut column = 0;
    for word in sentence.split(' ') {
        let length = console::measure_text_width(word);
        if column > 0 && column + 1 + length <= width {
            text.push(' ');
            column += 1;
        } else {
            if column > 0 {
                text.push('\n');
            }
            text.push_str(INDENT);
            column = INDENT.len();
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

fn push_verdict(text: &mut String, result: &RunResult, paper: Paper) {
    text.push('\n');
    if result.failures.is_empty() {
        let style = Style::new().green().bold();
        text.push_str(&paper.painted("Passed.", &style));
        text.push('\n');
        return;
    }
    text.push_str(&paper.painted("Failed:", &bad()));
    text.push('\n');
    for failure in &result.failures {
        let sentence = format!("✗ {}", units::printable(failure));
        push_sentence(text, &paper.painted(&sentence, &bad()), paper);
    }
}

fn bad() -> Style {
    Style::new().red().bold()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::report::fixtures;
    use crate::result::DensityStep;

    const PLAIN: Paper = Paper {
        width: None,
        colour: false,
    };

    #[test]
    fn it_says_what_was_run_and_what_was_found() {
        let text = table(&fixtures::rooms("shardcast"), PLAIN).replace('\u{a0}', " ");
        let first = text.lines().next();
        assert_eq!(
            first,
            Some(
                "rooms against shardcast: 10,000 connections, 60 s measured, begun 2026-01-01 00:00:00 UTC"
            )
        );
        for wanted in [
            "p99.9",
            "last receiver",
            "messages sent",
            "6,000 (100/s)",
            "600,000 (10,000/s)",
            "CPU per delivery",
            "1.25 µs",
            "10,000 of 10,000",
            "busiest core",
            "Loopback has no network.",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing of\n{text}");
        }
        assert!(text.ends_with("\nPassed.\n"));
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn failures_stand_last_and_the_harness_admits_its_limit() {
        let text = table(&fixtures::failed(), PLAIN);
        assert!(text.contains("The harness, not the server, was the limit: its core was busy"));
        let failed = text.find("Failed:");
        assert!(failed > text.find("Harness") && failed.is_some());
        assert!(!text.contains("Passed."));
        assert!(text.ends_with("✗ 12 deliveries never arrived.\n"));
    }

    #[test]
    fn what_was_not_measured_is_left_out_or_a_dash_and_never_zero() {
        let text = table(&fixtures::bare(), PLAIN);
        for absent in [
            "Server",
            "Latency",
            "Deliveries",
            "ramp",
            "messages left late by",
        ] {
            assert!(!text.contains(absent), "{absent} stands in\n{text}");
        }
        let text = table(&fixtures::density_without_pid(), PLAIN);
        assert!(!text.contains("server per conn."), "{text}");
        assert!(text.contains("kernel per conn."));
        let first_step = text.lines().find(|line| line.contains("250,000"));
        assert!(
            first_step.is_some_and(|line| line.contains(units::ABSENT)),
            "{text}"
        );
    }

    #[test]
    fn it_keeps_within_the_terminal() {
        for result in fixtures::all() {
            let paper = Paper {
                width: Some(80),
                colour: true,
            };
            let text = table(&result, paper);
            for line in text.lines().skip(1) {
                let width = console::measure_text_width(line);
                assert!(width <= 80, "{width} columns: {line}");
            }
        }
    }

    #[test]
    fn a_table_too_wide_goes_on_below_and_breaks_no_number() {
        let paper = Paper {
            width: Some(80),
            colour: false,
        };
        let text = table(&fixtures::density(), paper);
        let heads = text.lines().filter(|line| line.contains("connections  "));
        assert_eq!(heads.count(), 2, "{text}");
        let last = |line: &&str| line.trim_start().starts_with("1,000,000 ");
        let rows: Vec<&str> = text.lines().filter(last).collect();
        assert!(rows[0].contains("7.73\u{a0}KiB") && rows[1].ends_with("0.16\u{a0}cores"));
    }

    #[test]
    fn a_density_run_says_how_much_the_latency_has_grown() {
        let mut result = fixtures::density();
        let ratio = |result: &RunResult| {
            let text = table(result, PLAIN);
            let line = text
                .lines()
                .find(|line| line.contains("p99 of the probes beside"));
            line.map(str::to_owned)
        };
        let p99_us = |step: &DensityStep| step.probe.as_ref().unwrap().quantiles.p99_us;
        let (first, last) = (&result.density[0], &result.density[7]);
        let grown = format!(
            "is {:.2} times that beside 125,000.",
            p99_us(last) / p99_us(first)
        );
        assert!(
            ratio(&result).unwrap().ends_with(&grown),
            "{:?}",
            ratio(&result)
        );
        result.density.truncate(1);
        assert_eq!(ratio(&result), None, "one step grows by nothing");
    }

    #[test]
    fn colours_are_only_where_asked_for() {
        let paper = Paper {
            width: None,
            colour: true,
        };
        assert!(table(&fixtures::failed(), paper).contains("\u{1b}["));
        assert!(!table(&fixtures::failed(), PLAIN).contains('\u{1b}'));
    }

    #[test]
    fn a_comparison_has_a_row_for_each_run_and_tells_runs_of_one_server_apart() {
        let mut runs = vec![fixtures::rooms("shardcast"), fixtures::rooms("shardcast")];
        runs.push(fixtures::failed());
        let text = comparison(&runs, PLAIN);
        assert!(text.contains("shardcast, run 2"));
        assert!(text.contains("12 deliveries never arrived."));
        assert!(text.contains("failed"));
    }
}
