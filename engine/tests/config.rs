//! The command line and the configuration: the binary as a process, and the library in this process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use shardcast::cli::Invocation;
use shardcast::config::{
    Config, ConfigError, EffectiveConfig, Format, RoomSettings, Section, SlowConsumer, Source,
    Sources, settings,
};
use shardcast::topology::{Interface, Topology};
use shardcast_shard::limits::Limits;
use shardcast_shard::pattern::Pattern;

/// A file that is gone when the test ends.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // A file that is left behind in the build directory does no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs the binary with these arguments and nothing but these variables of ours.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SHARDCAST_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn standard_output(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The line of a setting in the text form, with single spaces.
fn line(text: &str, name: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.split_whitespace().next() == Some(name))
        .unwrap_or_else(|| panic!("no line for {name} in\n{text}"));
    line.split_whitespace().collect::<Vec<&str>>().join(" ")
}

/// Asserts that the binary refuses, with exit code 2 and one message that has all these parts.
fn assert_refused(arguments: &[&str], variables: &[(&str, &str)], parts: &[&str]) {
    let output = run(arguments, variables);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(2),
        "{arguments:?} {variables:?}: {message}"
    );
    assert!(output.stdout.is_empty(), "{arguments:?}");
    assert!(message.starts_with("error: "), "{message}");
    assert_eq!(message.matches("error: ").count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn a_flag_outranks_a_variable_outranks_the_file_outranks_the_default() {
    let file = File::new(
        "precedence",
        "shards = 3\nreconnect_after_ms = 3\nshutdown_ms_max = 3\n[limits]\nrooms_max = 3\nids_max = 3\nid_size_max = 3\n",
    );
    let output = run(
        &[
            "--shards",
            "5",
            "config",
            "--rooms-max",
            "5",
            "--config",
            file.path(),
        ],
        &[
            ("SHARDCAST_SHARDS", "4"),
            ("SHARDCAST_ROOMS_MAX", "4"),
            ("SHARDCAST_IDS_MAX", "4"),
            ("SHARDCAST_RECONNECT_AFTER_MS", "4"),
        ],
    );
    assert!(output.status.success(), "{output:?}");
    let text = standard_output(&output);
    for (name, expected) in [
        ("shards", "shards 5 flag --shards".to_owned()),
        ("rooms_max", "rooms_max 5 flag --rooms-max".to_owned()),
        (
            "ids_max",
            "ids_max 4 environment SHARDCAST_IDS_MAX".to_owned(),
        ),
        (
            "reconnect_after_ms",
            "reconnect_after_ms 4 environment SHARDCAST_RECONNECT_AFTER_MS".to_owned(),
        ),
        (
            "shutdown_ms_max",
            format!("shutdown_ms_max 3 {}:3", file.path()),
        ),
        ("id_size_max", format!("id_size_max 3 {}:7", file.path())),
        (
            "heartbeat_missed_max",
            "heartbeat_missed_max 2 default".to_owned(),
        ),
        ("listen", "listen 127.0.0.1:9000 default".to_owned()),
    ] {
        assert_eq!(line(text, name), expected);
    }
    assert_eq!(text.lines().count(), settings().len());
}

#[test]
fn a_variable_can_name_the_file_and_an_empty_variable_is_none() {
    let file = File::new("variable", "shards = 7\n");
    let output = run(
        &["config"],
        &[
            ("SHARDCAST_CONFIG", file.path()),
            ("SHARDCAST_SHARDS", ""),
            ("SHARDCAST_SERVICE_HOST", "10.0.0.1"),
        ],
    );
    assert_eq!(
        line(standard_output(&output), "shards"),
        format!("shards 7 {}:1", file.path())
    );
}

#[test]
fn a_file_in_the_working_directory_is_not_read_unless_it_is_named() {
    let directory =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-working", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("shardcast.toml"), "nonsense").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_shardcast"))
        .arg("config")
        .current_dir(&directory)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_cannot_be_used_is_refused_with_one_message() {
    let unknown = File::new("unknown", "shards = 2\n\n[limits]\nroom_max = 3\n");
    let range = File::new("range", "[limits]\n# none\nheartbeat_ms = 9\n");
    let kind = File::new("kind", "shards = \"two\"\n");
    let syntax = File::new("syntax", "shards = 2\nlisten = = 3\n");
    let contradiction = File::new("contradiction", "[limits]\nsubmissions_max = 32768\n");
    let at = |file: &File, line: usize| format!("{}:{line}:", file.path());

    for subcommand in ["config", "serve"] {
        assert_refused(
            &[subcommand, "--config", unknown.path()],
            &[],
            &[
                &at(&unknown, 4),
                "unknown key `limits.room_max`",
                "`rooms_max`",
            ],
        );
    }
    assert_refused(
        &["--config", range.path()],
        &[],
        &[
            &at(&range, 3),
            "heartbeat_ms = 9",
            "from 10 to 3_600_000",
            "25_000",
        ],
    );
    // A value that is not permitted is refused even where a flag replaces it.
    assert_refused(
        &["--config", kind.path(), "--shards", "2"],
        &[],
        &[&at(&kind, 1), "shards = \"two\"", "from 1 to 1_024"],
    );
    assert_refused(
        &["--config", syntax.path()],
        &[],
        &[&format!("{}:2:10:", syntax.path())],
    );
    assert_refused(
        &["--config", contradiction.path()],
        &[("SHARDCAST_COMPLETIONS_MAX", "16384")],
        &[
            "submissions_max = 32768 must not exceed completions_max = 16384",
            &format!("submissions_max: {}:2", contradiction.path()),
            "completions_max: environment SHARDCAST_COMPLETIONS_MAX",
        ],
    );
    assert_refused(
        &["--config", "no/such.toml"],
        &[],
        &["no/such.toml", "flag --config", "No such file"],
    );
    assert_refused(
        &[],
        &[("SHARDCAST_CONFIG", "no/such.toml")],
        &["no/such.toml", "environment SHARDCAST_CONFIG"],
    );
    assert_refused(
        &["--receive-buffers-max", "1000"],
        &[],
        &[
            "power of two",
            "1024",
            "receive_buffers_max: flag --receive-buffers-max",
        ],
    );
    assert_refused(
        &["--shards", "0"],
        &[],
        &["--shards 0", "from 1 to 1_024", "default"],
    );
    assert_refused(
        &[],
        &[("SHARDCAST_SHARDS", "many")],
        &["SHARDCAST_SHARDS=many", "whole number"],
    );
    assert_refused(
        &["--cores", "8000"],
        &[],
        &["flag --cores", "core 8000", "it may use"],
    );
    assert_refused(&["--shard", "2"], &[], &["'--shard'", "--shards"]);
    assert_refused(&["--shards"], &[], &["--shards <N>"]);
}

