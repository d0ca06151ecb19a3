//! Plots as SVG, drawn with plotters.
//!
//! The alternatives that draw in the browser carry a megabyte or more of JavaScript into every page; a page of these
//! plots is some tens of kilobytes, needs no script, and prints. Axes are laid out here rather than by plotters, so that
//! times get ticks at 1, 2 and 5 and percentiles at nines.
//!
//! Colours are of the kind of [`TONES`]. In the SVG stands the one for a light background; [`dark_rules`] are the CSS
//! rules that exchange it for the other in the dark.

use plotters::coord::Shift;
use plotters::prelude::{
    ChartBuilder, Circle, Color, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, IntoFont,
    LineSeries, RGBColor, Rectangle, SVGBackend, ShapeStyle, Text, TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thiserror::Error;

use super::axis::Axis;
pub use super::axis::Unit;

/// Units of the drawing for each pixel at which it is meant to be seen: plotters rounds coordinates to whole units.
const SCALE: u32 = 10;

/// Width of a plot, in pixels of a page at its natural size.
const WIDTH: u32 = 460;

/// Height of a plot of lines.
const HEIGHT: u32 = 280;

/// Height of a bar and of its name above it.
const BAR_HEIGHT: u32 = 44;

/// Height of letters. plotters divides it by 1.24 on the way into the SVG.
const LETTERS: f64 = 12.0 * 1.24;

/// A colour on a light and on a dark background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tone {
    /// On a light background.
    pub light: RGBColor,
    /// On a dark background.
    pub dark: RGBColor,
}

const fn tone(light: (u8, u8, u8), dark: (u8, u8, u8)) -> Tone {
    Tone {
        light: RGBColor(light.0, light.1, light.2),
        dark: RGBColor(dark.0, dark.1, dark.2),
    }
}

/// Letters, axes and the lines of the grid.
const INK: [Tone; 3] = [
    tone((0x52, 0x5B, 0x69), (0xA9, 0xB2, 0xC0)),
    tone((0x8B, 0x95, 0xA4), (0x6A, 0x74, 0x85)),
    tone((0xE4, 0xE7, 0xEC), (0x2E, 0x34, 0x3F)),
];

/// The colours of lines and bars, in the order in which they are given out. They differ in lightness too, and each has
/// a contrast of at least 3 to 1 with its background.
pub const TONES: [Tone; 10] = [
    tone((0x1B, 0x62, 0xA8), (0x6C, 0xB2, 0xF2)),
    tone((0xC9, 0x5A, 0x0B), (0xF5, 0x9D, 0x52)),
    tone((0x2B, 0x7D, 0x4B), (0x67, 0xC9, 0x8B)),
    tone((0x7D, 0x45, 0xB4), (0xBE, 0x9B, 0xEE)),
    tone((0xB4, 0x23, 0x38), (0xF2, 0x7D, 0x8B)),
    tone((0x0D, 0x80, 0x88), (0x52, 0xCB, 0xD1)),
    tone((0x8C, 0x6D, 0x02), (0xDD, 0xBE, 0x4E)),
    tone((0xB3, 0x32, 0x86), (0xF0, 0x8C, 0xCB)),
    tone((0x45, 0x4F, 0x5F), (0xB4, 0xBE, 0xCD)),
    tone((0x7E, 0x4D, 0x2C), (0xD3, 0xA7, 0x87)),
];

/// A line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its colour.
    pub tone: Tone,
    /// Its points by rising x; where one is absent, the line is interrupted.
    pub points: Vec<Option<(f64, f64)>>,
}

/// A plot of lines.
#[derive(Clone, Debug)]
pub struct LinePlot {
    /// What the horizontal axis measures, in words.
    pub x_label: &'static str,
    /// What it measures.
    pub x: Unit,
    /// What the vertical axis measures.
    pub y: Unit,
    /// Whether each point has a dot, because there are few.
    pub dots: bool,
    /// The lines.
    pub lines: Vec<Line>,
}

/// A bar of a plot of bars: its name, its colour, its whole length, and the solid part of it, the rest being paler.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it is the bar of.
    pub name: String,
    /// What it says of its length.
    pub value: String,
    /// Its colour.
    pub tone: Tone,
    /// Its length.
    pub whole: f64,
    /// The solid part of it; absent where the bar has no parts.
    pub solid: Option<f64>,
}

