//! Which plots a page shows of which results.

use super::plot::{Bar, Drawing, Line, LinePlot, PlotError, TONES, Tone, Unit, draw_bars};
use super::units;
use crate::latency::Latency;
use crate::result::{CapacityStep, DensityStep, Quantiles, RunResult, Second};

/// The points that a line over time keeps at most: more than a plot has room for only makes the page larger.
const POINTS_MAX: usize = 240;

/// A plot with what a reader needs beside it.
pub(super) struct Figure {
    pub(super) title: String,
    /// What is shown, in a sentence.
    pub(super) caption: String,
    /// Names of colours; empty where the title says it all.
    pub(super) legend: Vec<(String, Tone)>,
    pub(super) drawing: Drawing,
}

/// The plots of one run, or of runs of one workload: then each plot has a line for each run.
pub(super) fn figures(runs: &[(&RunResult, String)]) -> Result<Vec<Figure>, PlotError> {
    let drafts = [
        percentiles(runs),
        latency_over_time(runs),
        deliveries_over_time(runs),
        connections_over_time(runs),
        cpu_over_time(runs),
        memory_over_time(runs),
        memory_by_connections(runs),
        probe_by_connections(runs),
        latency_by_rate(runs),
        cpu_by_rate(runs),
        recovery(runs),
    ];
    let mut figures = Vec::new();
    for draft in drafts {
        figures.extend(draft.draw(runs.len() == 1)?);
    }
    figures.extend(cpu_per_delivery(runs)?);
    Ok(figures)
}

/// Lines with their names, before they are drawn.
struct Draft {
    title: String,
    caption: String,
    x_label: &'static str,
    x: Unit,
    y: Unit,
    dots: bool,
    lines: Vec<(String, Vec<Point>)>,
}

/// A place on a plot; absent where nothing was measured.
type Point = Option<(f64, f64)>;

type Runs<'a> = [(&'a RunResult, String)];

impl Draft {
    /// Draws the lines that have points; `None` if no line has any. The only line of a run alone needs no name.
    fn draw(self, is_alone: bool) -> Result<Option<Figure>, PlotError> {
        let lines: Vec<(String, Vec<Point>, Tone)> = self
            .lines
            .into_iter()
            .zip(TONES.into_iter().cycle())
            .map(|((name, points), tone)| (name, points, tone))
            .filter(|(_, points, _)| points.iter().any(Option::is_some))
            .collect();
        let legend = lines.iter().map(|(name, _, tone)| (name.clone(), *tone));
        let legend = if is_alone && lines.len() == 1 {
            Vec::new()
        } else {
            legend.collect()
        };
        let plot = LinePlot {
            x_label: self.x_label,
            x: self.x,
            y: self.y,
            dots: self.dots,
            lines: lines
                .into_iter()
                .map(|(_, points, tone)| Line { tone, points })
                .collect(),
        };
        Ok(plot.draw()?.map(|drawing| Figure {
            title: self.title,
            caption: self.caption,
            legend,
            drawing,
        }))
    }
}

/// A line for each run.
fn line_each(
    runs: &Runs<'_>,
    points: impl Fn(&RunResult) -> Vec<Point>,
) -> Vec<(String, Vec<Point>)> {
    runs.iter()
        .map(|(result, name)| (name.clone(), points(result)))
        .collect()
}

/// The named lines of a single run, or the one of them that matters most for each of many.
fn lines_of(
    runs: &Runs<'_>,
    all: &[&str],
    foremost: usize,
    points: impl Fn(&RunResult, usize) -> Vec<Point>,
) -> Vec<(String, Vec<Point>)> {
    match runs {
        [(result, _)] => all
            .iter()
            .enumerate()
            .map(|(place, name)| ((*name).to_owned(), points(result, place)))
            .collect(),
        many => line_each(many, |result| points(result, foremost)),
    }
}

fn percentiles(runs: &Runs<'_>) -> Draft {
    let name = runs
        .iter()
        .find_map(|(result, _)| result.latencies.first())
        .map_or(String::new(), |named| named.name.clone());
    let (caption, lines) = match runs {
        [(result, _)] => {
            let lines = result.latencies.iter();
            let lines = lines.map(|named| (named.name.clone(), curve(&named.latency)));
            (
                "How long the given share of them took at most. The last point is the largest."
                    .to_owned(),
                lines.collect(),
            )
        }
        many => (
            format!(
                "How long the given share of “{name}” took at most. The last point is the largest."
            ),
            line_each(many, |result| {
                let named = result.latencies.iter().find(|named| named.name == name);
                named.map_or(Vec::new(), |named| curve(&named.latency))
            }),
        ),
    };
    Draft {
        title: "Latency by percentile".to_owned(),
        caption,
        x_label: "percentile",
        x: Unit::Percentile,
        y: Unit::LatencyUs,
        dots: false,
        lines,
    }
}

