//! Draws `top`.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph, Row, Sparkline, Table};

use super::activity::{last, last_latency};
use super::once::LATENCY_SAMPLES_MAX;
use super::view::{Pane, View};
use crate::client::figures::{age, bytes, grouped, latency, short};
use crate::client::help;
use crate::client::text::{fit, harmless, hour};

/// Rows of a chart with its frame: the first of these that leaves the lists their rows counts.
const CHART_ROWS: [u16; 3] = [5, 4, 3];

/// Rows that the lists should have.
const LIST_ROWS: u16 = 10;

/// The fewest columns of a chart.
const CHART_COLUMNS_MIN: u16 = 24;

/// Above so much of its time a shard is drawn in yellow, and in red.
const BUSY: (f64, f64) = (0.7, 0.9);

/// Columns of the list of shards with all that it has. Below it has no rooms, and a shorter bar.
const SHARDS_COLUMNS: u16 = 100;

/// A list of rooms with fewer columns has no messages.
const ROOMS_COLUMNS: u16 = 54;

const HELP: &[(&str, &str)] = &[
    ("q", "end"),
    ("Tab, arrows", "another list; up and down in it"),
    ("s", "sort the list by another column"),
    ("p", "pause, and go on"),
    ("?", "this"),
];

/// A number over the last minutes.
struct Chart {
    title: &'static str,
    value: String,
    numbers: Vec<u64>,
    colour: Color,
}