/// A drawn plot: what stands between `<svg>` and `</svg>`, and the drawing's width and height in its own units.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// Elements, escaped.
    pub elements: String,
    /// Width and height.
    pub size: (u32, u32),
}

/// plotters could not draw.
#[derive(Debug, Error)]
#[error("a plot could not be drawn: {0}")]
pub struct PlotError(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

impl LinePlot {
    /// Draws it; `None` if no point of it can be shown.
    ///
    /// # Errors
    ///
    /// What plotters reports.
    pub fn draw(&self) -> Result<Option<Drawing>, PlotError> {
        let points = || {
            self.lines
                .iter()
                .flat_map(|line| line.points.iter().flatten())
        };
        let x = Axis::over(self.x, points().map(|point| point.0));
        let y = Axis::over(self.y, points().map(|point| point.1));
        let (Some(x), Some(y)) = (x, y) else {
            return Ok(None);
        };
        draw_on((WIDTH, HEIGHT), |root| self.draw_chart(root, &x, &y)).map(Some)
    }

    fn draw_chart(&self, root: &Canvas<'_>, x: &Axis, y: &Axis) -> Result<(), PlotError> {
        let letters = text_style();
        let widest = y.ticks.iter().map(|(_, label)| label.chars().count()).max();
        let label_width = 20 + 7 * widest.unwrap_or(0) as u32;
        let mut chart = ChartBuilder::on(root)
            .margin_top(10 * SCALE)
            .margin_right(32 * SCALE)
            .x_label_area_size(46 * SCALE)
            .y_label_area_size(label_width * SCALE)
            .build_cartesian_2d(x.clone(), y.clone())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(stroke(INK[2], 1.0))
            .light_line_style(plotters::style::TRANSPARENT)
            .axis_style(stroke(INK[1], 1.0))
            .set_all_tick_mark_size(5 * SCALE)
            .label_style(letters.clone())
            .axis_desc_style(letters)
            .x_desc(self.x_label)
            .draw()?;
        for line in &self.lines {
            for run in line.points.split(Option::is_none) {
                let points: Vec<(f64, f64)> = run
                    .iter()
                    .flatten()
                    .copied()
                    .filter(|point| x.shows(point.0) && y.shows(point.1))
                    .collect();
                let style = stroke(line.tone, 2.0);
                // A point between two gaps would be invisible as a line.
                if self.dots || points.len() == 1 {
                    let dot = |point: &(f64, f64)| {
                        Circle::new(*point, 3 * SCALE, line.tone.light.filled())
                    };
                    chart.draw_series(points.iter().map(dot))?;
                }
                chart.draw_series(LineSeries::new(points, style))?;
            }
        }
        Ok(())
    }
}

/// Draws bars from left to right, each below its name; `None` if there is none.
///
/// # Errors
///
/// What plotters reports.
pub fn draw_bars(bars: &[Bar]) -> Result<Option<Drawing>, PlotError> {
    let longest = bars.iter().map(|bar| bar.whole).fold(0.0, f64::max);
    if bars.is_empty() || !longest.is_finite() || longest <= 0.0 {
        return Ok(None);
    }
    let width = WIDTH * SCALE;
    let length = |value: f64| (f64::from(width) * (value / longest).clamp(0.0, 1.0)) as i32;
    let draw_bar = |root: &Canvas<'_>, top: i32, bar: &Bar| -> Result<(), PlotError> {
        let baseline = top + 17 * SCALE as i32;
        let (above, below) = (top + 22 * SCALE as i32, top + 36 * SCALE as i32);
        let letters = text_style().pos(Pos::new(HPos::Left, VPos::Bottom));
        root.draw(&Text::new(shortened(&bar.name, 44), (0, baseline), letters))?;
        let letters = text_style().pos(Pos::new(HPos::Right, VPos::Bottom));
        root.draw(&Text::new(
            bar.value.clone(),
            (width as i32, baseline),
            letters,
        ))?;
        let solid = bar.solid.unwrap_or(bar.whole);
        let pale = bar.tone.light.mix(0.45).filled();
        let full = bar.tone.light.filled();
        for (from, to, style) in [(0.0, solid, full), (solid, bar.whole, pale)] {
            if to > from {
                root.draw(&Rectangle::new(
                    [(length(from), above), (length(to), below)],
                    style,
                ))?;
            }
        }
        Ok(())
    };
    draw_on((WIDTH, BAR_HEIGHT * bars.len() as u32), |root| {
        for (place, bar) in bars.iter().enumerate() {
            draw_bar(root, (place as u32 * BAR_HEIGHT * SCALE) as i32, bar)?;
        }
        Ok(())
    })
    .map(Some)
}

