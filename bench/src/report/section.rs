//! What a report says, as sections of rows: the one source of the terminal's tables and of the page's.

use super::units;
use crate::latency::Latency;
use crate::result::{
    CapacityStep, Connections, Deliveries, DensityStep, Fact, Generator, Quantiles, Recovery,
    RunResult, ServerUse,
};

/// The title of the section about the machine.
pub(super) const MACHINE: &str = "Machine";

/// What stands before the reason why the harness was the limit.
pub(super) const LIMIT: &str = "The harness, not the server, was the limit:";

/// A titled table with sentences around it.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// Its title.
    pub(super) title: String,
    /// What must be read before the numbers, such as that the harness was the limit.
    pub(super) warning: Option<String>,
    /// The head of the columns; empty where the rows are names and values.
    pub(super) columns: Vec<&'static str>,
    /// The cells; the first of a row is its name. `None` was not measured.
    pub(super) rows: Vec<Vec<Option<String>>>,
    /// What explains the numbers, below them.
    pub(super) remarks: Vec<String>,
}

impl Section {
    /// A table with a head. Columns in which nothing was measured are left out.
    fn table(title: &str, columns: Vec<&'static str>, rows: Vec<Vec<Option<String>>>) -> Self {
        let measured = |column: &usize| {
            let filled = |cell: &Option<String>| cell.as_ref().is_some_and(|text| !text.is_empty());
            rows.iter().any(|row| filled(&row[*column]))
        };
        let kept: Vec<usize> = (0..columns.len()).filter(measured).collect();
        Self {
            title: title.to_owned(),
            columns: kept.iter().map(|column| columns[*column]).collect(),
            rows: rows
                .iter()
                .map(|row| kept.iter().map(|column| row[*column].clone()).collect())
                .collect(),
            ..Self::default()
        }
    }

    /// Names and their values. What was not measured is left out.
    fn pairs(title: &str, pairs: Vec<(&str, Option<String>)>) -> Self {
        Self {
            title: title.to_owned(),
            rows: pairs
                .into_iter()
                .filter(|(_, value)| value.is_some())
                .map(|(name, value)| vec![Some(name.to_owned()), value])
                .collect(),
            ..Self::default()
        }
    }
}

/// The measurements of a run, in the order in which they should be read.
pub(super) fn measurements(result: &RunResult) -> Vec<Section> {
    let mut sections = Vec::new();
    sections.extend(latencies(result));
    sections.extend(
        result
            .deliveries
            .as_ref()
            .map(|found| deliveries(found, result.measured_s)),
    );
    sections.extend(density(&result.density));
    sections.extend(capacity(&result.capacity));
    sections.extend(result.recovery.as_ref().map(recovery));
    sections.push(connections(&result.connections));
    sections.extend(result.server_use.as_ref().map(server_use));
    sections.push(generator(&result.generator));
    sections
}

/// Where and how it ran: options, then the machine.
pub(super) fn circumstances(result: &RunResult) -> Vec<Section> {
    [("Options", &result.options), (MACHINE, &result.machine)]
        .into_iter()
        .filter(|(_, facts)| !facts.is_empty())
        .map(|(title, facts)| Section::pairs(title, facts.iter().map(pair).collect()))
        .collect()
}

/// One line of what was run.
pub(super) fn headline(result: &RunResult) -> String {
    format!(
        "{} against {}: {} connections, {} measured, begun {}",
        units::printable(&result.workload),
        units::printable(&result.server),
        units::count(result.connections.open),
        units::seconds(result.measured_s),
        units::moment(result.started_unix_ms),
    )
}

