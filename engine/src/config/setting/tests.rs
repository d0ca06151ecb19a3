//! What settings permit, and how they read back.

use super::*;
use crate::topology::Topology;

fn find(name: &str) -> &'static Setting {
    settings()
        .iter()
        .find(|setting| setting.name == name)
        .unwrap()
}

fn config() -> Config {
    Config::for_topology(&Topology::new(vec![0, 1], 2, |_| None))
}

#[test]
fn names_are_unique_and_every_limit_has_a_setting() {
    let mut names: Vec<&str> = settings().iter().map(|setting| setting.name).collect();
    for field in Limits::FIELDS {
        assert_eq!(find(field.name).section, Section::Limits);
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), settings().len());
}

#[test]
fn the_default_is_permitted_and_reads_back() {
    for setting in settings() {
        let mut changed = config();
        let text = setting.text(&changed);
        setting.assign(&mut changed, &text).unwrap();
        assert_eq!(changed, config(), "{}", setting.name);
        assert!(setting.help.ends_with('.'), "{}", setting.name);
        assert!(!setting.help.contains("  "), "{}", setting.name);
    }
}

#[test]
fn documented_defaults_of_numbers_and_words_are_the_real_ones() {
    for setting in settings() {
        if ["shards", "cores"].contains(&setting.name) || setting.default == "empty" {
            continue;
        }
        let mut changed = config();
        setting.assign(&mut changed, &setting.default).unwrap();
        assert_eq!(changed, config(), "{}", setting.name);
    }
}

#[test]
fn values() {
    // Name, text, text it reads back as; None: not permitted.
    let cases = [
        ("listen", "0.0.0.0:80", Some("0.0.0.0:80")),
        ("listen", "[::1]:0", Some("[::1]:0")),
        ("listen", "localhost:80", None),
        ("listen", "127.0.0.1", None),
        ("shards", "1024", Some("1024")),
        ("shards", "0", None),
        ("shards", "1025", None),
        ("shards", "-1", None),
        ("shards", "two", None),
        ("cores", "0-1,4", Some("0-1,4")),
        ("cores", "1-0", None),
        ("table_size", "20_000", Some("20000")),
        ("table_size", "1048577", None),
        (
            "origins",
            "https://A.example, http://b:8080",
            Some("https://a.example,http://b:8080"),
        ),
        ("origins", "null", Some("null")),
        ("origins", "", Some("")),
        ("origins", "https://a/", None),
        ("origins", "a.example", None),
        ("origins", "*", None),
        ("origins", "https://*", None),
        ("anonymous", "off", Some("off")),
        ("anonymous", "yes", None),
        ("auth_key", " /run/key ", Some("/run/key")),
        ("auth_key", "", Some("")),
        ("auth_jwks", "keys.json", Some("keys.json")),
        (
            "auth_jwks",
            "https://id.example/keys?p=1",
            Some("https://id.example/keys?p=1"),
        ),
        ("auth_jwks", "ftp://id.example/keys", None),
        ("auth_jwks", "https://me:secret@id.example/keys", None),
        ("auth_jwks", "https://", None),
        ("auth_jwks", "https:// id.example", None),
        ("auth_leeway_ms", "600001", None),
        ("slow_consumer", "drop_oldest", Some("drop_oldest")),
        ("slow_consumer", "conflate", Some("conflate")),
        ("slow_consumer", "wait", None),
        ("smt", "on", Some("on")),
        ("smt", "1", None),
        ("steering", "off", Some("off")),
        ("steering", "cpu", None),
        ("compression", "dedicated", Some("dedicated")),
        ("compression", "on", None),
        ("shutdown_ms_max", "0", Some("0")),
        ("log", "info,shardcast=trace", Some("info,shardcast=trace")),
        ("log", "shardcast=loud", None),
        ("log_format", "json", Some("json")),
        ("log_format", "xml", None),
        ("connections_max", "1_000", Some("1000")),
        ("connections_max", "0", None),
        ("connections_max", "99999999999999999999", None),
    ];
    for (name, text, expected) in cases {
        let setting = find(name);
        let mut changed = config();
        let result = setting.assign(&mut changed, text);
        match expected {
            Some(expected) => {
                assert_eq!(result, Ok(()), "{name} {text}");
                assert_eq!(setting.text(&changed), expected, "{name} {text}");
            }
            None => {
                assert_eq!(result, Err(NotPermitted), "{name} {text}");
                assert_eq!(changed, config(), "{name} {text}");
            }
        }
    }
}
