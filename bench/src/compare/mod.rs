//! Many servers under the same workloads, in turn.
//!
//! Each round visits all servers in another order, each server is started anew for each run, and server and generator run on disjoint cores, so
//! that a noisy machine favours none. Ratios are made within a round and then summarised over the rounds.
//!
//! The files, in the order in which a comparison uses them: `cores` and `catalogue` say what runs where, `plan` and `round` in which order,
//! `course` goes through them, `measure` makes one run (`server` and `child` start and end its processes), `metric` and `ratio` make figures of the runs, `comparison`
//! holds them, `table` and `document` write them down.

mod catalogue;
mod child;
mod comparison;
mod course;
mod document;
mod measure;
mod metric;
mod plan;
mod ratio;
mod round;
mod server;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cores::{self, CoreList, CoresError};
pub use comparison::{
    COMPARISON_VERSION, Comparison, Figure, Participant, Row, Run, WorkloadComparison,
};
pub use document::{MarkersError, replace_between_markers};
pub use metric::Metric;
pub use ratio::{Spread, ratios};

use catalogue::{Places, Selection};
use course::Course;
use measure::Laboratory;
use plan::Workload;

/// What is compared, how thoroughly, and where the outcome goes.
#[derive(Args, Clone, Debug)]
pub struct CompareOptions {
    /// Short runs and as many rounds as ten minutes have room for, without the search for the capacity.
    #[arg(long)]
    pub quick: bool,
    /// Servers to compare, by name [default: all that are built].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub servers: Vec<String>,
    /// Workloads to run: rooms-1000, rooms-100, echo, mixed, memory, capacity [default: all, with --quick all but capacity].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub workloads: Vec<String>,
    /// The server that the others are compared with.
    #[arg(long, value_name = "NAME", default_value = "shardcast")]
    pub baseline: String,
    /// How often each server is visited [default: 5; with --quick what there is time for].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,
    /// Length of the measured part of rooms, echo and mixed [default: 15, with --quick 3].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<f64>,
    /// Decides the order of the servers in each round.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Cores that each server runs on [default: the first].
    #[arg(long, value_name = "LIST")]
    pub server_cores: Option<CoreList>,
    /// Cores that the generator runs on [default: the rest].
    #[arg(long, value_name = "LIST")]
    pub generator_cores: Option<CoreList>,
    /// Where the executables of the peers are, each with its versions in NAME.version.
    #[arg(long, value_name = "DIRECTORY", default_value = "bench/peers/bin")]
    pub peers: PathBuf,
    /// Where `shardcast` and `examples/echo` are [default: where this program is].
    #[arg(long, value_name = "DIRECTORY")]
    pub executables: Option<PathBuf>,
    /// Keeps logs of the last server and generator here [default: a temporary directory that is removed].
    #[arg(long, value_name = "DIRECTORY")]
    pub logs: Option<PathBuf>,
    /// Writes the tables as Markdown.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Puts the tables between the compare markers of a file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "README.md")]
    pub update_readme: Option<PathBuf>,
    /// Writes everything as JSON, every run without its seconds and curves.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes one page with plots.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// No progress lines.
    #[arg(long)]
    pub quiet: bool,
    /// The program that runs the workloads [default: this one].
    #[arg(long, value_name = "FILE", hide = true)]
    pub runner: Option<PathBuf>,
    /// The command that reports name as theirs.
    #[arg(long, value_name = "COMMAND", hide = true)]
    pub called_as: Option<String>,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The cores cannot be shared out.
    #[error(transparent)]
    Cores(#[from] CoresError),
    /// There is no such workload.
    #[error("there is no workload \"{name}\"; there are {known}")]
    UnknownWorkload {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The server that the others are compared with is not among those that take part.
    #[error("the baseline {name} is not among the servers that take part ({present})")]
    NoBaseline {
        /// Its name.
        name: String,
        /// Who takes part.
        present: String,
    },
    /// The README cannot take the tables; known before anything is measured.
    #[error("{}: {source}", path.display())]
    Markers {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: MarkersError,
    },
    /// A file or directory could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The signals that end a comparison could not be waited for.
    #[error("signals cannot be handled: {0}")]
    Signals(#[source] io::Error),
    /// The comparison could not be written as JSON.
    #[error("the comparison cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// SIGINT, SIGTERM or SIGHUP ended the comparison. Every process that it started has been killed.
    #[error("interrupted; nothing that was started is left running")]
    Interrupted,
}

/// Runs the comparison, prints its tables, writes the files that the options name, but for the page, and returns all of it.
///
/// Servers and generators are child processes that the kernel kills when the calling thread ends: call it on one that lasts.
///
/// # Errors
/// The options contradict each other or the machine, a file cannot be written, or a signal came. A server that does not start and a run that
/// fails are no errors: they are part of the comparison.
pub fn run(options: CompareOptions) -> Result<Comparison, CompareError> {
    let (server_cores, generator_cores) = cores::share_out(
        &cores::allowed()?,
        options.server_cores.clone(),
        options.generator_cores.clone(),
    )?;
    if let Some(path) = &options.update_readme {
        updated(path, "")?;
    }
    let program = std::env::current_exe().map_err(in_file("this program"))?;
    let executables = match (&options.executables, program.parent()) {
        (Some(directory), _) => directory.clone(),
        (None, Some(directory)) => directory.to_path_buf(),
        (None, None) => PathBuf::from("."),
    };
    let selection = catalogue::select(
        &Places {
            executables: &executables,
            peers: &options.peers,
            server_cores: &server_cores,
        },
        &options.servers,
    );
    require_baseline(&options.baseline, &selection)?;
    let signals = Signals::register()?;
    let directory = LogDirectory::create(options.logs.as_deref())?;
    let course = Course {
        workloads: chosen_workloads(&options)?,
        selection,
        laboratory: Laboratory {
            runner: options.runner.as_ref().unwrap_or(&program),
            server_cores: &server_cores,
            generator_cores: &generator_cores,
            directory: directory.path(),
            interrupted: &signals.received,
        },
        options: &options,
    };
    let comparison = course.run()?;
    print!("{}", comparison.terminal());
    write_files(&comparison, &options)?;
    Ok(comparison)
}

fn require_baseline(baseline: &str, selection: &Selection) -> Result<(), CompareError> {
    let contestants = &selection.contestants;
    if contestants
        .iter()
        .any(|one| one.name == baseline || one.family == baseline)
    {
        return Ok(());
    }
    let names = contestants.iter().map(|one| one.name.clone());
    let reasons = selection.missing.iter().cloned();
    Err(CompareError::NoBaseline {
        name: baseline.to_owned(),
        present: names.chain(reasons).collect::<Vec<_>>().join("; "),
    })
}

fn chosen_workloads(options: &CompareOptions) -> Result<Vec<Workload>, CompareError> {
    // A workload that is asked for by name is run even if a quick comparison would leave it out.
    let known = plan::workloads(options.quick, options.duration);
    if options.workloads.is_empty() {
        return Ok(known.into_iter().filter(|one| one.by_default).collect());
    }
    for name in &options.workloads {
        if !known.iter().any(|workload| workload.name == name) {
            let names: Vec<&str> = known.iter().map(|workload| workload.name).collect();
            return Err(CompareError::UnknownWorkload {
                name: name.clone(),
                known: names.join(", "),
            });
        }
    }
    let is_asked = |workload: &Workload| options.workloads.iter().any(|n| n == workload.name);
    Ok(known.into_iter().filter(is_asked).collect())
}

fn write_files(comparison: &Comparison, options: &CompareOptions) -> Result<(), CompareError> {
    let write = |path: &Path, text: &str| fs::write(path, text).map_err(in_file(path));
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&comparison.without_curves())?;
        write(path, &json)?;
    }
    if let Some(path) = &options.markdown {
        write(path, &comparison.markdown())?;
    }
    if let Some(path) = &options.update_readme {
        write(path, &updated(path, &comparison.markdown())?)?;
    }
    Ok(())
}

/// The text of a README with the document in its place.
fn updated(path: &Path, document: &str) -> Result<String, CompareError> {
    let text = fs::read_to_string(path).map_err(in_file(path))?;
    replace_between_markers(&text, document).map_err(|source| CompareError::Markers {
        path: path.to_path_buf(),
        source,
    })
}

fn in_file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> CompareError {
    let path = path.into();
    move |source| CompareError::File { path, source }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("write a number of seconds from 0.1 to 3600".to_owned()),
    }
}