/// A row for each run of a workload, to compare them. `names` are what to call them.
pub(super) fn comparison(workload: &str, results: &[&RunResult], names: &[String]) -> Section {
    let row = |(result, name): (&&RunResult, &String)| {
        let mut row = vec![Some(units::printable(name))];
        row.extend(quantile_cells(
            result
                .latencies
                .first()
                .map(|named| &named.latency.quantiles),
        ));
        let server = result.server_use.as_ref();
        let rate = delivery_rate(result);
        row.extend([
            rate.map(units::rate),
            server.and_then(|server| server.cpu_per_delivery_us.map(units::duration_us)),
            server.map(|server| units::cores(server.cores)),
            server.map(|server| units::bytes(server.resident_bytes as f64)),
            result
                .density
                .last()
                .and_then(|step| step.server_bytes_per_connection.map(units::bytes)),
            best_capacity(result).map(|step| units::rate(step.received_per_s)),
            Some(verdict(result).to_owned()),
        ]);
        row
    };
    let mut section = Section::table(
        workload,
        vec![
            "server",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "deliveries",
            "CPU per delivery",
            "CPU",
            "memory",
            "memory per connection",
            "capacity",
            "verdict",
        ],
        results.iter().zip(names).map(row).collect(),
    );
    if let Some(named) = results.iter().find_map(|result| result.latencies.first()) {
        section
            .remarks
            .push(format!("Latencies are those of “{}”.", named.name));
    }
    section
}

/// The few numbers that matter most of a run, with what they are.
pub(super) fn highlights(result: &RunResult) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        found.extend(value.map(|value| (units::printable(name), value)));
    };
    let step = result.density.last();
    add(
        "connections",
        step.map(|step| units::count(step.connections)),
    );
    let of_server = step.and_then(|step| step.server_bytes_per_connection);
    add("server memory per connection", of_server.map(units::bytes));
    let of_all = step.and_then(|step| step.total_bytes_per_connection);
    add("total memory per connection", of_all.map(units::bytes));
    let probe = step.and_then(|step| step.probe.as_ref());
    add("probe p99", quantile_cell(probe, |of| of.p99_us));
    let best = best_capacity(result);
    add(
        "capacity",
        best.map(|step| units::rate(step.received_per_s)),
    );
    let latency = best.and_then(|step| step.latency.as_ref());
    add("p99 there", quantile_cell(latency, |of| of.p99_us));
    let cores = best.and_then(|step| step.server_cores);
    add("server CPU there", cores.map(units::cores));
    let recovery = result.recovery.as_ref();
    add(
        "connections back",
        recovery.map(|found| units::part(found.recovered, found.dropped)),
    );
    let last_s = recovery.and_then(|found| found.last_s);
    add("last back after", last_s.map(units::seconds));
    if let Some(named) = result.latencies.first() {
        let [p50, _, p99, p999, max] = quantile_cells(Some(&named.latency.quantiles));
        for (quantile, value) in [("p50", p50), ("p99", p99), ("p99.9", p999), ("max", max)] {
            add(&format!("{}, {quantile}", named.name), value);
        }
    }
    add("deliveries", delivery_rate(result).map(units::rate));
    let server = result.server_use.as_ref();
    let per_delivery = server.and_then(|found| found.cpu_per_delivery_us);
    add("CPU per delivery", per_delivery.map(units::duration_us));
    found
}

/// `passed`, `failed`, or that the harness was the limit: then the numbers are not the server's.
pub(super) fn verdict(result: &RunResult) -> &'static str {
    if !result.failures.is_empty() {
        "failed"
    } else if result.generator.limit.is_some() {
        "harness-limited"
    } else {
        "passed"
    }
}

/// Deliveries a second of the measured part; absent where nothing was to be delivered.
fn delivery_rate(result: &RunResult) -> Option<f64> {
    let deliveries = result.deliveries.as_ref()?;
    (result.measured_s > 0.0).then(|| deliveries.received as f64 / result.measured_s)
}

/// The step of the highest rate that passed.
fn best_capacity(result: &RunResult) -> Option<&CapacityStep> {
    let passed = result.capacity.iter().filter(|step| step.passed);
    passed.max_by(|one, other| one.received_per_s.total_cmp(&other.received_per_s))
}

fn latencies(result: &RunResult) -> Option<Section> {
    if result.latencies.is_empty() {
        return None;
    }
    let rows = result.latencies.iter().map(|named| {
        let mut row = vec![Some(units::printable(&named.name))];
        row.extend(quantile_cells(Some(&named.latency.quantiles)));
        row.push(Some(units::count(named.latency.count)));
        row
    });
    let mut section = Section::table(
        "Latency",
        vec!["of", "p50", "p90", "p99", "p99.9", "max", "count"],
        rows.collect(),
    );
    section.remarks = result
        .latencies
        .iter()
        .filter(|named| !named.meaning.is_empty())
        .map(|named| units::printable(&format!("{}: {}.", named.name, named.meaning)))
        .collect();
    Some(section)
}