/// The curve from the median on, each quantile as one over the share above it. The maximum stands where the share
/// above it would be one value.
fn curve(latency: &Latency) -> Vec<Point> {
    let from_median = latency
        .curve
        .iter()
        .filter(|(quantile, _)| *quantile >= 0.5);
    let mut last = 2.0;
    from_median
        .map(|(quantile, latency_us)| {
            let one_in = if *quantile < 1.0 {
                1.0 / (1.0 - quantile)
            } else {
                (latency.count as f64).max(last)
            };
            last = one_in;
            Some((one_in, *latency_us))
        })
        .collect()
}

/// Points over time, merged to at most [`POINTS_MAX`] by `merge`, which is given the seconds of one point.
fn over_time(result: &RunResult, merge: impl Fn(&[Second]) -> Option<f64>) -> Vec<Point> {
    let merged = seconds_a_point(result);
    let points = result.seconds.chunks(merged).map(|seconds| {
        let at_s = seconds.last().map(|second| second.at_s)?;
        Some((at_s, merge(seconds)?))
    });
    points.collect()
}

fn seconds_a_point(result: &RunResult) -> usize {
    result.seconds.len().div_ceil(POINTS_MAX).max(1)
}

fn largest(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.max_by(f64::total_cmp)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// A draft over time. `merged` says what a point is of where it stands for more than a second.
fn draft_over_time(
    runs: &Runs<'_>,
    title: &str,
    caption: &str,
    merged: &str,
    y: Unit,
    lines: Vec<(String, Vec<Point>)>,
) -> Draft {
    let most = runs.iter().map(|(result, _)| seconds_a_point(result)).max();
    let caption = match most.unwrap_or(1) {
        1 => caption.to_owned(),
        many => format!("{caption} A point stands for {many} seconds: {merged}."),
    };
    Draft {
        title: title.to_owned(),
        caption,
        x_label: "seconds since the measured part began",
        x: Unit::Seconds,
        y,
        dots: false,
        lines,
    }
}

fn latency_over_time(runs: &Runs<'_>) -> Draft {
    const OF: [fn(&Quantiles) -> f64; 3] = [|of| of.p50_us, |of| of.p99_us, |of| of.max_us];
    let lines = lines_of(runs, &["p50", "p99", "max"], 1, |result, place| {
        over_time(result, |seconds| {
            let latencies = seconds.iter().filter_map(|second| second.latency.as_ref());
            largest(latencies.map(OF[place]))
        })
    });
    let (title, caption) = match runs {
        [_] => (
            "Latency over time",
            "Of each second. A gap is a second in which nothing arrived.",
        ),
        _ => (
            "p99 over time",
            "Of each second. A gap is a second in which nothing arrived.",
        ),
    };
    draft_over_time(
        runs,
        title,
        caption,
        "their largest",
        Unit::LatencyUs,
        lines,
    )
}

fn deliveries_over_time(runs: &Runs<'_>) -> Draft {
    let any = |result: &RunResult| result.seconds.iter().any(|second| second.received > 0);
    let lines = line_each(runs, |result| {
        if any(result) {
            over_time(result, |seconds| {
                mean(seconds.iter().map(|second| second.received as f64))
            })
        } else {
            Vec::new()
        }
    });
    let caption = "Messages that arrived at receivers in each second.";
    draft_over_time(
        runs,
        "Deliveries a second",
        caption,
        "their mean",
        Unit::Count,
        lines,
    )
}

/// Only where their number changed.
fn connections_over_time(runs: &Runs<'_>) -> Draft {
    let changed = |result: &RunResult| {
        let pairs = result.seconds.windows(2);
        pairs
            .into_iter()
            .any(|pair| pair[0].connections != pair[1].connections)
    };
    let lines = if runs.iter().any(|(result, _)| changed(result)) {
        line_each(runs, |result| {
            over_time(result, |seconds| {
                seconds.last().map(|second| second.connections as f64)
            })
        })
    } else {
        Vec::new()
    };
    let caption = "Connections open at the end of each second.";
    draft_over_time(
        runs,
        "Connections over time",
        caption,
        "their last",
        Unit::Count,
        lines,
    )
}

fn cpu_over_time(runs: &Runs<'_>) -> Draft {
    let lines = line_each(runs, |result| {
        over_time(result, |seconds| {
            mean(seconds.iter().filter_map(|second| second.server_cores))
        })
    });
    let caption = "CPU time of the server over wall time: 1 is one core.";
    draft_over_time(
        runs,
        "Server’s CPU over time",
        caption,
        "their mean",
        Unit::Cores,
        lines,
    )
}

fn memory_over_time(runs: &Runs<'_>) -> Draft {
    let lines = line_each(runs, |result| {
        over_time(result, |seconds| {
            let sizes = seconds
                .iter()
                .filter_map(|second| second.server_resident_bytes);
            largest(sizes.map(|size| size as f64))
        })
    });
    let caption = "Resident memory of the server.";
    draft_over_time(
        runs,
        "Server’s memory over time",
        caption,
        "their largest",
        Unit::Bytes,
        lines,
    )
}

fn memory_by_connections(runs: &Runs<'_>) -> Draft {
    const OF: [fn(&DensityStep) -> Option<f64>; 4] = [
        |step| step.server_bytes_per_connection,
        |step| step.kernel_bytes_per_connection,
        |step| step.total_bytes_per_connection,
        |step| step.generator_bytes_per_connection,
    ];
    let names = ["server", "kernel", "total", "harness"];
    let lines = lines_of(runs, &names, 0, |result, place| {
        by_connections(result, OF[place])
    });
    let caption = match runs {
        [_] => {
            "For each connection. Kernel and total hold both ends where server and harness share a machine."
        }
        _ => "The server’s private memory for each connection.",
    };
    Draft {
        title: "Memory per connection".to_owned(),
        caption: caption.to_owned(),
        x_label: "connections",
        x: Unit::Count,
        y: Unit::Bytes,
        dots: true,
        lines,
    }
}

fn probe_by_connections(runs: &Runs<'_>) -> Draft {
    const OF: [fn(&Quantiles) -> f64; 3] = [|of| of.p50_us, |of| of.p99_us, |of| of.max_us];
    let lines = lines_of(runs, &["p50", "p99", "max"], 1, |result, place| {
        by_connections(result, |step| {
            step.probe.as_ref().map(|probe| OF[place](&probe.quantiles))
        })
    });
    Draft {
        title: match runs {
            [_] => "Probe latency by connections".to_owned(),
            _ => "Probe p99 by connections".to_owned(),
        },
        caption: "Latency in a few busy rooms while all the other connections are idle.".to_owned(),
        x_label: "connections",
        x: Unit::Count,
        y: Unit::LatencyUs,
        dots: true,
        lines,
    }
}

fn by_connections(result: &RunResult, of: impl Fn(&DensityStep) -> Option<f64>) -> Vec<Point> {
    let point = |step: &DensityStep| Some((step.connections as f64, of(step)?));
    result.density.iter().map(point).collect()
}

fn latency_by_rate(runs: &Runs<'_>) -> Draft {
    const OF: [fn(&Quantiles) -> f64; 2] = [|of| of.p50_us, |of| of.p99_us];
    let lines = lines_of(runs, &["p50", "p99"], 1, |result, place| {
        by_rate(result, |step| {
            step.latency
                .as_ref()
                .map(|latency| OF[place](&latency.quantiles))
        })
    });
    let title = match runs {
        [_] => "Latency by offered rate",
        _ => "p99 by offered rate",
    };
    draft_by_rate(
        title,
        "Where the line turns upwards is the knee.",
        Unit::LatencyUs,
        lines,
    )
}

fn cpu_by_rate(runs: &Runs<'_>) -> Draft {
    let lines = line_each(runs, |result| by_rate(result, |step| step.server_cores));
    let caption = "CPU time of the server over wall time: 1 is one core.";
    draft_by_rate("Server’s CPU by offered rate", caption, Unit::Cores, lines)
}

fn draft_by_rate(title: &str, caption: &str, y: Unit, lines: Vec<(String, Vec<Point>)>) -> Draft {
    Draft {
        title: title.to_owned(),
        caption: caption.to_owned(),
        x_label: "deliveries a second that were offered",
        x: Unit::Count,
        y,
        dots: true,
        lines,
    }
}

fn by_rate(result: &RunResult, of: impl Fn(&CapacityStep) -> Option<f64>) -> Vec<Point> {
    let point = |step: &CapacityStep| Some((step.offered_per_s, of(step)?));
    result.capacity.iter().map(point).collect()
}

fn recovery(runs: &Runs<'_>) -> Draft {
    let lines = line_each(runs, |result| {
        let recovery = result.recovery.as_ref().filter(|found| found.dropped > 0);
        let Some((recovery, times)) =
            recovery.and_then(|found| Some((found, found.times.as_ref()?)))
        else {
            return Vec::new();
        };
        let share = recovery.recovered as f64 / recovery.dropped as f64 * 100.0;
        let points = times.curve.iter();
        let points = points.map(|(quantile, time_us)| Some((time_us / 1e6, quantile * share)));
        std::iter::once(Some((0.0, 0.0))).chain(points).collect()
    });
    Draft {
        title: "Recovery".to_owned(),
        caption: "The share of the dropped connections that were back.".to_owned(),
        x_label: "seconds since the drop",
        x: Unit::Seconds,
        y: Unit::Percent,
        dots: false,
        lines,
    }
}

/// A bar for each run; one run alone has nothing to be compared with.
fn cpu_per_delivery(runs: &Runs<'_>) -> Result<Option<Figure>, PlotError> {
    let bars: Vec<Bar> = runs
        .iter()
        .zip(TONES.into_iter().cycle())
        .filter_map(|((result, name), tone)| {
            let server = result.server_use.as_ref()?;
            let whole = server.cpu_per_delivery_us?;
            Some(Bar {
                name: units::printable(name),
                value: units::duration_us(whole),
                tone,
                whole,
                solid: server.user_per_delivery_us,
            })
        })
        .collect();
    if bars.len() < 2 {
        return Ok(None);
    }
    Ok(draw_bars(&bars)?.map(|drawing| Figure {
        title: "CPU per delivery".to_owned(),
        caption: "CPU time of the server for each delivery. The solid part is user mode, the pale part the kernel.".to_owned(),
        legend: Vec::new(),
        drawing,
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn titles(results: &[RunResult]) -> Vec<String> {
        let runs: Vec<(&RunResult, String)> = results
            .iter()
            .map(|result| (result, result.server.clone()))
            .collect();
        let figures = figures(&runs).unwrap();
        figures.into_iter().map(|figure| figure.title).collect()
    }

    #[test]
    fn each_workload_has_the_plots_that_it_has_numbers_for() {
        assert!(titles(&[fixtures::bare()]).is_empty());
        assert_eq!(
            titles(&[fixtures::rooms("shardcast")]),
            [
                "Latency by percentile",
                "Latency over time",
                "Deliveries a second",
                "Server’s CPU over time",
                "Server’s memory over time",
            ]
        );
        assert_eq!(
            titles(&[fixtures::density()]),
            ["Memory per connection", "Probe latency by connections"]
        );
        assert_eq!(
            titles(&[fixtures::capacity("shardcast")]),
            ["Latency by offered rate", "Server’s CPU by offered rate"]
        );
        assert!(titles(&[fixtures::storm()]).contains(&"Recovery".to_owned()));
        assert!(titles(&[fixtures::storm()]).contains(&"Connections over time".to_owned()));
    }

    #[test]
    fn only_many_servers_have_bars() {
        let many = [fixtures::rooms("shardcast"), fixtures::rooms("axum")];
        assert!(titles(&many).contains(&"CPU per delivery".to_owned()));
    }

    #[test]
    fn a_long_run_is_merged_and_says_so() {
        let mut result = fixtures::rooms("shardcast");
        let second = result.seconds[0].clone();
        result.seconds = (1..=1_000)
            .map(|at| Second {
                at_s: f64::from(at),
                ..second.clone()
            })
            .collect();
        result.seconds[501].latency.as_mut().unwrap().p99_us = 77_000.0;
        let runs = [(&result, String::new())];
        let draft = latency_over_time(&runs);
        let (_, p99) = &draft.lines[1];
        assert_eq!(p99.len(), 200);
        assert!(p99.iter().flatten().any(|point| point.1 == 77_000.0));
        assert!(
            draft
                .caption
                .ends_with("A point stands for 5 seconds: their largest.")
        );
    }

    #[test]
    fn the_maximum_stands_at_one_in_all() {
        let latency = fixtures::latency(10_000, 100.0);
        let points = curve(&latency);
        let (one_in, latency_us) = points.last().copied().flatten().unwrap();
        assert_eq!(one_in, 10_000.0);
        assert_eq!(latency_us, latency.curve.last().unwrap().1);
        assert_eq!(points[0].unwrap().0, 2.0);
    }
}
