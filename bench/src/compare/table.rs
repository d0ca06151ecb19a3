//! The tables of a comparison, for the terminal and for Markdown: a row for each server, and in each cell the median and its spread over the
//! ratio and its spread.

use comfy_table::{ContentArrangement, Table, presets};

use super::comparison::{Figure, Row, WorkloadComparison};
use super::metric::Metric;
use super::ratio::Spread;

const ABSENT: &str = "–";
/// Marks a server whose figures the generator may have limited.
const LIMITED: &str = " †";

/// Cells of text, each of one or two lines.
#[derive(Debug, PartialEq)]
struct Grid {
    header: Vec<String>,
    rows: Vec<Vec<Vec<String>>>,
}

/// The table of a workload for the terminal, its footnotes below.
pub(super) fn terminal(workload: &WorkloadComparison) -> String {
    let grid = grid(workload);
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(&grid.header);
    for row in grid.rows {
        table.add_row(row.into_iter().map(|cell| cell.join("\n")));
    }
    let mut text = format!("{}: {}\n{table}\n", workload.name, workload.title);
    for note in footnotes(workload) {
        text.push_str(&note);
        text.push('\n');
    }
    text
}

/// The same in Markdown.
pub(super) fn markdown(workload: &WorkloadComparison) -> String {
    let grid = grid(workload);
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rule = grid.header.iter().enumerate();
    let rule = rule.map(|(column, _)| if column == 0 { "---" } else { "---:" }.to_owned());
    let mut text = format!("**{}**: {}\n\n", workload.name, workload.title);
    text.push_str(&line(grid.header.clone()));
    text.push_str(&line(rule.collect()));
    for row in grid.rows {
        let cells = row.into_iter().map(|cell| escaped(&cell.join("<br>")));
        text.push_str(&line(cells.collect()));
    }
    for note in footnotes(workload) {
        text.push_str(&format!("\n{note}\n"));
    }
    text
}

/// A text that stays within its cell.
pub(super) fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn grid(workload: &WorkloadComparison) -> Grid {
    // A column for nothing tells nothing.
    let measured = |metric: &Metric| {
        workload
            .rows
            .iter()
            .any(|row| row.figure(*metric).is_some())
    };
    let floored = |metric: Metric| {
        let mut figures = workload.rows.iter().filter_map(|row| row.figure(metric));
        metric.has_floor_column() && figures.any(|figure| figure.to_floor.is_some())
    };
    let metrics = workload
        .metrics
        .iter()
        .copied()
        .filter(measured)
        .collect::<Vec<_>>();
    let mut header = vec!["server".to_owned()];
    for metric in &metrics {
        header.push(metric.title().to_owned());
        if floored(*metric) {
            header.push("× floor".to_owned());
        }
    }
    header.push("runs".to_owned());
    let row = |row: &Row| {
        let limited = if row.generator_limits.is_empty() {
            ""
        } else {
            LIMITED
        };
        // Once its own figure says nothing.
        let is_baseline = workload.baseline.as_ref() == Some(&row.server);
        let mut cells = vec![vec![format!("{}{limited}", row.server)]];
        for metric in &metrics {
            let figure = row.figure(*metric);
            cells.push(figure_cell(figure, !is_baseline));
            if floored(*metric) {
                let ratio = figure.and_then(|figure| figure.to_floor);
                cells.push(ratio.map_or_else(absent, |ratio| vec![times(&ratio)]));
            }
        }
        cells.push(vec![runs(row)]);
        cells
    };
    Grid {
        header,
        rows: workload.rows.iter().map(row).collect(),
    }
}

fn absent() -> Vec<String> {
    vec![ABSENT.to_owned()]
}

fn figure_cell(figure: Option<&Figure>, with_ratio: bool) -> Vec<String> {
    let Some(figure) = figure else {
        return absent();
    };
    let value = with_spread(&figure.value, number);
    let ratio = figure
        .to_baseline
        .as_ref()
        .filter(|_| with_ratio)
        .map(times);
    std::iter::once(value).chain(ratio).collect()
}

fn times(ratio: &Spread) -> String {
    let with_sign = |value: f64| format!("{value:.2}");
    let text = with_spread(ratio, with_sign);
    match text.split_once(' ') {
        Some((median, spread)) => format!("{median}× {spread}"),
        None => format!("{text}×"),
    }
}

/// The median, and in parentheses the smallest and the largest where there are several.
fn with_spread(spread: &Spread, write: impl Fn(f64) -> String) -> String {
    let median = write(spread.median);
    if spread.count == 1 {
        return median;
    }
    format!("{median} ({}–{})", write(spread.min), write(spread.max))
}

