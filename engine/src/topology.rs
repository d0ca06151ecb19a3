//! Which cores this process may use, how they lie to each other and to the network, and which shard runs on which.

mod cpu_list;
mod interface;

use std::fs;
use std::net::IpAddr;

pub use cpu_list::{CpuListError, format_cpu_list, parse_cpu_list};
pub use interface::{Interface, Interrupt};

/// One core that this process may use: what the kernel calls a CPU, a hardware thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Core {
    id: usize,
    /// No core before it shares its physical core.
    is_first: bool,
    node: Option<usize>,
}

/// The cores that this process may use, and the interfaces that messages come by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    cores: Vec<Core>,
    parallelism: usize,
    interfaces: Vec<Interface>,
}

/// Cores that were asked for and may not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// No core was named at all.
    #[error("no core is named; this process may use {allowed}")]
    Empty {
        /// The permitted cores as a list.
        allowed: String,
    },
    /// Some cores are outside of this process's affinity, or do not exist.
    #[error(
        "this process may not use core {denied}; it may use {allowed} (`taskset -pc $$` shows a shell's cores, a container's come from `--cpuset-cpus`)"
    )]
    Denied {
        /// The cores that may not be used, as a list.
        denied: String,
        /// The permitted cores as a list.
        allowed: String,
    },
}

impl Topology {
    /// The cores of this process: its affinity, its CPU quota and, where `/sys` tells them, siblings and NUMA nodes.
    #[must_use]
    pub fn detect() -> Self {
        let parallelism = std::thread::available_parallelism().map_or(1, usize::from);
        let allowed = core_affinity::get_core_ids()
            .filter(|cores| !cores.is_empty())
            .map_or_else(
                || (0..parallelism).collect(),
                |cores| cores.iter().map(|core| core.id).collect(),
            );
        let siblings = |core| {
            fs::read_to_string(format!(
                "/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"
            ))
            .ok()
        };
        Self::new(allowed, parallelism, siblings)
            .with_nodes(nodes())
            .with_interfaces(Interface::all())
    }

    /// A topology of the `allowed` cores, in ascending order, on one node.
    ///
    /// `parallelism` is how many threads can run at once: below the number of cores where a container has a CPU quota.
    /// `siblings` gives the list of hardware threads that share a physical core with the one named; a core without
    /// a readable list counts as a physical core of its own.
    #[must_use]
    pub fn new(
        allowed: Vec<usize>,
        parallelism: usize,
        siblings: impl Fn(usize) -> Option<String>,
    ) -> Self {
        let mut cores: Vec<Core> = Vec::with_capacity(allowed.len());
        for id in allowed {
            let threads = siblings(id).and_then(|list| parse_cpu_list(&list).ok());
            let is_sibling = |core: &Core| {
                threads
                    .as_ref()
                    .is_some_and(|threads| threads.contains(&core.id))
            };
            let is_first = !cores.iter().any(is_sibling);
            cores.push(Core {
                id,
                is_first,
                node: None,
            });
        }
        Self {
            cores,
            parallelism: parallelism.max(1),
            interfaces: Vec::new(),
        }
    }

    /// The same with the cores of each NUMA node.
    #[must_use]
    pub fn with_nodes(mut self, nodes: impl IntoIterator<Item = (usize, Vec<usize>)>) -> Self {
        for (node, of_node) in nodes {
            for core in self
                .cores
                .iter_mut()
                .filter(|core| of_node.contains(&core.id))
            {
                core.node = Some(node);
            }
        }
        self
    }

    /// The same with these interfaces.
    #[must_use]
    pub fn with_interfaces(mut self, interfaces: Vec<Interface>) -> Self {
        self.interfaces = interfaces;
        self
    }

    /// Every core that this process may use, hardware threads counted singly.
    #[must_use]
    pub fn allowed(&self) -> Vec<usize> {
        self.cores.iter().map(|core| core.id).collect()
    }

    /// The cores that shards take where nobody names any, the best first: of the interface's NUMA node before those of others, and the first hardware thread of
    /// each physical core; its siblings, which share its units of execution, only where `smt` is set, and last.
    #[must_use]
    pub fn shard_cores(&self, interface: Option<&Interface>, smt: bool) -> Vec<usize> {
        let node = interface.and_then(|interface| interface.node);
        let mut cores: Vec<Core> = self
            .cores
            .iter()
            .copied()
            .filter(|core| smt || core.is_first)
            .collect();
        // Stable: cores that are equally good stay in ascending order.
        cores.sort_by_key(|core| (!core.is_first, node.is_some() && core.node != node));
        cores.iter().map(|core| core.id).collect()
    }