#[test]
fn help_names_every_flag_and_leaves_with_zero() {
    let output = run(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = standard_output(&output);
    assert!(help.contains("Limits:"), "{help}");
    for setting in settings() {
        assert!(
            help.contains(&format!("{} <", setting.flag())),
            "{}",
            setting.name
        );
        assert!(help.contains(&setting.variable()), "{}", setting.name);
    }
    assert_eq!(run(&["--version"], &[]).status.code(), Some(0));
}

#[test]
fn the_readme_lists_every_option_as_it_is() {
    let output = run(&["config", "--format", "markdown"], &[]);
    let options = standard_output(&output);
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))
        .expect("the README stands beside the crates");
    assert!(
        readme.contains(options.trim()),
        "replace the section Options by the output of `shardcast config --format markdown`"
    );
}

#[test]
fn the_markdown_form_does_not_depend_on_the_values_in_effect() {
    let plain = run(&["config", "--format", "markdown"], &[]);
    let changed = run(
        &["config", "--format", "markdown", "--shards", "9"],
        &[("SHARDCAST_ROOMS_MAX", "4")],
    );
    assert!(plain.status.success());
    assert_eq!(plain.stdout, changed.stdout);
    assert!(standard_output(&plain).contains("| `--rooms-max N` | 4_000_000 |"));
}

/// The configuration that arguments, variables and a file called `shardcast.toml` add up to, in this process.
fn from_sources(
    arguments: &[&str],
    variables: &BTreeMap<String, String>,
    file: Option<&str>,
) -> Result<EffectiveConfig, ConfigError> {
    let mut invocation =
        Invocation::parse(std::iter::once("shardcast").chain(arguments.iter().copied())).unwrap();
    invocation.flags.file = file.map(|_| PathBuf::from("shardcast.toml"));
    EffectiveConfig::from_sources(&Sources {
        flags: &invocation.flags,
        variable: &|name| variables.get(name).cloned(),
        file: &|_| {
            file.map(str::to_owned)
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        },
        topology: &topology(),
    })
}

/// Two physical cores of two threads each, on a node each; a card on the second node.
fn topology() -> Topology {
    let card = Interface {
        name: "eth7".to_owned(),
        addresses: vec!["10.0.0.5".parse().unwrap()],
        node: Some(1),
        ..Interface::default()
    };
    let siblings = |core| Some(format!("{}-{}", core & !1, core | 1));
    Topology::new(vec![0, 1, 2, 3], 4, siblings)
        .with_nodes([(0, vec![0, 1]), (1, vec![2, 3])])
        .with_interfaces(vec![card])
}

