//! What all workloads are told: the server, the connections, the machine's part, the reports.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::cores::{self, CoreList};
use crate::protocol::Protocol;
use crate::result::Fact;
use crate::sources::Sources;
use crate::tls::TlsOptions;

/// A server's address as the user wrote it, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What goes into the `Host` of a handshake.
    pub host: String,
    /// Where to connect.
    pub address: SocketAddr,
    /// Whether connections are over TLS: the URL began with `wss://`.
    pub tls: bool,
    /// Path and query of the handshake, where the URL has them.
    pub path: Option<String>,
}

impl Target {
    /// The host without its port, as a certificate names it.
    #[must_use]
    pub fn name(&self) -> &str {
        let name = self.host.rsplit_once(':').map_or("", |(name, _)| name);
        name.strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(name)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss://" } else { "" };
        write!(f, "{scheme}{}", self.host)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tls, default_port, rest) =
            match (text.strip_prefix("ws://"), text.strip_prefix("wss://")) {
                (Some(rest), _) => (false, Some(80), rest),
                (_, Some(rest)) => (true, Some(443), rest),
                (None, None) => (false, None, text),
            };
        let path_start = match default_port {
            Some(_) => rest.find(['/', '?']).unwrap_or(rest.len()),
            None => rest.len(),
        };
        let (host, path) = rest.split_at(path_start);
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = match default_port {
            Some(port) if !has_port => format!("{host}:{port}"),
            _ => host.to_owned(),
        };
        let mut addresses = host.to_socket_addrs().map_err(|error| {
            format!("{error}; write ADDRESS:PORT, such as 127.0.0.1:8080, or a URL, such as wss://127.0.0.1:8443/ws")
        })?;
        let address = addresses
            .next()
            .ok_or_else(|| format!("{host} has no address"))?;
        let path = match path.as_bytes().first() {
            None => None,
            Some(b'/') => Some(path.to_owned()),
            Some(_) => Some(format!("/{path}")),
        };
        Ok(Self {
            host,
            address,
            tls,
            path,
        })
    }
}

/// Options of every workload.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The server under test: its address, or a URL such as wss://127.0.0.1:8443/ws, which is over TLS.
    #[arg(
        long,
        visible_alias = "url",
        value_name = "ADDRESS:PORT|URL",
        default_value = "127.0.0.1:9000",
        help_heading = "Server"
    )]
    pub target: Target,
    /// What the server speaks.
    #[arg(long, value_enum, default_value_t = Protocol::Shardcast, help_heading = "Server")]
    pub protocol: Protocol,
    /// The path of the handshake [default: that of the URL, else /ws, /rooms or /echo, by the protocol].
    #[arg(long, help_heading = "Server")]
    pub path: Option<String>,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsOptions,
    /// What reports call the server.
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    pub label: Option<String>,
    /// The server's process: adds its CPU time and memory, those of its children included.
    #[arg(long, value_name = "PID", help_heading = "Server")]
    pub pid: Option<u32>,

    /// Length of the measured part.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Run")]
    pub duration: Duration,
    /// Length of the traffic before the measured part.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, help_heading = "Run")]
    pub warmup: Duration,
    /// How long no connection may be added to those that are open before the run is given up [default: 60, and 15 while
    /// none is open].
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Run")]
    pub patience: Option<Duration>,
    /// How long deliveries on their way are waited for after the measured part; those that have not come by then are missing.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Run")]
    pub drain: Duration,
    /// Connects begun a second; 0 is as fast as they succeed.
    #[arg(
        long,
        value_name = "PER_SECOND",
        default_value_t = 0,
        help_heading = "Run"
    )]
    pub ramp: u64,

    /// The cores that the harness uses [default: all that it may].
    #[arg(long, value_name = "LIST", help_heading = "Machine")]
    pub cores: Option<CoreList>,
    /// Threads of the harness, each with a ring [default: one a core, more where the connections need more tables].
    #[arg(long, help_heading = "Machine")]
    pub threads: Option<u32>,
    /// Source addresses, such as 10.0.0.5,10.0.0.10-10.0.0.40 [default: 127.1.0.1 and upwards for a server on
    /// loopback, else the kernel's choice].
    #[arg(long, value_name = "LIST", help_heading = "Machine")]
    pub sources: Option<Sources>,

    /// Writes the result as JSON; `-` is standard output.
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub json: Option<PathBuf>,
    /// Writes the result as one page with plots.
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub html: Option<PathBuf>,
    /// Writes an HdrHistogram log with an interval a second.
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub hdr_log: Option<PathBuf>,
    /// No progress line.
    #[arg(long, help_heading = "Reports")]
    pub quiet: bool,
}