fn quantile_cells(quantiles: Option<&Quantiles>) -> [Option<String>; 5] {
    let cell = |of: fn(&Quantiles) -> f64| quantiles.map(|found| units::duration_us(of(found)));
    [
        cell(|found| found.p50_us),
        cell(|found| found.p90_us),
        cell(|found| found.p99_us),
        cell(|found| found.p999_us),
        cell(|found| found.max_us),
    ]
}

fn deliveries(found: &Deliveries, measured_s: f64) -> Section {
    let per_second = |count: u64| match measured_s {
        span if span > 0.0 => format!(
            "{} ({})",
            units::count(count),
            units::rate(count as f64 / span)
        ),
        _ => units::count(count),
    };
    Section::pairs(
        "Deliveries",
        vec![
            ("messages sent", Some(per_second(found.published))),
            ("deliveries expected", Some(units::count(found.expected))),
            ("received", Some(per_second(found.received))),
            ("missing", Some(units::count(found.missing))),
            ("repeated", Some(units::count(found.repeated))),
            ("out of order", Some(units::count(found.out_of_order))),
            ("at the wrong connection", Some(units::count(found.astray))),
            ("due but never sent", Some(units::count(found.unsent))),
        ],
    )
}

fn connections(found: &Connections) -> Section {
    let mut section = Section::pairs(
        "Connections",
        vec![
            (
                "open when it began",
                Some(units::part(found.open, found.asked)),
            ),
            ("ramp", found.ramp_s.map(|span| ramp(found.open, span))),
            ("handshakes begun", Some(units::count(found.attempts))),
            ("failed or timed out", Some(units::count(found.failed))),
            ("refused by the server", Some(units::count(found.refused))),
            ("lost while open", Some(units::count(found.lost))),
        ],
    );
    section.remarks = found
        .errors
        .iter()
        .map(|error| {
            format!(
                "{} × {}",
                units::count(error.count),
                units::printable(&error.what)
            )
        })
        .collect();
    section
}

fn ramp(open: u64, span_s: f64) -> String {
    if span_s > 0.0 {
        let rate = units::rate(open as f64 / span_s);
        format!("{} ({rate})", units::seconds(span_s))
    } else {
        units::seconds(span_s)
    }
}

fn server_use(found: &ServerUse) -> Section {
    Section::pairs(
        "Server",
        vec![
            ("process", Some(found.pid.to_string())),
            ("CPU", Some(units::cores(found.cores))),
            ("CPU time, user", Some(units::seconds(found.user_s))),
            ("CPU time, kernel", Some(units::seconds(found.system_s))),
            (
                "CPU per delivery",
                found.cpu_per_delivery_us.map(units::duration_us),
            ),
            (
                "of it in user mode",
                found.user_per_delivery_us.map(units::duration_us),
            ),
            (
                "resident memory",
                Some(units::bytes(found.resident_bytes as f64)),
            ),
            (
                "private memory",
                found.private_bytes.map(|size| units::bytes(size as f64)),
            ),
        ],
    )
}

fn generator(found: &Generator) -> Section {
    let lateness = found.lateness.as_ref().map(|lateness| {
        let quantiles = &lateness.quantiles;
        format!(
            "p50 {}, p99 {}, max {}",
            units::duration_us(quantiles.p50_us),
            units::duration_us(quantiles.p99_us),
            units::duration_us(quantiles.max_us),
        )
    });
    let mut section = Section::pairs(
        "Harness",
        vec![
            ("threads", Some(units::count(found.threads))),
            ("CPU", Some(units::cores(found.cores))),
            ("busiest core", Some(units::share(found.busiest_core))),
            ("messages left late by", lateness),
        ],
    );
    section.warning = found
        .limit
        .as_ref()
        .map(|limit| format!("{LIMIT} {}", units::printable(limit)));
    section
}

