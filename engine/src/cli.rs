//! The command line, made from the table of settings.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use shardcast_shard::limits::Limits;

use crate::config::{FILE_VARIABLE, Flags, Format, Section, Setting, Shape, settings};
use crate::doctor;

/// What the program is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// A command line that has been understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub action: Action,
    /// With which settings.
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
        let (action, matches) = match matches.subcommand() {
            Some(("config", matches)) => (Action::Config(format_of(matches)), matches),
            Some(("doctor", matches)) => (doctor_of(matches), matches),
            Some((_, matches)) => (Action::Serve, matches),
            None => (Action::Serve, &matches),
        };
        Ok(Self {
            action,
            flags: flags_of(matches),
        })
    }
}

/// The whole command line.
#[must_use]
pub fn command() -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .global(true)
        .help(format!(
            "TOML file with any of these options; none is read unless named [env: {FILE_VARIABLE}]"
        ));
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
        .arg(file)
        .args(settings().iter().map(argument))
        .subcommand(
            Command::new("serve").about("Serve until told to stop; this is what happens without a subcommand"),
        )
        .subcommand(
            Command::new("config")
                .about("Print the effective configuration and where each value comes from")
                .arg(format),
        )
        .subcommand(doctor_command())
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
                .value_parser(parse_connections)
                .help("Connections that are to be held [default: connections_max where it is set, otherwise what can be held]"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print one JSON object"),
        )
}

/// A number of connections, in what `connections_max` may be; underscores may group its digits as in every other option.
fn parse_connections(text: &str) -> Result<u64, String> {
    let most = Limits::field("connections_max").map_or(u64::MAX, |field| field.most);
    let number = text.replace('_', "").parse().ok();
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("it must be a whole number from 1 to {most}"))
}

/// The flag of a setting. Its value is checked with those of the other sources, not by clap.
fn argument(setting: &'static Setting) -> Arg {
    let limit = setting.section == Section::Limits;
    Arg::new(setting.name)
        .long(setting.name.replace('_', "-"))
        .value_name(setting.placeholder)
        .global(true)
        .allow_negative_numbers(setting.shape() == Shape::Number)
        .help_heading(if limit { "Limits" } else { "Server" })
        .hide_short_help(limit)
        .help(format!("{} [default: {}]", setting.help, setting.default))
        .long_help(format!(
            "{}\n[default: {}] [permitted: {}]\n[env: {}]",
            setting.help,
            setting.default,
            setting.permitted,
            setting.variable()
        ))
}

fn flags_of(matches: &ArgMatches) -> Flags {
    let text = |setting: &'static Setting| {
        let text = matches.get_one::<String>(setting.name)?;
        Some((setting.name, text.clone()))
    };
    Flags {
        file: matches.get_one::<PathBuf>("config").cloned(),
        values: settings().iter().filter_map(text).collect(),
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
            let expected = expected.map(|(action, values)| {
                let values = values
                    .iter()
                    .map(|(name, value)| (*name, (*value).to_owned()));
                (action, values.collect::<Vec<_>>())
            });
            assert_eq!(parsed, expected, "{arguments:?}");
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