/// Draws all that has room.
pub fn draw(frame: &mut Frame<'_>, view: &mut View) {
    let area = frame.area();
    let charts = charts(view);
    let across = usize::from(area.width / CHART_COLUMNS_MIN).clamp(1, 4);
    let down = charts.len().div_ceil(across) as u16;
    // The shards need a frame and a header; of the rest every row is welcome.
    let shards = view.activity().shards.len() as u16 + 3;
    let fits = |rows: &u16| area.height >= 2 + down * rows + LIST_ROWS;
    let chart_rows = CHART_ROWS.into_iter().find(fits);
    let middle_rows = match chart_rows {
        Some(rows) => down * rows,
        None => down_numbers(&charts, across).min(area.height.saturating_sub(2)),
    };
    let rest = area.height.saturating_sub(2 + middle_rows);
    let has_lists = rest >= LIST_ROWS;
    let shard_rows = if has_lists {
        shards.min(rest - 5)
    } else {
        rest
    };
    let [header, middle, shards, lists, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(middle_rows),
        Constraint::Length(shard_rows),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_header(frame, header, view);
    match chart_rows {
        Some(rows) => draw_charts(frame, middle, &charts, across, rows),
        None => draw_numbers(frame, middle, &charts, across),
    }
    if has_lists {
        draw_shards(frame, shards, view);
        let [rooms, consumers] = Layout::horizontal([Constraint::Fill(1); 2]).areas(lists);
        draw_rooms(frame, rooms, view);
        draw_consumers(frame, consumers, view);
    } else if shards.height >= 3 {
        // One list at a time has room: the one that the user has gone to.
        match view.pane() {
            Pane::Shards => draw_shards(frame, shards, view),
            Pane::Rooms => draw_rooms(frame, shards, view),
            Pane::Consumers => draw_consumers(frame, shards, view),
        }
    }
    draw_footer(frame, footer, view);
    if view.help {
        help::draw(frame, area, "keys", HELP, 52);
    }
}

fn draw_header(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let activity = view.activity();
    let node = &activity.node;
    let text = format!(
        " shardcast {}  {}  {}  up {}  {} connections  {} ",
        harmless(&node.version),
        harmless(&node.url),
        harmless(&node.phase),
        age(node.uptime_ms),
        grouped(node.connections),
        hour(activity.now_unix_ms)
    );
    let colour = match node.phase.as_str() {
        "serving" => Color::Green,
        _ => Color::Yellow,
    };
    let style = Style::new().fg(colour).add_modifier(Modifier::REVERSED);
    let line = fit(&text, usize::from(area.width));
    frame.render_widget(Paragraph::new(line).style(style), area);
}

fn draw_footer(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let (text, style) = match (view.failure(), view.is_paused()) {
        (Some((seconds, why)), _) => (
            format!(" {why}; for {seconds} s, tried again each second "),
            Style::new().fg(Color::Red).add_modifier(Modifier::REVERSED),
        ),
        (None, true) => (
            " paused; p goes on ".to_owned(),
            Style::new()
                .fg(Color::Yellow)
                .add_modifier(Modifier::REVERSED),
        ),
        (None, false) => (
            " q end  Tab lists  s sort  p pause  ? help".to_owned(),
            Style::new().dim(),
        ),
    };
    let line = fit(&text, usize::from(area.width));
    frame.render_widget(Paragraph::new(line).style(style), area);
}

fn charts(view: &View) -> Vec<Chart> {
    let all = &view.activity().samples.all;
    let rate = |title, numbers: &[f64], colour| Chart {
        title,
        value: format!("{}/s", short(last(numbers))),
        numbers: whole(numbers),
        colour,
    };
    let traffic = |title, numbers: &[f64], colour| Chart {
        title,
        value: format!("{}/s", bytes(last(numbers))),
        numbers: whole(numbers),
        colour,
    };
    let percentile = |title, latencies: &[Option<f64>], colour| Chart {
        title,
        value: latency(last_latency(latencies, LATENCY_SAMPLES_MAX)),
        numbers: latencies
            .iter()
            .map(|us| us.unwrap_or_default() as u64)
            .collect(),
        colour,
    };
    vec![
        Chart {
            title: "connections",
            value: grouped(view.activity().node.connections),
            numbers: whole(&all.connections),
            colour: Color::Cyan,
        },
        rate("messages", &all.messages_per_s, Color::Green),
        rate("deliveries", &all.deliveries_per_s, Color::Green),
        percentile("p50", &all.p50_us, Color::Magenta),
        percentile("p99", &all.p99_us, Color::Magenta),
        percentile("p99.9", &all.p999_us, Color::Magenta),
        traffic("received", &all.received_bytes_per_s, Color::Blue),
        traffic("sent", &all.sent_bytes_per_s, Color::Blue),
        rate("accepts", &all.accepts_per_s, Color::Cyan),
        rate("dropped", &all.dropped_per_s, Color::Red),
        Chart {
            title: "busy",
            value: format!("{:.0}%", last(&all.busy) * 100.0),
            numbers: all.busy.iter().map(|busy| (busy * 1000.0) as u64).collect(),
            colour: Color::Yellow,
        },
    ]
}

/// Rounded up, so that little is not drawn as nothing.
fn whole(numbers: &[f64]) -> Vec<u64> {
    numbers
        .iter()
        .map(|number| number.max(0.0).ceil() as u64)
        .collect()
}

fn draw_charts(
    frame: &mut Frame<'_>,
    area: Rect,
    charts: &[Chart],
    across: usize,
    chart_rows: u16,
) {
    let rows = charts.chunks(across);
    let areas = Layout::vertical(vec![Constraint::Length(chart_rows); rows.len()]).split(area);
    for (row, area) in rows.zip(areas.iter()) {
        let areas = Layout::horizontal(vec![Constraint::Fill(1); row.len()]).split(*area);
        for (chart, area) in row.iter().zip(areas.iter()) {
            draw_chart(frame, *area, chart);
        }
    }
}

fn draw_chart(frame: &mut Frame<'_>, area: Rect, chart: &Chart) {
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().dim())
        .title(format!(" {} ", chart.title))
        .title(
            Line::styled(format!(" {} ", chart.value), Style::new().bold())
                .alignment(Alignment::Right),
        );
    let inner = block.inner(area);
    frame.render_widget(block, area);
    // The newest stands at the right.
    let columns = usize::from(inner.width);
    let first = chart.numbers.len().saturating_sub(columns);
    let newest = &chart.numbers[first..];
    let width = newest.len() as u16;
    let inner = Rect {
        x: inner.x + inner.width - width,
        width,
        ..inner
    };
    let sparkline = Sparkline::default()
        .data(newest)
        .max(newest.iter().copied().max().unwrap_or(0).max(1))
        .style(Style::new().fg(chart.colour));
    frame.render_widget(sparkline, inner);
}

const fn down_numbers(charts: &[Chart], across: usize) -> u16 {
    charts.len().div_ceil(across) as u16
}

/// Where charts have no room.
fn draw_numbers(frame: &mut Frame<'_>, area: Rect, charts: &[Chart], across: usize) {
    let columns = usize::from(area.width) / across;
    let number = |chart: &Chart| {
        let value = columns.saturating_sub(2 + 12);
        [
            Span::raw(format!(" {:<12}", chart.title)),
            Span::styled(
                format!("{:>value$} ", chart.value),
                Style::new().bold().fg(chart.colour),
            ),
        ]
    };
    let lines: Vec<_> = charts
        .chunks(across)
        .map(|row| Line::from_iter(row.iter().flat_map(number)))
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// A list with its header.
struct List<'a> {
    pane: Pane,
    title: &'static str,
    header: Row<'static>,
    rows: Vec<Row<'static>>,
    widths: &'a [Constraint],
}

