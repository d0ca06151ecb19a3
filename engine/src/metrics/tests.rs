use std::collections::BTreeMap;

use serde_json::Value;
use shardcast_shard::hub::{Name, Target};
use shardcast_shard::mailbox::Mesh;
use shardcast_shard::orders::Publication;
use shardcast_shard::post::ShardMesh;
use shardcast_shard::shard::Control;

use super::*;

fn metrics(shards: u16) -> (Metrics, Arc<ShardMesh>) {
    let mesh: Arc<ShardMesh> = Mesh::new(shards, 64);
    let limits = Limits {
        connections_max: 5000,
        memory_mib_max: 3,
        ..Limits::default()
    };
    let metrics = Metrics::new(
        (0..shards).map(|_| Arc::default()).collect(),
        (0..shards).map(|shard| mesh.control(shard)).collect(),
        Arc::new(limits),
    );
    (metrics, mesh)
}

/// One family as it stands in the text.
#[derive(Debug, Default)]
struct Parsed<'a> {
    help: &'a str,
    kind: &'a str,
    samples: BTreeMap<&'a str, &'a str>,
}

fn parse(text: &str) -> BTreeMap<&str, Parsed<'_>> {
    let mut families: BTreeMap<&str, Parsed<'_>> = BTreeMap::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(!families.contains_key(name), "{name} comes twice");
            families.entry(name).or_default().help = help;
            family = name;
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family, "without help");
            families.entry(name).or_default().kind = kind;
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(sample.starts_with(family), "{line} among {family}");
            let before = families
                .entry(family)
                .or_default()
                .samples
                .insert(sample, value);
            assert_eq!(before, None, "{sample} comes twice");
        }
    }
    families
}

/// The names of the labels of a sample, in order.
fn labels(sample: &str) -> Vec<&str> {
    let Some((_, labels)) = sample.split_once('{') else {
        return Vec::new();
    };
    let labels = labels.split(',').filter_map(|label| label.split_once('='));
    labels.map(|(name, _)| name).collect()
}

/// The row of a family in the table of the README.
fn row(name: &str, family: &Parsed<'_>) -> String {
    let sample = family.samples.keys().next().unwrap();
    let labels: Vec<String> = labels(sample)
        .into_iter()
        .filter(|label| *label != "le")
        .map(|label| format!("`{label}`"))
        .collect();
    let Parsed { kind, help, .. } = family;
    format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "))
}

/// Dashboards and alerts rest on the names, so they stand in the README. A family may come; none may go, or change what it is.
#[test]
fn the_readme_lists_every_family() {
    let (metrics, _) = metrics(1);
    let text = metrics.render();
    let is: Vec<String> = parse(&text)
        .iter()
        .map(|(name, family)| row(name, family))
        .collect();
    let readme = include_str!("../../../README.md");
    let listed: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with("| `shardcast_") || line.starts_with("| `process_"))
        .collect();
    assert!(
        is == listed,
        "the table of the README is to be:\n{}",
        is.join("\n")
    );
    assert!(is.iter().all(|row| row.ends_with(". |")));
}

/// Panels of the dashboard that show something.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] != "row")
}

#[test]
fn the_dashboard_is_complete() {
    let dashboard: Value =
        serde_json::from_str(include_str!("../../../scripts/grafana-dashboard.json")).unwrap();
    assert_eq!(dashboard["uid"], "shardcast");
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(variables, ["datasource", "instance", "shard"]);
    let mut ids: Vec<u64> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "ids are unique");
    let mut titles = Vec::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(!title.is_empty() && !titles.contains(&title), "{title}");
        titles.push(title);
        let description = panel["description"].as_str().unwrap_or_default();
        assert!(description.ends_with('.'), "{title}: {description}");
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
        assert!(unit.is_some_and(|unit| !unit.is_empty()), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let query = target["expr"].as_str().unwrap();
            // Whatever is summed over time is summed over what the dashboard shows.
            assert_eq!(
                query.matches('[').count(),
                query.matches("[$__rate_interval]").count(),
                "{query}"
            );
            assert!(query.contains("$instance"), "{query}");
            assert!(!target["legendFormat"].as_str().unwrap().is_empty());
        }
    }
}

/// Names of metrics in a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("shardcast_") || word.starts_with("process_"))
}