/// Reads a number of seconds, with a fraction.
///
/// # Errors
/// Not a number, negative, or above a day.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "write a number of seconds, such as 10 or 0.5".to_owned())?;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err("write between 0 and 86400 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Reads a rate: above 0 and below ten million a second.
///
/// # Errors
/// Not such a number.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text
        .parse()
        .map_err(|_| "write a number a second, such as 10 or 0.5".to_owned())?;
    if rate > 0.0 && rate <= 10_000_000.0 {
        Ok(rate)
    } else {
        Err("write a rate above 0 and at most 10000000 a second".to_owned())
    }
}

impl Common {
    /// The path of the handshake.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path
            .as_deref()
            .or(self.target.path.as_deref())
            .unwrap_or(self.protocol.path())
    }

    /// What reports call the server.
    #[must_use]
    pub fn server(&self) -> String {
        let unnamed = || format!("{} at {}", self.protocol.name(), self.target);
        self.label.clone().unwrap_or_else(unnamed)
    }

    /// Where connections come from.
    #[must_use]
    pub fn sources(&self) -> Sources {
        self.sources
            .clone()
            .unwrap_or_else(|| Sources::suiting(self.target.address.ip()))
    }

    /// The cores to use.
    #[must_use]
    pub fn cores(&self) -> Vec<usize> {
        match &self.cores {
            Some(cores) => cores.iter().collect(),
            None => cores::allowed().map_or_else(|_| Vec::new(), |cores| cores.iter().collect()),
        }
    }

    /// The options in force, for reports.
    #[must_use]
    pub fn facts(&self) -> Vec<Fact> {
        vec![
            Fact::new("target", self.target.to_string()),
            Fact::new("protocol", self.protocol.name()),
            Fact::new("path", self.path()),
            Fact::new("duration", format!("{} s", self.duration.as_secs_f64())),
            Fact::new("warm-up", format!("{} s", self.warmup.as_secs_f64())),
            Fact::new(
                "ramp",
                match self.ramp {
                    0 => "as fast as connects succeed".to_owned(),
                    ramp => format!("{ramp} a second"),
                },
            ),
            Fact::new(
                "cores of the harness",
                CoreList::new(self.cores())
                    .map_or_else(|| "any".to_owned(), |cores| cores.to_string()),
            ),
        ]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_read() {
        assert_eq!(seconds("0.5").unwrap(), Duration::from_millis(500));
        assert!(
            seconds("-1").is_err()
                && seconds("x").is_err()
                && seconds("1e9").is_err()
                && seconds("NaN").is_err()
        );
        assert!((rate("2.5").unwrap() - 2.5).abs() < 1e-9);
        assert!(rate("0").is_err() && rate("NaN").is_err() && rate("1e8").is_err());
    }

    #[test]
    fn a_target_keeps_its_name() {
        let target: Target = "localhost:81".parse().unwrap();
        assert_eq!(
            (target.host.as_str(), target.address.port()),
            ("localhost:81", 81)
        );
        assert!(
            "nowhere"
                .parse::<Target>()
                .unwrap_err()
                .contains("ADDRESS:PORT")
        );
    }

    #[test]
    fn a_url_says_whether_there_is_tls_and_which_path() {
        for (text, tls, host, name, path) in [
            ("127.0.0.1:81", false, "127.0.0.1:81", "127.0.0.1", None),
            ("ws://127.0.0.1", false, "127.0.0.1:80", "127.0.0.1", None),
            (
                "wss://localhost/",
                true,
                "localhost:443",
                "localhost",
                Some("/"),
            ),
            (
                "wss://[::1]:9443/ws?a=b/c",
                true,
                "[::1]:9443",
                "::1",
                Some("/ws?a=b/c"),
            ),
            ("wss://[::1]?a", true, "[::1]:443", "::1", Some("/?a")),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.tls, tls, "{text}");
            assert_eq!(
                (target.host.as_str(), target.name(), target.path.as_deref()),
                (host, name, path)
            );
        }
        assert!("http://localhost:80".parse::<Target>().is_err());
        assert!("wss://".parse::<Target>().is_err());
    }
}
