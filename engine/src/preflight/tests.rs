#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::topology::Topology;

/// A machine that lacks nothing.
fn host() -> Host {
    Host {
        kernel_release: "6.18.44".to_owned(),
        io_uring_disabled: Some(0),
        descriptors_soft: 1 << 20,
        descriptors_hard: 1 << 20,
        descriptors_most: Some(1 << 30),
        files_max: Some(u64::MAX >> 1),
        lockable_bytes: 8 << 20,
        may_lock_without_bound: false,
        backlog_most: Some(4096),
        memory_bytes: Some(64 << 30),
    }
}

fn config() -> Config {
    Config::for_topology(&Topology::new(vec![0, 1], 2, |_| None))
}

fn capability(name: &'static str, present: bool) -> Capability {
    Capability {
        name,
        since: "6.1",
        present,
        required: false,
    }
}

#[test]
fn nothing_is_wrong_with_a_good_machine_and_the_banner_is_short() {
    let capabilities = [
        capability("multishot accept", true),
        capability("send bundles", true),
    ];
    let preflight = Preflight::examine(&config(), &host(), &capabilities);
    assert_eq!(preflight.severity(), Severity::Ok);
    assert_eq!(preflight.table_size, 1_000_064);
    let banner = preflight.banner(&config());
    assert!(banner.lines().count() <= 10, "{banner}");
    for part in [
        " on 127.0.0.1:9000\n",
        "2 shards on cores 0-1",
        "Linux 6.18.44",
        "multishot accept, send bundles",
        "up to 2,000,000; 1,000,000 a shard",
        "1,048,576 for the process and for each ring",
        "64 GiB",
    ] {
        assert!(banner.contains(part), "{part}: {banner}");
    }
    assert!(banner.lines().all(|line| line.len() <= 100), "{banner}");
}

/// A deviation from the good machine or from the defaults, and what is to be found about it.
struct Case {
    change: fn(&mut Config, &mut Host),
    what: &'static str,
    severity: Severity,
    /// A part of the value and a part of the remedy.
    value: &'static str,
    remedy: Option<&'static str>,
}

