//! `shardcast doctor`: what an operator of a dense host must set, what is set, and how many connections that holds.
//!
//! [`Diagnosis::examine`] is a pure function of a [`Config`], the numbers of a [`Host`] and those of a [`System`]; [`System::read`] and
//! [`Host::read`] gather them. The preflight's findings are among its own, so a start has nothing to say that the doctor has not said.

mod capacity;
mod checks;
mod report;
mod settings;
mod system;

use std::io;
use std::net::SocketAddr;

pub use capacity::{Cap, Capacity};
pub use report::Format;
pub use system::{
    Bound, Cgroup, Clock, Core, GracePeriods, IdleState, Inherited, Memory, Quota, Refusal,
    Sockets, System,
};

use crate::config::Config;
use crate::preflight::{
    Finding, Host, Severity, commas, connections_asked_for, raise_descriptor_limit,
};

/// Numbers from here on stand for "no bound" where the kernel writes them.
const UNLIMITED: u64 = 1 << 62;

/// The group of the bounds on connections.
const CAPACITY: &str = "capacity";

/// What was found about one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The subject, in a word.
    pub title: &'static str,
    /// In the order of printing.
    pub findings: Vec<Finding>,
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The address that was examined.
    pub listen: SocketAddr,
    /// The connections that everything was compared with.
    pub connections: u64,
    /// How many the configuration could hold on this machine.
    pub capacity: Capacity,
    /// In the order of printing.
    pub groups: Vec<Group>,
}

/// What a check looks at.
struct Exam<'a> {
    config: &'a Config,
    host: &'a Host,
    system: &'a System,
    connections: u64,
}

/// Looks at this machine and this process.
///
/// `asked` is a number of connections; without one it is the number that the configuration names, and where it names none the number that it
/// could hold.
///
/// # Errors
/// The system does not tell this process's own limits.
pub fn diagnose(config: &Config, asked: Option<u64>) -> io::Result<Diagnosis> {
    // First: a start raises the soft limit of descriptors, and `System` knows what it was before.
    let system = System::read(config);
    // Where that is refused, the two limits differ, and there is a finding about it.
    raise_descriptor_limit().ok();
    let host = Host::read()?;
    Ok(Diagnosis::examine(config, &host, &system, asked))
}

impl Diagnosis {
    /// Compares a configuration and a number of connections with what the machine permits.
    #[must_use]
    pub fn examine(config: &Config, host: &Host, system: &System, asked: Option<u64>) -> Self {
        let exam = |connections| Exam {
            config,
            host,
            system,
            connections,
        };
        let limits = &config.limits;
        let connections = asked.unwrap_or_else(|| match connections_asked_for(limits) {
            true => (config.shards as u64)
                .saturating_mul(limits.shard_connections_max)
                .min(limits.connections_max),
            false => Capacity::of(&exam(0)).connections(),
        });
        let exam = exam(connections);
        let capacity = Capacity::of(&exam);
        let group = |title, findings| Group { title, findings };
        let groups = vec![
            group("engine", checks::engine(&exam)),
            group("process", checks::process(&exam)),
            group("settings", settings::examine(&exam)),
            group("network", checks::network(&exam)),
            group("cores", checks::cores(&exam)),
            group("memory", checks::memory(&exam)),
            group(CAPACITY, capacity.findings(connections)),
        ];
        Self {
            listen: config.listen,
            connections,
            capacity,
            groups,
        }
    }

    /// All findings, in the order of printing.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.groups.iter().flat_map(|group| &group.findings)
    }

    /// The worst of the findings: [`Severity::Fatal`] where the engine could not run or not hold the connections.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.findings()
            .map(|finding| finding.severity)
            .max()
            .unwrap_or(Severity::Ok)
    }
}

/// A number as a setting of the kernel holds it.
fn number(value: u64) -> String {
    match value {
        UNLIMITED.. => "unlimited".to_owned(),
        _ => commas(value),
    }
}

#[cfg(test)]
#[path = "doctor/tests.rs"]
mod tests;