#[test]
fn shards_are_placed_by_the_card_and_by_what_was_asked_for() {
    let cases: &[(&[&str], &[usize], usize)] = &[
        (&[], &[0, 2], 2),
        (&["--listen", "10.0.0.5:80"], &[2, 0], 2),
        (&["--smt", "on"], &[0, 2, 1, 3], 4),
        (
            &["--listen", "10.0.0.5:80", "--smt", "on"],
            &[2, 0, 3, 1],
            4,
        ),
        (&["--listen", "10.0.0.5:80", "--shards", "1"], &[2, 0], 1),
        (&["--cores", "1", "--smt", "on"], &[1], 1),
    ];
    for (arguments, cores, shards) in cases {
        let arguments = [&["serve"], *arguments].concat();
        let effective = from_sources(&arguments, &BTreeMap::new(), None).unwrap();
        let config = effective.config();
        assert_eq!(config.cores, *cores, "{arguments:?}");
        assert_eq!(config.shards, *shards, "{arguments:?}");
    }
}

#[test]
fn every_limit_can_be_set_in_each_way() {
    for field in Limits::FIELDS {
        // Another value than the default that contradicts no other limit: the next power of two, or a number nearby.
        let value = [
            field.default * 2,
            field.default / 2,
            field.default + 1,
            field.default - field.default.min(1),
        ]
        .into_iter()
        .find(|value| {
            let mut limits = Limits::default();
            *value != field.default
                && limits.set(field.name, *value).is_ok()
                && limits.check().is_ok()
        })
        .unwrap_or_else(|| panic!("{} has no second value", field.name));

        let flag = format!("--{}", field.name.replace('_', "-"));
        let variable = format!("SHARDCAST_{}", field.name.to_uppercase());
        let line = format!("[limits]\n{} = {value}\n", field.name);
        let none = BTreeMap::new();
        let environment = BTreeMap::from([(variable.clone(), value.to_string())]);
        let ways = [
            (
                from_sources(&[&flag, &value.to_string()], &none, None),
                Source::Flag(flag.clone()),
            ),
            (
                from_sources(&[], &environment, None),
                Source::Variable(variable.clone()),
            ),
            (
                from_sources(&[], &none, Some(&line)),
                Source::File {
                    path: "shardcast.toml".into(),
                    line: 2,
                },
            ),
        ];
        let mut expected = Config::for_topology(&topology());
        expected.limits.set(field.name, value).unwrap();
        for (effective, source) in ways {
            let effective = effective.unwrap();
            assert_eq!(effective.source(field.name), source);
            assert_eq!(effective.config(), &expected, "{source}");
        }
    }
}

#[test]
fn a_value_out_of_range_is_refused_from_each_source() {
    for field in Limits::FIELDS {
        let value = (u128::from(field.most) + 1).to_string();
        let flag = format!("--{}", field.name.replace('_', "-"));
        let variable = format!("SHARDCAST_{}", field.name.to_uppercase());
        let line = format!("[limits]\n{} = {value}\n", field.name);
        let none = BTreeMap::new();
        let environment = BTreeMap::from([(variable.clone(), value.clone())]);
        for (result, part) in [
            (
                from_sources(&[&flag, &value], &none, None),
                format!("{flag} {value} "),
            ),
            (
                from_sources(&[], &environment, None),
                format!("{variable}={value} "),
            ),
            (
                from_sources(&[], &none, Some(&line)),
                format!("shardcast.toml:2: {} = {value} ", field.name),
            ),
        ] {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(&part), "{part}: {message}");
        }
    }
}