#[test]
fn the_dashboard_names_what_there_is() {
    let (metrics, _) = metrics(1);
    let text = metrics.render();
    let families = parse(&text);
    let is_there = |name: &str| {
        let of_histogram = ["_bucket", "_sum", "_count"]
            .into_iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        families.contains_key(name)
            || of_histogram
                .and_then(|name| families.get(name))
                .is_some_and(|family| family.kind == "histogram")
    };
    let mut count = 0;
    for name in names(include_str!("../../../scripts/grafana-dashboard.json")) {
        assert!(is_there(name), "there is no {name}");
        count += 1;
    }
    assert!(count > 80, "{count} names");
}

#[test]
fn each_number_stands_there_with_its_shard() {
    let (metrics, _) = metrics(2);
    metrics.stats[0].deliveries_sent.add(12_345_678_901_234);
    metrics.stats[1].deliveries_sent.add(7);
    metrics.stats[1].tokens_expired.add(3);
    metrics.stats[1].connections_open.add(5);
    let text = metrics.render();
    let families = parse(&text);
    for (family, sample, value) in [
        (
            "shardcast_deliveries_total",
            r#"{shard="0"}"#,
            "12345678901234",
        ),
        ("shardcast_deliveries_total", r#"{shard="1"}"#, "7"),
        (
            "shardcast_tokens_total",
            r#"{outcome="expired",shard="1"}"#,
            "3",
        ),
        (
            "shardcast_tokens_total",
            r#"{outcome="expired",shard="0"}"#,
            "0",
        ),
        ("shardcast_connections", r#"{shard="1"}"#, "5"),
        ("shardcast_connections_max", "", "5000"),
        ("shardcast_memory_max_bytes", "", "3145728"),
        ("shardcast_shards", "", "2"),
    ] {
        let name = format!("{family}{sample}");
        assert_eq!(families[family].samples[name.as_str()], value, "{name}");
    }
    let version = format!(
        r#"shardcast_build_info{{version="{}"}}"#,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(
        families["shardcast_build_info"].samples[version.as_str()],
        "1"
    );
}

#[test]
fn a_histogram_is_cumulative_and_in_seconds() {
    let (metrics, _) = metrics(1);
    let latency = &metrics.stats[0].delivery_latency;
    latency.record(7, 2);
    latency.record(150, 3);
    latency.record(5_000_000, 1);
    let text = metrics.render();
    let families = parse(&text);
    let family = &families["shardcast_delivery_latency_seconds"];
    assert_eq!(family.kind, "histogram");
    for (sample, value) in [
        (r#"_bucket{shard="0",le="0.00001"}"#, "2"),
        (r#"_bucket{shard="0",le="0.0001"}"#, "2"),
        (r#"_bucket{shard="0",le="0.0002"}"#, "5"),
        (r#"_bucket{shard="0",le="1"}"#, "5"),
        (r#"_bucket{shard="0",le="+Inf"}"#, "6"),
        (r#"_count{shard="0"}"#, "6"),
        (r#"_sum{shard="0"}"#, "5.000464"),
    ] {
        let name = format!("shardcast_delivery_latency_seconds{sample}");
        assert_eq!(family.samples.get(name.as_str()), Some(&value), "{name}");
    }
}

#[test]
fn what_waits_in_mailboxes_is_read_when_asked_for() {
    let (metrics, mesh) = metrics(2);
    let order = Publication {
        user: Name::from("server"),
        target: Target::Room("hall".into()),
        content: "1".into(),
        id: None,
    };
    mesh.control(1).send(Control::from(order)).unwrap();
    let text = metrics.render();
    let families = parse(&text);
    let depth = |lane: &str, shard: u16| {
        let sample = format!(r#"shardcast_mailbox_depth{{lane="{lane}",shard="{shard}"}}"#);
        families["shardcast_mailbox_depth"].samples[sample.as_str()]
    };
    assert_eq!(
        (depth("orders", 1), depth("orders", 0), depth("requests", 1)),
        ("1", "0", "0")
    );
}

#[test]
fn the_process_is_described() {
    let (metrics, _) = metrics(1);
    let text = metrics.render();
    let families = parse(&text);
    let value = |name: &str| families[name].samples[name].parse::<f64>().unwrap();
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_open_fds") <= value("process_max_fds"));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let age = now - value("process_start_time_seconds");
    assert!((-2.0..3600.0).contains(&age), "{age} s old");
}