/// Draws a list below its header, as far as it has been scrolled.
fn draw_list(frame: &mut Frame<'_>, area: Rect, view: &mut View, list: List<'_>) {
    let pane = list.pane;
    let style = match view.pane() == pane {
        true => Style::new().fg(Color::Cyan),
        false => Style::new().dim(),
    };
    let count = list.rows.len();
    let title = format!(" {} ({count}) by {} ", list.title, view.sorted_by(pane));
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(style)
        .title(Span::styled(title, Style::new().bold()));
    let visible = usize::from(area.height.saturating_sub(3));
    let first = view.scroll(pane, count, visible);
    let rows = list.rows.into_iter().skip(first).take(visible);
    let spacing = if area.width >= SHARDS_COLUMNS { 2 } else { 1 };
    let table = Table::new(rows, list.widths.to_vec())
        .header(list.header.style(Style::new().dim()))
        .column_spacing(spacing)
        .block(block);
    frame.render_widget(table, area);
}

fn right(text: String) -> Line<'static> {
    Line::from(text).alignment(Alignment::Right)
}

fn draw_shards(frame: &mut Frame<'_>, area: Rect, view: &mut View) {
    let shards = view.shards();
    let is_wide = area.width >= SHARDS_COLUMNS;
    let bar_columns: usize = if is_wide { 10 } else { 4 };
    let rows = shards
        .iter()
        .map(|(shard, busy)| {
            let busy = busy.clamp(0.0, 1.0);
            let colour = match busy {
                busy if busy > BUSY.1 => Color::Red,
                busy if busy > BUSY.0 => Color::Yellow,
                _ => Color::Green,
            };
            let full = (busy * bar_columns as f64).round() as usize;
            let bar = Line::from(vec![
                Span::styled("█".repeat(full), Style::new().fg(colour)),
                Span::styled("░".repeat(bar_columns - full), Style::new().dim()),
                Span::raw(format!(" {:>3.0}%", busy * 100.0)),
            ]);
            let answers = match shard.answers {
                true => Line::styled("yes", Style::new().fg(Color::Green)),
                false => Line::styled("NO", Style::new().fg(Color::Red).bold()),
            };
            let core = shard
                .core
                .map_or_else(|| "–".to_owned(), |core| core.to_string());
            Row::new([
                right(shard.shard.to_string()),
                right(core),
                bar,
                right(grouped(shard.connections)),
                answers,
                right(grouped(shard.mailbox_depth)),
                right(grouped(shard.outboxes)),
                right(bytes(shard.outbox_bytes as f64)),
                right(shard.restarts.to_string()),
                right(short(shard.rooms as f64)),
            ])
        })
        .collect();
    let widths = [5, 4, bar_columns as u16 + 5, 11, 7, 7, 8, 9, 8, 6].map(Constraint::Length);
    // The last column is left out first.
    let widths = &widths[..if is_wide { 10 } else { 9 }];
    let header = Row::new([
        right("shard".to_owned()),
        right("core".to_owned()),
        Line::from("busy"),
        right("connections".to_owned()),
        Line::from("answers"),
        right("mailbox".to_owned()),
        right("outboxes".to_owned()),
        right("waits".to_owned()),
        right("restarts".to_owned()),
        right("rooms".to_owned()),
    ]);
    let list = List {
        pane: Pane::Shards,
        title: "shards",
        header,
        rows,
        widths,
    };
    draw_list(frame, area, view, list);
}

fn draw_rooms(frame: &mut Frame<'_>, area: Rect, view: &mut View) {
    let rooms = view.rooms();
    let rows = rooms
        .iter()
        .map(|room| {
            Row::new([
                Line::from(harmless(&room.room)),
                right(short(room.deliveries_per_s)),
                right(grouped(room.connections)),
                right(short(room.messages_per_s)),
            ])
        })
        .collect();
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(12),
        Constraint::Length(11),
        Constraint::Length(10),
    ];
    let header = Row::new([
        Line::from("room"),
        right("deliveries/s".to_owned()),
        right("connections".to_owned()),
        right("messages/s".to_owned()),
    ]);
    // The last column is left out first.
    let widths = &widths[..if area.width >= ROOMS_COLUMNS { 4 } else { 3 }];
    let list = List {
        pane: Pane::Rooms,
        title: "busiest rooms",
        header,
        rows,
        widths,
    };
    draw_list(frame, area, view, list);
}

fn draw_consumers(frame: &mut Frame<'_>, area: Rect, view: &mut View) {
    let consumers = view.consumers();
    let rows = consumers
        .iter()
        .map(|consumer| {
            Row::new([
                Line::from(harmless(&consumer.user)),
                right(bytes(consumer.outbox_bytes as f64)),
                right(consumer.shard.to_string()),
                Line::from(harmless(&consumer.id)),
            ])
        })
        .collect();
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(5),
        Constraint::Length(14),
    ];
    let header = Row::new([
        Line::from("user"),
        right("waits".to_owned()),
        right("shard".to_owned()),
        Line::from("connection"),
    ]);
    let list = List {
        pane: Pane::Consumers,
        title: "slow consumers",
        header,
        rows,
        widths: &widths,
    };
    draw_list(frame, area, view, list);
}

#[cfg(test)]
mod tests;