#[test]
fn the_toml_form_read_again_gives_the_same_configuration() {
    let every_setting = [
        ("listen", "[::]:8080"),
        ("shards", "6"),
        ("cores", "3,0-1"),
        ("smt", "on"),
        ("steering", "off"),
        ("table_size", "20000"),
        ("tls_cert", "/etc/shardcast/chain.pem"),
        ("tls_key", "/etc/shardcast/key.pem"),
        ("origins", "https://a.example,http://b.example:8080"),
        ("slow_consumer", "drop_oldest"),
        ("compression", "dedicated"),
        ("anonymous", "off"),
        ("auth_key", "/etc/shardcast/key \"1\".pem"),
        ("auth_jwks", "https://id.example/keys"),
        ("auth_jwks_refresh_ms", "2000"),
        ("auth_jwks_refresh_ms_min", "200"),
        ("auth_issuer", "https://id.example"),
        ("auth_audience", "chat"),
        ("auth_leeway_ms", "0"),
        ("admin", "[::1]:9100"),
        ("admin_token", "/etc/shardcast/admin token"),
        ("admin_connections_max", "7"),
        ("admin_request_size_max", "2048"),
        ("admin_messages_max", "9"),
        ("admin_wait_ms_max", "100"),
        ("webhook_url", "https://backend.example/hook"),
        ("webhook_events", "publish,disconnected"),
        ("webhook_publish_rooms", "chat.*,news"),
        ("webhook_secret", "/etc/shardcast/webhook"),
        ("webhook_ca", "/etc/shardcast/authority.pem"),
        ("webhook_on_failure", "allow"),
        ("webhook_timeout_ms", "100"),
        ("webhook_retry_ms_max", "0"),
        ("webhook_queue_events_max", "7"),
        ("webhook_queue_bytes_max", "65536"),
        ("webhook_batch_events_max", "8"),
        ("webhook_decisions_max", "9"),
        ("shutdown_window_ms", "1"),
        ("shutdown_ms_max", "2"),
        ("reconnect_after_ms", "3"),
        ("log", "info,shardcast[span{field=\"a\"}]=debug"),
        ("log_format", "json"),
    ];
    let server_settings = settings()
        .iter()
        .filter(|setting| setting.section == Section::Server);
    assert_eq!(server_settings.count(), every_setting.len());

    let none = BTreeMap::new();
    let mut environment: BTreeMap<String, String> = every_setting
        .iter()
        .map(|(name, text)| {
            (
                format!("SHARDCAST_{}", name.to_uppercase()),
                (*text).to_owned(),
            )
        })
        .collect();
    environment.insert("SHARDCAST_HISTORY_SHARD_BYTES_MAX".into(), "0".into());
    for (variables, expect_change) in [(&none, false), (&environment, true)] {
        let first = from_sources(&[], variables, None).unwrap();
        let file = first.print(Format::Toml);
        let second = from_sources(&[], &none, Some(&file)).unwrap();
        assert_eq!(first.config(), second.config(), "{file}");
        let invocation = Invocation::parse(["shardcast", "--config", "a.toml"]).unwrap();
        let third = Config::from_sources(&Sources {
            flags: &invocation.flags,
            variable: &|_| None,
            file: &|path| {
                assert_eq!(path, Path::new("a.toml"));
                Ok(file.clone())
            },
            topology: &topology(),
        });
        assert_eq!(first.config(), &third.unwrap(), "{file}");
        assert_eq!(
            first.config() != &Config::for_topology(&topology()),
            expect_change
        );

        // With its comments on defaults removed the file says the same in full.
        let full: String = file
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest)
                    if settings()
                        .iter()
                        .any(|setting| rest.starts_with(&format!("{} = ", setting.name))) =>
                {
                    format!("{rest}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        let third = from_sources(&[], &none, Some(&full)).unwrap();
        assert_eq!(first.config(), third.config(), "{full}");
        for setting in settings() {
            assert!(matches!(third.source(setting.name), Source::File { .. }));
        }
    }
}

#[test]
fn entries_about_rooms_are_printed_and_read_again() {
    let none = BTreeMap::new();
    let file = "[[rooms]]\npattern = 'ticker.*'\nhistory_messages_max = 0\nslow_consumer = 'conflate'\npublish = 'server'\n\n[[rooms]]\npattern = '*'\npresence = 'off'\n";
    let first = from_sources(&[], &none, Some(file)).unwrap();
    assert_eq!(first.config().rooms.len(), 2);
    let text = first.print(Format::Text);
    for (name, expected) in [
        (
            "rooms[0].pattern",
            "rooms[0].pattern ticker.* shardcast.toml:2",
        ),
        (
            "rooms[0].publish",
            "rooms[0].publish server shardcast.toml:5",
        ),
        (
            "rooms[1].presence",
            "rooms[1].presence off shardcast.toml:9",
        ),
    ] {
        assert_eq!(line(&text, name), expected);
    }
    assert_eq!(text.lines().count(), settings().len() + 4 + 2);
    let printed = first.print(Format::Toml);
    let second = from_sources(&[], &none, Some(&printed)).unwrap();
    assert_eq!(first.config(), second.config(), "{printed}");
}

#[test]
fn entries_about_rooms_that_contradict_something_are_refused() {
    let none = BTreeMap::new();
    // Arguments, the file, parts of the message.
    let cases: &[(&[&str], &str, &[&str])] = &[
        (
            &[],
            "[[rooms]]\npattern = 'a*'\n[[rooms]]\npattern = 'a*'\n",
            &[
                "shardcast.toml:4: pattern = \"a*\" never counts",
                "shardcast.toml:2",
                "remove it",
            ],
        ),
        (
            &[],
            "[[rooms]]\npattern = '*'\n\n[[rooms]]\npublish = 'server'\npattern = 'a'\n",
            &["shardcast.toml:6:", "put it before"],
        ),
        (
            &["--message-size-max", "1000"],
            "[[rooms]]\npattern = 'a'\nmessage_size_max = 1001\n",
            &[
                "shardcast.toml:3: message_size_max = 1001 must not exceed",
                "flag --message-size-max",
            ],
        ),
        (
            &[],
            "[[rooms]]\npattern = 'a'\npresence = 'count'\npresence_individual_max = 3\n",
            &["shardcast.toml:4:", "remove one of them"],
        ),
        (
            &["--user-connections-max", "5", "--connections-max", "4"],
            "",
            &[
                "user_connections_max = 5 must not exceed connections_max = 4",
                "flag --user-connections-max",
            ],
        ),
        (
            &[],
            "[limits]\nbytes_burst_max = 100\nbytes_per_second_max = 1_000_000\n",
            &[
                "bytes_per_second_max = 1000000 cannot be reached",
                "to at least 1000",
                "shardcast.toml:2",
            ],
        ),
        (
            &[
                "--messages-burst-max",
                "9",
                "--messages-per-second-max",
                "10000",
            ],
            "",
            &["raise messages_burst_max to at least 10"],
        ),
    ];
    for (arguments, file, parts) in cases {
        let message = from_sources(arguments, &none, Some(file))
            .unwrap_err()
            .to_string();
        for part in *parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
    let mut many = String::new();
    (0..256).for_each(|n| many.push_str(&format!("[[rooms]]\npattern = '{n}'\n")));
    let message = from_sources(&[], &none, Some(&many))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("shardcast.toml:512: 256 entries"),
        "{message}"
    );
}

#[test]
fn shards_follow_the_cores() {
    let none = BTreeMap::new();
    // Arguments, shards, cores. The machine has two physical cores of two threads each.
    let cases: &[(&[&str], usize, &[usize])] = &[
        (&[], 2, &[0, 2]),
        (&["--cores", "0-3"], 4, &[0, 1, 2, 3]),
        (&["--cores", "3"], 1, &[3]),
        (&["--cores", "3,1", "--shards", "9"], 9, &[3, 1]),
        (&["--shards", "1"], 1, &[0, 2]),
    ];
    for (arguments, shards, cores) in cases {
        let effective = from_sources(arguments, &none, None).unwrap();
        assert_eq!(effective.config().shards, *shards, "{arguments:?}");
        assert_eq!(effective.config().cores, *cores, "{arguments:?}");
    }
    let message = from_sources(&["--cores", "2-5"], &none, None)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("core 4-5") && message.contains("it may use 0-3"),
        "{message}"
    );
}