/// Turns the signals that end a program into a flag while it lives, so that what was started is ended first.
struct Signals {
    received: Arc<AtomicBool>,
    registered: Vec<SigId>,
}

impl Signals {
    fn register() -> Result<Self, CompareError> {
        let mut signals = Self {
            received: Arc::new(AtomicBool::new(false)),
            registered: Vec::new(),
        };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let flag = Arc::clone(&signals.received);
            let id = signal_hook::flag::register(signal, flag).map_err(CompareError::Signals)?;
            signals.registered.push(id);
        }
        Ok(signals)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

/// Where logs go: a directory that is kept, or one that is removed in the end.
enum LogDirectory {
    Kept(PathBuf),
    Removed(PathBuf),
}

impl LogDirectory {
    fn create(kept: Option<&Path>) -> Result<Self, CompareError> {
        if let Some(path) = kept {
            fs::create_dir_all(path).map_err(in_file(path))?;
            return Ok(Self::Kept(path.to_path_buf()));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let unique = since.map_or(0, |since| since.as_nanos());
        let name = format!("shardcast-bench-{}-{unique:x}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Not `create_dir_all`: a directory that somebody else has put there is not ours to fill.
        fs::create_dir(&path).map_err(in_file(&path))?;
        Ok(Self::Removed(path))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) | Self::Removed(path) => path,
        }
    }
}

impl Drop for LogDirectory {
    fn drop(&mut self) {
        if let Self::Removed(path) = self
            && let Err(error) = fs::remove_dir_all(&*path)
        {
            eprintln!("{} cannot be removed: {error}", path.display());
        }
    }
}
