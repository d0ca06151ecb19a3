//! The binary: reads the command line, runs, writes the reports.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use clap::Parser;
use shardcast_bench::cli::{CommandLine, Task, Workload};
use shardcast_bench::compare::{self, CompareOptions};
use shardcast_bench::options::Common;
use shardcast_bench::report::hdr_log::{Interval, write_hdr_log};
use shardcast_bench::report::page::page;
use shardcast_bench::report::table::{Paper, table};
use shardcast_bench::run::Finished;

/// The run was made, and found that deliveries went wrong.
const FAILED: u8 = 1;

/// The run could not be made.
const NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let done = match CommandLine::parse().task {
        Task::Workload(workload) => run(&workload),
        Task::Compare(options) => run_comparison(options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("shardcast-bench: {error}");
        ExitCode::from(NOT_RUN)
    })
}

fn run(workload: &Workload) -> Result<ExitCode, Box<dyn Error>> {
    let finished = workload.run()?;
    write_reports(workload.common(), &finished)?;
    Ok(if finished.result.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

/// A peer that fails is what a comparison finds out; it has not failed by that.
fn run_comparison(options: CompareOptions) -> Result<ExitCode, Box<dyn Error>> {
    let html = options.html.clone();
    let comparison = compare::run(options)?;
    if let Some(path) = html {
        write(&path, &page(&comparison.representatives())?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn write_reports(common: &Common, finished: &Finished) -> Result<(), Box<dyn Error>> {
    let result = &finished.result;
    let json = common.json.as_deref();
    if json != Some("-".as_ref()) {
        println!("{}", table(result, Paper::of_stdout()));
    }
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(result)?;
        if path == "-" {
            println!("{text}");
        } else {
            write(path, &(text + "\n"))?;
        }
    }
    if let Some(path) = &common.html {
        write(path, &page(std::slice::from_ref(result))?)?;
    }
    if let Some(path) = &common.hdr_log {
        let file = File::create(path)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        let mut file = BufWriter::new(file);
        let started = UNIX_EPOCH + Duration::from_millis(result.started_unix_ms);
        let intervals = finished.intervals.iter().map(|interval| Interval {
            start: interval.start,
            length: interval.length,
            tag: None,
            recording: &interval.recording,
        });
        write_hdr_log(&mut file, started, &result.command, intervals)?;
        file.flush()?;
    }
    Ok(())
}
