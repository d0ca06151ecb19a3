//! The command line: the server's options are made from the table of settings, and only its subcommands have them.

mod client;
mod server;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use clap_complete::Shell;

use crate::client::Task;
use crate::config::{Flags, Format};
use crate::doctor;

/// What the program is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Serve until told to stop.
    Serve,
    /// Print the effective configuration.
    Config(Format),
    /// Say what this machine lacks.
    Doctor {
        /// For so many connections; none leaves it to the configuration.
        connections: Option<u64>,
        /// In which form.
        format: doctor::Format,
    },
    /// Talk to a server. No configuration is read for it.
    Client(Task),
    /// Print what a shell needs to complete command lines.
    Completions(Shell),
    /// Write the manual, a page for each subcommand.
    Man {
        /// Where the pages go.
        directory: PathBuf,
    },
}

/// A command line that has been understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub action: Action,
    /// With which settings of the server.
    pub flags: Flags,
}

impl Invocation {
    /// Reads a command line; the first argument is the program's name. No subcommand means `serve`.
    ///
    /// # Errors
    /// A flag is unknown or lacks its value, or help or the version was asked for: clap's error knows which, and
    /// prints itself to the right stream.
    pub fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(arguments)?;
        // Options of the server may stand before its subcommand too.
        let mut flags = server::flags_of(&matches);
        let Some((name, matches)) = matches.subcommand() else {
            return Ok(Self {
                action: Action::Serve,
                flags,
            });
        };
        let action = match name {
            "config" => Action::Config(format_of(matches)),
            "doctor" => doctor_of(matches),
            "serve" => Action::Serve,
            _ if flags != Flags::default() => return Err(not_of(name)),
            "completions" => completions_of(matches),
            "man" => man_of(matches),
            _ => Action::Client(client::task_of(name, matches)?),
        };
        if matches!(
            action,
            Action::Serve | Action::Config(_) | Action::Doctor { .. }
        ) {
            let nearer = server::flags_of(matches);
            flags.file = nearer.file.or(flags.file);
            flags.values.extend(nearer.values);
        }
        Ok(Self { action, flags })
    }
}

/// An option of the server stands before a subcommand that has none.
fn not_of(name: &str) -> clap::Error {
    command().error(
        ErrorKind::ArgumentConflict,
        format!(
            "`{name}` has no options of the server; those that stand before it are of `serve`, `config` and `doctor`"
        ),
    )
}

/// The whole command line.
#[must_use]
pub fn command() -> Command {
    let format = Arg::new("format")
        .long("format")
        .value_name("FORMAT")
        .value_parser(PossibleValuesParser::new(["text", "toml", "markdown"]))
        .default_value("text")
        .help("text: each value and its source; toml: a file that gives this configuration; markdown: the options for a page of documentation");
    Command::new("shardcast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A thread-per-core io_uring WebSocket engine: rooms, presence, history and recovery")
        .after_help(
            "A flag outranks a SHARDCAST_… variable, a variable outranks the file. `--help` shows the limits as well.",
        )
        .args(server::options())
        .subcommand(
            Command::new("serve")
                .about("Serve until told to stop; this is what happens without a subcommand")
                .args(server::options()),
        )
        .subcommands(client::commands())
        .subcommand(doctor_command().args(server::options()))
        .subcommand(
            Command::new("config")
                .about("Print the effective configuration and where each value comes from")
                .arg(format)
                .args(server::options()),
        )
        .subcommand(completions_command())
        .subcommand(man_command())
}