    /// Where threads run that are no shards: on cores that no shard has, the first threads of physical cores before others. Empty where the shards have all.
    #[must_use]
    pub fn control_cores(&self, of_shards: &[usize]) -> Vec<usize> {
        let free = |core: &&Core| !of_shards.contains(&core.id);
        let whole: Vec<usize> = self
            .cores
            .iter()
            .filter(free)
            .filter(|core| core.is_first)
            .map(|core| core.id)
            .collect();
        match whole.is_empty() {
            true => self.cores.iter().filter(free).map(|core| core.id).collect(),
            false => whole,
        }
    }

    /// The interface by which messages to an address come: none for loopback; for an address that stands for all of them the one of the default route.
    #[must_use]
    pub fn interface(&self, address: IpAddr) -> Option<&Interface> {
        let address = address.to_canonical();
        if address.is_loopback() {
            return None;
        }
        self.interfaces.iter().find(|interface| {
            interface.addresses.contains(&address)
                || (address.is_unspecified() && interface.has_default_route)
        })
    }

    /// Shards when nobody says how many: one for each of these cores, and no more than may run at once.
    #[must_use]
    pub fn shards_default(&self, cores: &[usize]) -> usize {
        cores.len().min(self.parallelism).max(1)
    }

    /// Checks that all of `cores` may be used.
    ///
    /// # Errors
    /// There is none, or some are not allowed.
    pub fn check(&self, cores: &[usize]) -> Result<(), TopologyError> {
        let allowed = || format_cpu_list(&self.allowed());
        if cores.is_empty() {
            return Err(TopologyError::Empty { allowed: allowed() });
        }
        let denied: Vec<usize> = cores
            .iter()
            .copied()
            .filter(|id| !self.cores.iter().any(|core| core.id == *id))
            .collect();
        if denied.is_empty() {
            return Ok(());
        }
        Err(TopologyError::Denied {
            denied: format_cpu_list(&denied),
            allowed: allowed(),
        })
    }
}

/// Has the calling thread, and those that it starts, run on these cores only; none leaves it where it is.
pub(crate) fn move_to(cores: &[usize]) {
    if cores.is_empty() {
        return;
    }
    let mut set = rustix::thread::CpuSet::new();
    for core in cores
        .iter()
        .filter(|core| **core < rustix::thread::CpuSet::MAX_CPU)
    {
        set.set(*core);
    }
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::debug!(%error, ?cores, "a thread could not leave the cores of the shards");
    }
}

/// The NUMA nodes with their cores; none where the kernel knows none.
fn nodes() -> Vec<(usize, Vec<usize>)> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/node") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let node = entry
                .file_name()
                .to_str()?
                .strip_prefix("node")?
                .parse()
                .ok()?;
            let list = fs::read_to_string(entry.path().join("cpulist")).ok()?;
            Some((node, parse_cpu_list(&list).ok()?))
        })
        .collect()
}

