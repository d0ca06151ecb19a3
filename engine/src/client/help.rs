//! What can be typed, in a box over the screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

/// Draws rows of what is typed and what that does, in the middle of an area.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    rows: &[(&str, &str)],
    columns: u16,
) {
    let area = area.centered(
        Constraint::Max(columns),
        Constraint::Max(rows.len() as u16 + 2),
    );
    let typed_columns = rows.iter().map(|(typed, _)| typed.len()).max().unwrap_or(0);
    let lines: Vec<_> = rows
        .iter()
        .map(|(typed, meaning)| {
            Line::from(vec![
                Span::styled(format!(" {typed:<typed_columns$}  "), Style::new().bold()),
                Span::raw(*meaning),
            ])
        })
        .collect();
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(format!(" {title} "));
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