/// The subcommand that looks at the machine.
fn doctor_command() -> Command {
    Command::new("doctor")
        .about("Examine this machine for a number of connections: what is wrong, the command that mends it, and how many it could hold")
        .after_help(
            "Exits with 1 where the engine could not start or not hold the connections; warnings alone leave 0. Run it as the user and with the limits \
             of the service. All other options are those of `serve`, so that what it would be started with is what is examined.",
        )
        .arg(
            Arg::new("connections")
                .long("connections")
                .value_name("N")
                .value_parser(server::parse_connections)
                .help("Connections that are to be held [default: connections_max where it is set, otherwise what can be held]"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print one JSON object"),
        )
}

fn completions_command() -> Command {
    Command::new("completions")
        .about("Print what a shell needs to complete command lines of shardcast")
        .after_help(
            "For bash: shardcast completions bash > ~/.local/share/bash-completion/completions/shardcast",
        )
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(clap::value_parser!(Shell))
                .help("Which shell"),
        )
}

/// Hidden: it is for whoever makes packages.
fn man_command() -> Command {
    Command::new("man")
        .about("Write the manual into a directory: shardcast.1 and a page for each subcommand")
        .hide(true)
        .arg(
            Arg::new("directory")
                .value_name("DIR")
                .required(true)
                .value_parser(clap::value_parser!(PathBuf))
                .value_hint(ValueHint::DirPath)
                .help("An existing directory"),
        )
}

fn completions_of(matches: &ArgMatches) -> Action {
    // The argument is required.
    let shell = matches.get_one("shell").copied();
    Action::Completions(shell.unwrap_or(Shell::Bash))
}

fn man_of(matches: &ArgMatches) -> Action {
    // The argument is required.
    let directory = matches.get_one::<PathBuf>("directory").cloned();
    Action::Man {
        directory: directory.unwrap_or_default(),
    }
}

fn format_of(matches: &ArgMatches) -> Format {
    match matches.get_one::<String>("format").map(String::as_str) {
        Some("toml") => Format::Toml,
        Some("markdown") => Format::Markdown,
        _ => Format::Text,
    }
}

