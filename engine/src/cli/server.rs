//! The options of the server, one for each setting.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, ValueHint};

use shardcast_shard::limits::Limits;

use crate::config::{FILE_VARIABLE, Flags, Section, Setting, Shape, settings};

/// All of them, the file among them.
pub(super) fn options() -> impl Iterator<Item = Arg> {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .help(format!(
            "TOML file with any of these options; none is read unless named [env: {FILE_VARIABLE}]"
        ));
    std::iter::once(file).chain(settings().iter().map(argument))
}

/// The flag of a setting. Its value is checked with those of the other sources, not by clap.
fn argument(setting: &'static Setting) -> Arg {
    let limit = setting.section == Section::Limits;
    Arg::new(setting.name)
        .long(setting.name.replace('_', "-"))
        .value_name(setting.placeholder)
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

/// Those that were given.
pub(super) fn flags_of(matches: &ArgMatches) -> Flags {
    let text = |setting: &'static Setting| {
        let text = matches.get_one::<String>(setting.name)?;
        Some((setting.name, text.clone()))
    };
    Flags {
        file: matches.get_one::<PathBuf>("config").cloned(),
        values: settings().iter().filter_map(text).collect(),
    }
}

/// A number of connections, in what `connections_max` may be; underscores may group its digits as in every other option.
pub(super) fn parse_connections(text: &str) -> Result<u64, String> {
    let most = Limits::field("connections_max").map_or(u64::MAX, |field| field.most);
    let number = text.replace('_', "").parse().ok();
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("it must be a whole number from 1 to {most}"))
}