/// The CSS rules that show drawings in the colours for the dark.
#[must_use]
pub fn dark_rules() -> String {
    let mut rules = String::new();
    for Tone { light, dark } in INK.iter().chain(&TONES) {
        let (light, dark) = (hex(*light), hex(*dark));
        rules.push_str(&format!(
            "svg [stroke=\"{light}\"]{{stroke:{dark}}}svg [fill=\"{light}\"]{{fill:{dark}}}\n"
        ));
    }
    rules
}

/// A colour as CSS and plotters write it.
#[must_use]
pub fn hex(colour: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_on(
    (width, height): (u32, u32),
    draw: impl FnOnce(&Canvas<'_>) -> Result<(), PlotError>,
) -> Result<Drawing, PlotError> {
    let size = (width * SCALE, height * SCALE);
    let mut document = String::new();
    {
        let root = SVGBackend::with_string(&mut document, size).into_drawing_area();
        draw(&root)?;
        root.present()?;
    }
    let inside = document
        .split_once('>')
        .and_then(|(_, rest)| rest.rsplit_once("</svg>"))
        .map_or("", |(elements, _)| elements);
    // Text is escaped and so never holds these attributes, which say nothing.
    let elements = inside
        .replace(" opacity=\"1\"", "")
        .replace(" font-family=\"sans-serif\"", "")
        .replace(" \"/>", "\"/>");
    Ok(Drawing { elements, size })
}

fn stroke(tone: Tone, width: f64) -> ShapeStyle {
    tone.light.stroke_width((width * f64::from(SCALE)) as u32)
}

fn text_style() -> TextStyle<'static> {
    ("sans-serif", LETTERS * f64::from(SCALE))
        .into_font()
        .color(&INK[0].light)
}

fn shortened(text: &str, length_max: usize) -> String {
    if text.chars().count() <= length_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(length_max - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_interrupts_the_line() {
        let points = vec![
            Some((0.0, 1.0)),
            Some((1.0, 2.0)),
            None,
            Some((3.0, 1.0)),
            Some((4.0, 1.0)),
        ];
        let plot = LinePlot {
            x_label: "seconds",
            x: Unit::Seconds,
            y: Unit::Count,
            dots: false,
            lines: vec![Line {
                tone: TONES[0],
                points,
            }],
        };
        let drawing = plot.draw().unwrap().unwrap();
        let colour = format!("stroke=\"{}\"", hex(TONES[0].light));
        assert_eq!(drawing.elements.matches(&colour).count(), 2);
        assert!(!drawing.elements.contains("<svg"));
    }

    #[test]
    fn names_in_bars_are_escaped_and_shortened() {
        let bar = |name: &str| Bar {
            name: name.to_owned(),
            value: "1 µs".to_owned(),
            tone: TONES[1],
            whole: 1.0,
            solid: Some(0.25),
        };
        let bars = [bar("<script>"), bar(&"x".repeat(100))];
        let drawing = draw_bars(&bars).unwrap().unwrap();
        assert!(drawing.elements.contains("&lt;script&gt;"));
        assert!(drawing.elements.contains(&format!("{}…", "x".repeat(43))));
        assert!(draw_bars(&[]).unwrap().is_none());
    }

    #[test]
    fn every_colour_has_its_dark_one_and_none_stands_for_two() {
        let rules = dark_rules();
        let mut lights: Vec<String> = INK
            .iter()
            .chain(&TONES)
            .map(|tone| hex(tone.light))
            .collect();
        assert!(lights.iter().all(|light| rules.contains(light)));
        lights.sort();
        lights.dedup();
        assert_eq!(lights.len(), INK.len() + TONES.len());
    }
}