fn density(steps: &[DensityStep]) -> Option<Section> {
    let row = |step: &DensityStep| {
        let probe = |of: fn(&Quantiles) -> f64| quantile_cell(step.probe.as_ref(), of);
        vec![
            Some(units::count(step.connections)),
            Some(units::seconds(step.at_s)),
            step.server_bytes.map(|size| units::bytes(size as f64)),
            step.server_bytes_per_connection.map(units::bytes),
            step.kernel_bytes_per_connection.map(units::bytes),
            step.generator_bytes_per_connection.map(units::bytes),
            step.total_bytes_per_connection.map(units::bytes),
            probe(|found| found.p50_us),
            probe(|found| found.p99_us),
            probe(|found| found.max_us),
            step.server_cores.map(units::cores),
        ]
    };
    let mut section = Section::table(
        "Density",
        vec![
            "connections",
            "after",
            "server memory",
            "server per conn.",
            "kernel per conn.",
            "harness per conn.",
            "total per conn.",
            "probe p50",
            "probe p99",
            "probe max",
            "server CPU",
        ],
        steps.iter().map(row).collect(),
    );
    section.remarks.push(
        "Kernel and total hold both ends of every connection when server and harness share a machine.".to_owned(),
    );
    section.remarks.extend(flatness(steps));
    (!steps.is_empty()).then_some(section)
}

/// How much the latency of busy rooms has grown with the idle connections beside them.
fn flatness(steps: &[DensityStep]) -> Option<String> {
    let p99_us = |step: &DensityStep| Some(step.probe.as_ref()?.quantiles.p99_us);
    let (first, last) = (steps.first()?, steps.last()?);
    let ratio = p99_us(last)? / p99_us(first)?;
    (last.connections > first.connections).then(|| {
        format!(
            "The p99 of the probes beside {} connections is {ratio:.2} times that beside {}.",
            units::count(last.connections),
            units::count(first.connections),
        )
    })
}

fn capacity(steps: &[CapacityStep]) -> Option<Section> {
    let row = |step: &CapacityStep| {
        let latency = |of: fn(&Quantiles) -> f64| quantile_cell(step.latency.as_ref(), of);
        vec![
            Some(units::rate(step.offered_per_s)),
            Some(units::rate(step.received_per_s)),
            latency(|found| found.p50_us),
            latency(|found| found.p99_us),
            latency(|found| found.max_us),
            step.server_cores.map(units::cores),
            step.cpu_per_delivery_us.map(units::duration_us),
            Some(if step.passed { "yes" } else { "no" }.to_owned()),
            Some(units::printable(step.reason.as_deref().unwrap_or_default())),
        ]
    };
    let section = Section::table(
        "Capacity",
        vec![
            "offered",
            "received",
            "p50",
            "p99",
            "max",
            "server CPU",
            "CPU per delivery",
            "passed",
            "because",
        ],
        steps.iter().map(row).collect(),
    );
    (!steps.is_empty()).then_some(section)
}

fn quantile_cell(latency: Option<&Latency>, of: fn(&Quantiles) -> f64) -> Option<String> {
    latency.map(|found| units::duration_us(of(&found.quantiles)))
}

fn recovery(found: &Recovery) -> Section {
    let quantile = |of: fn(&Quantiles) -> f64| quantile_cell(found.times.as_ref(), of);
    Section::pairs(
        "Recovery",
        vec![
            (
                "connections back",
                Some(units::part(found.recovered, found.dropped)),
            ),
            ("first back after", found.first_s.map(units::seconds)),
            ("half of them after", quantile(|found| found.p50_us)),
            ("99 of 100 after", quantile(|found| found.p99_us)),
            ("last back after", found.last_s.map(units::seconds)),
            (
                "attempts that failed on the way",
                Some(units::count(found.failed_attempts)),
            ),
            (
                "messages recovered",
                found.messages_recovered.map(units::count),
            ),
        ],
    )
}

fn pair(fact: &Fact) -> (&str, Option<String>) {
    (&fact.name, Some(units::printable(&fact.value)))
}