/// The core of the shard with this index: the cores in turn, again from the first when there are more shards than cores.
///
/// `None` where `cores` is empty.
#[must_use]
pub fn core_of_shard(cores: &[usize], shard: usize) -> Option<usize> {
    cores.get(shard.checked_rem(cores.len())?).copied()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    type Siblings = fn(usize) -> Option<String>;
    const ADJACENT: Siblings = |core| Some(format!("{}-{}\n", core & !1, core | 1));

    /// Eight cores, pairs of them siblings, four to a node; a card on the second node.
    fn two_nodes() -> (Topology, Interface) {
        let card = Interface {
            name: "eth7".to_owned(),
            addresses: vec!["10.0.0.5".parse().unwrap()],
            has_default_route: true,
            node: Some(1),
            interrupts: [(24, 4), (25, 6)]
                .map(|(number, core)| Interrupt {
                    number,
                    cores: vec![core],
                })
                .into(),
        };
        let topology = Topology::new((0..8).collect(), 64, ADJACENT)
            .with_nodes([(0, vec![0, 1, 2, 3]), (1, vec![4, 5, 6, 7])])
            .with_interfaces(vec![card.clone()]);
        (topology, card)
    }

    #[test]
    fn one_core_for_each_physical_core() {
        // Cores allowed, siblings in `/sys` (None: unreadable), what is kept.
        let halves: Siblings = |core| Some(format!("{},{}\n", core % 4, core % 4 + 4));
        let cases: &[(&[usize], Siblings, &[usize])] = &[
            (&[0, 1, 2, 3], ADJACENT, &[0, 2]),
            (&[1, 3], ADJACENT, &[1, 3]),
            (&[1, 2, 3], ADJACENT, &[1, 2]),
            (&[0, 1, 2, 3, 4, 5, 6, 7], halves, &[0, 1, 2, 3]),
            (&[4, 5, 6], halves, &[4, 5, 6]),
            (&[0, 1], |_| None, &[0, 1]),
            (&[0, 1], |_| Some("nonsense".to_owned()), &[0, 1]),
        ];
        for (allowed, siblings, physical) in cases {
            let topology = Topology::new(allowed.to_vec(), 64, siblings);
            let cores = topology.shard_cores(None, false);
            assert_eq!(cores, *physical, "{allowed:?}");
            assert_eq!(topology.shards_default(&cores), physical.len());
        }
    }

    #[test]
    fn siblings_come_last_and_the_cards_node_first() {
        let (topology, card) = two_nodes();
        assert_eq!(topology.shard_cores(None, false), [0, 2, 4, 6]);
        assert_eq!(topology.shard_cores(Some(&card), false), [4, 6, 0, 2]);
        assert_eq!(
            topology.shard_cores(Some(&card), true),
            [4, 6, 0, 2, 5, 7, 1, 3]
        );
        let anywhere = Interface { node: None, ..card };
        assert_eq!(topology.shard_cores(Some(&anywhere), false), [0, 2, 4, 6]);
    }

    #[test]
    fn what_is_no_shard_stays_off_their_cores() {
        let (topology, _) = two_nodes();
        assert_eq!(topology.control_cores(&[4, 6]), [0, 2]);
        assert_eq!(topology.control_cores(&[0, 2, 4, 6]), [1, 3, 5, 7]);
        let all: Vec<usize> = (0..8).collect();
        assert!(topology.control_cores(&all).is_empty());
    }

    #[test]
    fn the_interface_of_an_address() {
        let (topology, card) = two_nodes();
        let found = |address: &str| topology.interface(address.parse().unwrap());
        assert_eq!(found("10.0.0.5"), Some(&card));
        assert_eq!(found("::ffff:10.0.0.5"), Some(&card));
        assert_eq!(found("0.0.0.0"), Some(&card), "by the default route");
        assert_eq!(found("::"), Some(&card));
        assert_eq!(found("10.0.0.6"), None);
        assert_eq!(found("127.0.0.1"), None);
    }

    #[test]
    fn a_quota_bounds_the_default_number_of_shards() {
        for (parallelism, shards) in [(0, 1), (1, 1), (2, 2), (4, 4), (9, 4)] {
            let topology = Topology::new(vec![0, 1, 2, 3], parallelism, |_| None);
            assert_eq!(topology.shards_default(&[0, 1, 2, 3]), shards);
        }
    }

    #[test]
    fn only_allowed_cores_may_be_asked_for() {
        let topology = Topology::new(vec![0, 1, 4], 3, |_| None);
        assert_eq!(topology.check(&[4, 0]), Ok(()));
        assert!(matches!(
            topology.check(&[]),
            Err(TopologyError::Empty { .. })
        ));
        let message = topology.check(&[0, 2, 3, 7]).unwrap_err().to_string();
        assert!(message.contains("core 2-3,7;"), "{message}");
        assert!(message.contains("it may use 0-1,4"), "{message}");
    }

    #[test]
    fn shards_take_the_cores_in_turn() {
        let placed: Vec<_> = (0..5)
            .filter_map(|shard| core_of_shard(&[3, 5], shard))
            .collect();
        assert_eq!(placed, [3, 5, 3, 5, 3]);
        assert_eq!(core_of_shard(&[], 0), None);
    }

    #[test]
    fn this_process_may_use_a_core() {
        let topology = Topology::detect();
        let cores = topology.shard_cores(None, false);
        assert!(topology.check(&cores).is_ok());
        assert!(topology.shards_default(&cores) >= 1);
    }
}
