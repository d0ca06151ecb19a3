//! The settings of the admin API.

use std::time::Duration;

use super::{NotPermitted, Number, Path, Setting, Text, milliseconds};

/// What stands for no admin API.
const OFF: &str = "off";

/// Where the admin API listens, who may use it, and its bounds.
pub(super) fn admin_settings() -> Vec<Setting> {
    vec![
        Text {
            name: "admin",
            help: "Address and port of the admin API: publishing, rooms, connections, health, metrics. `off`: there is none. An address that other hosts reach needs `admin_token`.",
            placeholder: "ADDR:PORT",
            default: "127.0.0.1:9001",
            permitted: "an IP address and a port, such as 127.0.0.1:9001, or `off`",
            read: |config| {
                config
                    .admin
                    .listen
                    .map_or_else(|| OFF.to_owned(), |listen| listen.to_string())
            },
            write: |config, text| {
                config.admin.listen = match text {
                    OFF => None,
                    address => Some(address.parse().map_err(|_| NotPermitted)?),
                };
                Ok(())
            },
        }
        .into(),
        Path {
            name: "admin_token",
            help: "File with the bearer token (RFC 6750) that requests to the admin API must bring, 16 bytes or more. Read again on SIGHUP. `/healthz` and `/readyz` need none.",
            read: |config| config.admin.token_file.as_ref(),
            write: |config, path| config.admin.token_file = path,
        }
        .into(),
        Number {
            name: "admin_connections_max",
            help: "Connections to the admin API at one time; others wait to be accepted.",
            default: "64",
            range: 1..=10_000,
            read: |config| config.admin.connections_max as u64,
            write: |config, count| config.admin.connections_max = count as usize,
        }
        .into(),
        Number {
            name: "admin_request_size_max",
            help: "Bytes of the body of a request to the admin API; above it: 413.",
            default: "1_048_576",
            range: 1024..=1 << 30,
            read: |config| config.admin.request_size_max as u64,
            write: |config, size| config.admin.request_size_max = size as usize,
        }
        .into(),
        Number {
            name: "admin_messages_max",
            help: "Messages in one bulk request to the admin API; above it: 413.",
            default: "1_000",
            range: 1..=100_000,
            read: |config| config.admin.messages_max as u64,
            write: |config, count| config.admin.messages_max = count as usize,
        }
        .into(),
        Number {
            name: "admin_wait_ms_max",
            help: "Milliseconds in which the shards must have answered a request to the admin API; after it: 503.",
            default: "5_000",
            range: 10..=600_000,
            read: |config| milliseconds(config.admin.wait_max),
            write: |config, ms| config.admin.wait_max = Duration::from_millis(ms),
        }
        .into(),
    ]
}