const CASES: &[Case] = &[
    Case {
        change: |_, host| host.kernel_release = "5.15.0-101-generic".to_owned(),
        what: "kernel",
        severity: Severity::Fatal,
        value: "Linux 5.15.0-101-generic",
        remedy: Some("install Linux 6.1 or newer"),
    },
    Case {
        change: |_, host| host.kernel_release = "6.1.0".to_owned(),
        what: "kernel",
        severity: Severity::Ok,
        value: "6.1.0",
        remedy: None,
    },
    Case {
        change: |_, host| host.io_uring_disabled = Some(2),
        what: "io_uring",
        severity: Severity::Fatal,
        value: "forbidden",
        remedy: Some("sysctl -w kernel.io_uring_disabled=0"),
    },
    Case {
        change: |_, host| host.io_uring_disabled = Some(1),
        what: "io_uring",
        severity: Severity::Warning,
        value: "io_uring_disabled = 1",
        remedy: Some("kernel.io_uring_group"),
    },
    Case {
        change: |_, host| host.io_uring_disabled = None,
        what: "io_uring",
        severity: Severity::Ok,
        value: "permitted",
        remedy: None,
    },
    Case {
        change: |_, host| host.descriptors_soft = 20_000,
        what: "connections",
        severity: Severity::Warning,
        value: "up to 39,872; 19,936 a shard",
        remedy: Some("LimitNOFILE=1000064"),
    },
    // Half a million a shard is not small, and nobody asked for more.
    Case {
        change: |_, host| host.descriptors_soft = 524_288,
        what: "connections",
        severity: Severity::Ok,
        value: "up to 1,048,448",
        remedy: None,
    },
    Case {
        change: |config, host| {
            host.descriptors_soft = 524_288;
            config.limits.connections_max = 2_000_000;
        },
        what: "connections",
        severity: Severity::Warning,
        value: "up to 1,048,448",
        remedy: Some("or --shards 4"),
    },
    Case {
        change: |config, host| {
            host.descriptors_soft = 20_000;
            config.limits.connections_max = 1_000_000;
        },
        what: "connections",
        severity: Severity::Warning,
        value: "up to 39,872",
        remedy: Some("or --shards 51"),
    },
    Case {
        change: |config, host| {
            host.descriptors_soft = 20_000;
            config.limits.connections_max = 1_000_000;
            config.shards = 51;
        },
        what: "connections",
        severity: Severity::Warning,
        value: "up to 1,000,000; 19,936 a shard",
        remedy: Some("LimitNOFILE=1000064"),
    },
    Case {
        change: |config, host| {
            host.descriptors_soft = 20_000;
            config.limits.connections_max = 10_000;
        },
        what: "connections",
        severity: Severity::Ok,
        value: "up to 10,000; 10,000 a shard",
        remedy: None,
    },
    Case {
        change: |_, host| host.descriptors_soft = 79,
        what: "connections",
        severity: Severity::Fatal,
        value: "15 a shard",
        remedy: Some("ulimit -n 1000064"),
    },
    Case {
        change: |_, host| {
            host.descriptors_soft = 1000;
            host.descriptors_most = Some(4096);
        },
        what: "connections",
        severity: Severity::Warning,
        value: "936 a shard",
        remedy: Some("sysctl -w fs.nr_open=1000064; then ulimit"),
    },
    Case {
        change: |config, host| {
            config.table_size = Some(30_000);
            host.descriptors_soft = 20_000;
        },
        what: "connections",
        severity: Severity::Fatal,
        value: "table_size = 30000 exceeds the 20,000",
        remedy: Some("or leave table_size at 0"),
    },
    Case {
        change: |config, _| config.table_size = Some(1000),
        what: "connections",
        severity: Severity::Ok,
        value: "up to 1,872; 936 a shard",
        remedy: None,
    },
    Case {
        change: |config, _| {
            config.table_size = Some(1000);
            config.limits.connections_max = 5000;
        },
        what: "connections",
        severity: Severity::Warning,
        value: "up to 1,872",
        remedy: Some("leave table_size at 0; or --shards 6"),
    },
    Case {
        change: |config, host| {
            config.shards = 64;
            host.descriptors_soft = 1024;
        },
        what: "descriptors",
        severity: Severity::Warning,
        value: "64 shards need about 2,176",
        remedy: Some("LimitNOFILE=2176"),
    },
    Case {
        change: |_, host| host.files_max = Some(100_000),
        what: "open files",
        severity: Severity::Warning,
        value: "fs.file-max = 100,000",
        remedy: Some("sysctl -w fs.file-max=4000384"),
    },
    Case {
        change: |config, host| {
            config.limits.connections_max = 3_000_000;
            host.memory_bytes = Some(8 << 30);
        },
        what: "memory",
        severity: Severity::Warning,
        value: "8 GiB, room for about 1,908,000",
        remedy: Some("a machine with 12.5 GiB"),
    },
    Case {
        change: |_, host| host.memory_bytes = Some(1 << 30),
        what: "memory",
        severity: Severity::Ok,
        value: "1 GiB",
        remedy: None,
    },
    Case {
        change: |_, host| host.memory_bytes = None,
        what: "memory",
        severity: Severity::Ok,
        value: "unknown",
        remedy: None,
    },
    Case {
        change: |_, host| host.lockable_bytes = 64 * 1024,
        what: "locked memory",
        severity: Severity::Fatal,
        value: "64 KiB; a shard needs 844 KiB",
        remedy: Some("LimitMEMLOCK=infinity"),
    },
    Case {
        change: |config, host| {
            config.shards = 16;
            host.lockable_bytes = 8 << 20;
        },
        what: "locked memory",
        severity: Severity::Warning,
        value: "8 MiB; 16 shards may need 13.1 MiB",
        remedy: Some("ulimit -l 13504"),
    },
    Case {
        change: |config, host| {
            config.shards = 16;
            host.may_lock_without_bound = true;
        },
        what: "locked memory",
        severity: Severity::Ok,
        value: "8 MiB, which does not bound this process",
        remedy: None,
    },
    // The executor compares its need with the limit whatever the privileges are.
    Case {
        change: |_, host| {
            host.lockable_bytes = 64 * 1024;
            host.may_lock_without_bound = true;
        },
        what: "locked memory",
        severity: Severity::Fatal,
        value: "64 KiB",
        remedy: Some("ulimit -l"),
    },
    Case {
        change: |_, host| host.lockable_bytes = u64::MAX,
        what: "locked memory",
        severity: Severity::Ok,
        value: "unlimited",
        remedy: None,
    },
    Case {
        change: |_, host| host.backlog_most = Some(128),
        what: "backlog",
        severity: Severity::Warning,
        value: "net.core.somaxconn = 128",
        remedy: Some("sysctl -w net.core.somaxconn=4096"),
    },
];

