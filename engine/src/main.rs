//! The program `shardcast`.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use clap_complete::Shell;
use shardcast::cli::{self, Action, Invocation};
use shardcast::client::{self, Task};
use shardcast::config::{Config, EffectiveConfig, Flags, Sources};
use shardcast::control::AdminError;
use shardcast::preflight::Severity;
use shardcast::serve::ServeError;
use shardcast::topology::Topology;
use shardcast::{doctor, logging};

/// The exit code for a command line or a configuration that cannot be used; clap's is the same.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let invocation = match Invocation::parse(env::args_os()) {
        Ok(invocation) => invocation,
        // Help and the version come this way too, and leave with 0.
        Err(error) => error.exit(),
    };
    let Invocation { action, flags } = invocation;
    match action {
        Action::Client(task) => talk(&task),
        Action::Completions(shell) => complete(shell),
        Action::Man { directory } => write_manual(&directory),
        Action::Config(format) => with_config(&flags, |effective| print(&effective.print(format))),
        Action::Doctor {
            connections,
            format,
        } => with_config(&flags, |effective| {
            diagnose(effective.config(), connections, format)
        }),
        Action::Serve => with_config(&flags, serve),
    }
}

/// Does what the configuration is needed for.
fn with_config(flags: &Flags, run: impl FnOnce(EffectiveConfig) -> ExitCode) -> ExitCode {
    let effective = EffectiveConfig::from_sources(&Sources {
        flags,
        // Bytes that are not UTF-8 become U+FFFD, which no setting permits, so the message shows the variable.
        variable: &|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
        file: &|path| fs::read_to_string(path),
        topology: &Topology::detect(),
    });
    match effective {
        Ok(effective) => run(effective),
        Err(error) => fail(&error, MISUSED),
    }
}

/// Runs a command that talks to a server.
fn talk(task: &Task) -> ExitCode {
    match client::run(task) {
        Ok(code) => code,
        Err(error) if error.is_misuse() => fail(&error, MISUSED),
        Err(error) => fail(&error, 1),
    }
}

fn complete(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    let mut command = cli::command();
    clap_complete::generate(shell, &mut command, "shardcast", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Writes the manual; what could not be written says where.
fn write_manual(directory: &Path) -> ExitCode {
    match clap_mangen::generate_to(cli::command(), directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "error: cannot write the manual into {}: {error}; it must be a directory that is there",
                directory.display()
            );
            ExitCode::FAILURE
        }
    }
}

fn serve(effective: EffectiveConfig) -> ExitCode {
    let config = effective.config();
    if let Err(error) = logging::init(&config.log, config.log_format) {
        return fail(&error, MISUSED);
    }
    match shardcast::serve(effective) {
        Ok(code) => code,
        Err(ServeError::Config(error)) => fail(&error, MISUSED),
        Err(ServeError::Admin(error @ AdminError::Token(_))) => fail(&error, MISUSED),
        Err(error) => fail(&error, 1),
    }
}

/// Prints what the doctor finds; a machine that cannot hold the connections is a failure, whoever reads of it.
fn diagnose(config: &Config, connections: Option<u64>, format: doctor::Format) -> ExitCode {
    let diagnosis = match doctor::diagnose(config, connections) {
        Ok(diagnosis) => diagnosis,
        Err(error) => return fail(&error, 1),
    };
    let printed = print(&diagnosis.print(format));
    match diagnosis.severity() {
        Severity::Fatal => ExitCode::FAILURE,
        Severity::Ok | Severity::Warning => printed,
    }
}

/// Prints to standard output. A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&error, 1),
        _ => ExitCode::SUCCESS,
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(code)
}