fn runs(row: &Row) -> String {
    match (row.failures.first(), row.runs) {
        (_, 0) => "not run".to_owned(),
        (None, runs) => runs.to_string(),
        (Some(first), runs) => format!("failed {} of {runs}: {first}", row.failures.len()),
    }
}

/// One note for all that the sign marks. Each run's own reason stands in its result.
fn footnotes(workload: &WorkloadComparison) -> Vec<String> {
    let of_row = |row: &Row| {
        let count = row.generator_limits.len();
        (count > 0).then(|| format!("{} {count} of {}", row.server, row.runs))
    };
    let marked: Vec<String> = workload.rows.iter().filter_map(of_row).collect();
    if marked.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "†{SPACE}In some runs the generator, not the server, was the limit, and latencies hold its own lateness: {}.",
        marked.join(", ")
    )]
}

/// Keeps a sign and what it belongs to on one line.
const SPACE: char = '\u{a0}';

/// Three significant digits; whole numbers with separators from a thousand on.
pub(super) fn number(value: f64) -> String {
    if value >= 999.5 {
        return grouped(value.round() as u64);
    }
    let decimals = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn figure(metric: Metric, value: [f64; 3], to_floor: Option<[f64; 2]>) -> Figure {
        Figure {
            metric,
            value: Spread::of(value).unwrap(),
            to_baseline: Spread::of(value.map(|value| value / 10.0)),
            to_floor: to_floor.and_then(Spread::of),
        }
    }

    fn workload(rows: Vec<Row>) -> WorkloadComparison {
        WorkloadComparison {
            name: "rooms".to_owned(),
            title: "a room".to_owned(),
            arguments: Vec::new(),
            metrics: vec![Metric::CpuPerDelivery, Metric::P99Latency, Metric::Capacity],
            baseline: Some("shardcast".to_owned()),
            rows,
        }
    }

    fn row(server: &str, figures: Vec<Figure>) -> Row {
        Row {
            server: server.to_owned(),
            runs: 3,
            failures: Vec::new(),
            generator_limits: Vec::new(),
            figures,
        }
    }

    #[test]
    fn a_row_says_median_spread_and_ratios() {
        let cpu = figure(
            Metric::CpuPerDelivery,
            [15.0, 14.0, 16.5],
            Some([2.0, 2.25]),
        );
        let p99 = figure(Metric::P99Latency, [1234.0, 80.0, 43_210.0], None);
        let mut limited = row("axum", vec![cpu, p99]);
        limited
            .generator_limits
            .push("its core was busy".to_owned());
        let mut failed = row("ws", vec![]);
        failed.failures.push("12 missing".to_owned());

        let text = markdown(&workload(vec![limited, failed]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2..6],
            [
                "| server | CPU a delivery, µs | × floor | p99, µs | runs |",
                "| --- | ---: | ---: | ---: | ---: |",
                "| axum † | 15.0 (14.0–16.5)<br>1.50× (1.40–1.65) | 2.12× (2.00–2.25) | 1,234 (80.0–43,210)<br>123.40× (8.00–4321.00) | 3 |",
                "| ws | – | – | – | failed 1 of 3: 12 missing |",
            ]
        );
        assert!(text.contains("latencies hold its own lateness: axum 1 of 3."));
    }

    #[test]
    fn a_single_run_has_no_spread() {
        let one = Figure {
            metric: Metric::P99Latency,
            value: Spread::of([210.0]).unwrap(),
            to_baseline: Spread::of([1.0]),
            to_floor: None,
        };
        assert_eq!(figure_cell(Some(&one), true), ["210", "1.00×"]);
        assert_eq!(figure_cell(Some(&one), false), ["210"]);
        assert_eq!(figure_cell(None, true), ["–"]);
    }

    #[test]
    fn the_terminal_shows_the_same_cells() {
        let p99 = figure(Metric::P99Latency, [10.0, 10.0, 10.0], None);
        let text = terminal(&workload(vec![row("axum", vec![p99])]));
        assert!(text.contains("10.0 (10.0–10.0)"), "{text}");
        assert!(text.contains("1.00× (1.00–1.00)"), "{text}");
        assert!(!text.contains("deliveries a second"), "{text}");
    }

    #[test]
    fn numbers_have_three_digits_or_are_whole() {
        let numbers = [0.0, 6.543, 9.996, 65.43, 654.3, 999.7, 1_234_567.0].map(number);
        assert_eq!(
            numbers,
            ["0.00", "6.54", "10.0", "65.4", "654", "1,000", "1,234,567"]
        );
        assert_eq!(escaped("a|b\nc"), "a\\|b c");
    }
}