#[test]
fn findings() {
    for (number, case) in CASES.iter().enumerate() {
        let (mut config, mut host) = (config(), host());
        (case.change)(&mut config, &mut host);
        let preflight = Preflight::examine(&config, &host, &[]);
        let finding = preflight
            .findings
            .iter()
            .find(|finding| finding.what == case.what)
            .unwrap_or_else(|| panic!("case {number}: nothing about {}", case.what));
        assert_eq!(
            finding.severity, case.severity,
            "case {number}: {finding:?}"
        );
        assert!(
            finding.value.contains(case.value),
            "case {number}: {finding:?}"
        );
        match (case.remedy, &finding.remedy) {
            (None, None) => {}
            (Some(part), Some(remedy)) => {
                assert!(remedy.contains(part), "case {number}: {finding:?}");
            }
            _ => panic!("case {number}: {finding:?}"),
        }
    }
}

#[test]
fn table_sizes() {
    // Asked for, soft limit of descriptors, shard_connections_max, connections_max, size.
    let cases = [
        (None, 20_000, 1_000_000, 4_000_000, 20_000),
        (None, 1 << 20, 1_000_000, 4_000_000, 1_000_064),
        (None, u64::MAX, 1_048_000, 4_000_000, 1_048_064),
        (None, u64::MAX, 1_048_576, 4_000_000, 1 << 20),
        (None, 20_000, 100, 4_000_000, 164),
        (None, 20_000, 1_000_000, 1000, 1064),
        (Some(500), 20_000, 1_000_000, 4_000_000, 500),
        (Some(u32::MAX), u64::MAX, 1_000_000, 4_000_000, 1 << 20),
    ];
    for (asked, descriptors, shard_connections, connections, size) in cases {
        let (mut config, mut host) = (config(), host());
        config.table_size = asked;
        config.limits.shard_connections_max = shard_connections;
        config.limits.connections_max = connections;
        host.descriptors_soft = descriptors;
        assert_eq!(Preflight::examine(&config, &host, &[]).table_size, size);
    }
}

#[test]
fn each_missing_capability_has_its_line() {
    let capabilities = [
        capability("multishot accept", false),
        capability("multishot receive", true),
        capability("ring messages", false),
    ];
    let preflight = Preflight::examine(&config(), &host(), &capabilities);
    assert_eq!(preflight.severity(), Severity::Warning);
    let banner = preflight.banner(&config());
    for part in [
        "no multishot accept: slower without",
        "no ring messages: slower without",
        "-> install Linux 6.1 or newer",
    ] {
        assert!(banner.contains(part), "{banner}");
    }
    assert!(!banner.contains("multishot receive"), "{banner}");
}

#[test]
fn without_what_a_shard_needs_nothing_starts() {
    let needed = Capability {
        required: true,
        ..capability("buffer ring", false)
    };
    let preflight = Preflight::examine(&config(), &host(), &[needed]);
    assert_eq!(preflight.severity(), Severity::Fatal);
    assert!(preflight.banner(&config()).contains("no buffer ring"));
}

#[test]
fn releases_of_the_kernel() {
    let cases = [
        ("6.18.44", Some((6, 18))),
        ("6.1", Some((6, 1))),
        ("5.10.0-28-amd64", Some((5, 10))),
        ("7.0-rc1", Some((7, 0))),
        ("unknown", None),
        ("", None),
        ("6", None),
    ];
    for (release, version) in cases {
        assert_eq!(kernel_version(release), version, "{release:?}");
    }
}

#[test]
fn sizes_for_people() {
    let cases = [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (8 << 20, "8 MiB"),
        (25_276_502_016, "23.5 GiB"),
        (u64::MAX, "unlimited"),
    ];
    for (number, text) in cases {
        assert_eq!(bytes(number), text);
    }
}