fn doctor_of(matches: &ArgMatches) -> Action {
    Action::Doctor {
        connections: matches.get_one("connections").copied(),
        format: match matches.get_flag("json") {
            true => doctor::Format::Json,
            false => doctor::Format::Text,
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::config::settings;

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn command_lines() {
        // Arguments, what to do, the settings; None: refused.
        type Expected = Option<(Action, &'static [(&'static str, &'static str)])>;
        let cases: &[(&[&str], Expected)] = &[
            (&[], Some((Action::Serve, &[]))),
            (&["serve"], Some((Action::Serve, &[]))),
            (
                &["--shards", "2"],
                Some((Action::Serve, &[("shards", "2")])),
            ),
            (
                &["serve", "--shards=2", "--rooms-max", "7"],
                Some((Action::Serve, &[("rooms_max", "7"), ("shards", "2")])),
            ),
            (
                &["--shards", "2", "config"],
                Some((Action::Config(Format::Text), &[("shards", "2")])),
            ),
            (
                &["config", "--format", "toml", "--shards", "-1"],
                Some((Action::Config(Format::Toml), &[("shards", "-1")])),
            ),
            (
                &["config", "--format=markdown"],
                Some((Action::Config(Format::Markdown), &[])),
            ),
            (
                &["doctor", "--shards", "64"],
                Some((
                    Action::Doctor {
                        connections: None,
                        format: doctor::Format::Text,
                    },
                    &[("shards", "64")],
                )),
            ),
            (
                &["doctor", "--connections", "1_000_000", "--json"],
                Some((
                    Action::Doctor {
                        connections: Some(1_000_000),
                        format: doctor::Format::Json,
                    },
                    &[],
                )),
            ),
            (&["doctor", "--connections", "0"], None),
            (&["doctor", "--connections", "16000001"], None),
            (&["doctor", "--connections", "many"], None),
            (&["serve", "--connections", "1"], None),
            (&["--shard", "2"], None),
            (&["--shards"], None),
            (&["--shards", "1", "--shards", "2"], None),
            (&["restart"], None),
            (&["config", "--format", "xml"], None),
            (&["serve", "--format", "toml"], None),
        ];
        for (arguments, expected) in cases {
            let line = std::iter::once(&"shardcast").chain(*arguments);
            let parsed = Invocation::parse(line).ok().map(|invocation| {
                let values = invocation.flags.values.into_iter().collect::<Vec<_>>();
                (invocation.action, values)
            });
            let expected = expected.clone().map(|(action, values)| {
                let values = values
                    .iter()
                    .map(|(name, value)| (*name, (*value).to_owned()));
                (action, values.collect::<Vec<_>>())
            });
            assert_eq!(parsed, expected, "{arguments:?}");
        }
    }

    #[test]
    fn options_of_the_server_are_of_its_subcommands_alone() {
        for name in ["chat", "publish", "rooms", "top", "completions"] {
            let mut command = command();
            let client = command.find_subcommand_mut(name).unwrap();
            let help = client.render_long_help().to_string();
            assert!(!help.contains("--shards") && !help.contains("--config"));
            for line in [
                ["shardcast", "--shards", "2", name, "x"],
                ["shardcast", name, "x", "--shards", "2"],
            ] {
                assert!(Invocation::parse(line).is_err(), "{line:?}");
            }
        }
        let flags = |line: &[&str]| {
            let line = std::iter::once("shardcast").chain(line.iter().copied());
            Invocation::parse(line).unwrap().flags
        };
        // The nearer one counts.
        let both = flags(&["--shards", "1", "--config", "a", "doctor", "--shards", "2"]);
        assert_eq!(both.values.get("shards").unwrap(), "2");
        assert_eq!(both.file, Some(PathBuf::from("a")));
    }

    #[test]
    fn commands_for_clients() {
        use crate::client::publish::{Content, Target};
        let task = |line: &[&str]| {
            let line = std::iter::once("shardcast").chain(line.iter().copied());
            match Invocation::parse(line).ok()?.action {
                Action::Client(task) => Some(task),
                _ => None,
            }
        };
        let Some(Task::Publish(publish)) = task(&["publish", "tea", "hi", "--id", "k", "--json"])
        else {
            panic!("it is understood");
        };
        assert_eq!(publish.target, Target::Room("tea".to_owned()));
        assert_eq!(
            (publish.content.as_str(), publish.form),
            ("hi", Content::Json)
        );
        let Some(Task::Publish(publish)) = task(&["publish", "--user", "ada", "-"]) else {
            panic!("it is understood");
        };
        assert_eq!(publish.target, Target::User("ada".to_owned()));
        let Some(Task::Rooms(rooms)) = task(&["rooms", "--limit", "7", "--api", "http://h:1/"])
        else {
            panic!("it is understood");
        };
        assert_eq!((rooms.limit, rooms.api.url.as_str()), (7, "http://h:1"));
        let Some(Task::Chat(chat)) = task(&["chat", "tea", "lobby", "--user", "ada"]) else {
            panic!("it is understood");
        };
        assert_eq!((chat.rooms.len(), chat.user.as_deref()), (2, Some("ada")));
        for line in [
            &["publish", "tea"][..],
            &["publish", "--user", "ada", "tea", "hi"],
            &["publish", "tea", "hi", "--json", "--text"],
            &["publish", "", "hi"],
            &["rooms", "--limit", "0"],
            &["rooms", "tea", "--prefix", "t"],
            &["rooms", "--api", "127.0.0.1:9001"],
            &["chat", "--server", "http://127.0.0.1"],
            &["chat", "a\u{1b}b"],
            &["top", "tea"],
        ] {
            assert!(task(line).is_none(), "{line:?}");
        }
    }

    #[test]
    fn help_names_every_flag_and_variable() {
        let help = command().render_long_help().to_string();
        for setting in settings() {
            assert!(help.contains(&format!("{} <", setting.flag())));
            assert!(help.contains(&format!("[env: {}]", setting.variable())));
        }
        let short = command().render_help().to_string();
        assert!(short.contains("--shards <N>") && !short.contains("--rooms-max"));
    }
}