#[test]
fn a_configuration_made_by_a_program_is_checked() {
    type Change = fn(&mut Config);
    assert!(Config::default().check(&Topology::detect()).is_ok());
    let changes: &[(Change, &str)] = &[
        (|config| config.shards = 0, "shards = 0"),
        (|config| config.shards = 70_000, "shards = 70000"),
        (|config| config.cores = vec![], "cores"),
        (|config| config.cores = vec![9], "core 9"),
        (
            |config| config.limits.heartbeat_ms = 0,
            "heartbeat_ms = 0 is not permitted",
        ),
        (
            |config| config.limits.outbox_bytes_max = 4096,
            "outbox_unread_bytes_max",
        ),
        (
            |config| config.origins = vec!["https://a/b".to_owned()],
            "origins = https://a/b",
        ),
        (|config| config.log = "a=b=c".to_owned(), "log = a=b=c"),
        (
            |config| {
                let mut settings = RoomSettings::new(Pattern::all());
                settings.message_size_max = Some(0);
                config.rooms = vec![settings];
            },
            "rooms[0]: message_size_max = 0",
        ),
    ];
    for (change, part) in changes {
        let mut config = Config::for_topology(&topology());
        assert!(config.check(&topology()).is_ok());
        config.slow_consumer = SlowConsumer::DropOldest;
        change(&mut config);
        let message = config.check(&topology()).unwrap_err().to_string();
        assert!(message.contains(part), "{part}: {message}");
    }
}
