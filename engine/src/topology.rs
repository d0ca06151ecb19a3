//! Which cores this process may use, and which shard runs on which.

use std::fmt::Write as _;
use std::fs;
use std::ops::RangeInclusive;

/// Largest core number that a list may name: what Linux can be built for.
const CORE_MAX: usize = 8191;

/// The cores that this process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    allowed: Vec<usize>,
    physical: Vec<usize>,
    parallelism: usize,
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
    /// The cores of this process: its affinity, its CPU quota and, where `/sys` tells them, the siblings of each core.
    #[must_use]
    pub fn detect() -> Self {
        let parallelism = std::thread::available_parallelism().map_or(1, usize::from);
        let allowed = core_affinity::get_core_ids()
            .filter(|cores| !cores.is_empty())
            .map_or_else(
                || (0..parallelism).collect(),
                |cores| cores.iter().map(|core| core.id).collect(),
            );
        Self::new(allowed, parallelism, |core| {
            fs::read_to_string(format!(
                "/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"
            ))
            .ok()
        })
    }

    /// A topology of the `allowed` cores, in ascending order.
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
        let mut physical: Vec<usize> = Vec::with_capacity(allowed.len());
        for &core in &allowed {
            let shared = siblings(core)
                .and_then(|list| parse_cpu_list(&list).ok())
                .is_some_and(|threads| threads.iter().any(|thread| physical.contains(thread)));
            if !shared {
                physical.push(core);
            }
        }
        Self {
            allowed,
            physical,
            parallelism: parallelism.max(1),
        }
    }

    /// Every core that this process may use, hardware threads counted singly.
    #[must_use]
    pub fn allowed(&self) -> &[usize] {
        &self.allowed
    }

    /// The first allowed hardware thread of each physical core.
    #[must_use]
    pub fn physical(&self) -> &[usize] {
        &self.physical
    }

    /// Shards when nobody says how many: one for each physical core, and no more than may run at once.
    #[must_use]
    pub fn shards_default(&self) -> usize {
        self.physical.len().min(self.parallelism).max(1)
    }

    /// Checks that all of `cores` may be used.
    ///
    /// # Errors
    /// There is none, or some are not allowed.
    pub fn check(&self, cores: &[usize]) -> Result<(), TopologyError> {
        let allowed = || format_cpu_list(&self.allowed);
        if cores.is_empty() {
            return Err(TopologyError::Empty { allowed: allowed() });
        }
        let denied: Vec<usize> = cores
            .iter()
            .copied()
            .filter(|core| !self.allowed.contains(core))
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

/// The core of the shard with this index: the cores in turn, again from the first when there are more shards than cores.
///
/// `None` where `cores` is empty.
#[must_use]
pub fn core_of_shard(cores: &[usize], shard: usize) -> Option<usize> {
    cores.get(shard.checked_rem(cores.len())?).copied()
}

/// Why a list of cores cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    /// A part is neither a core nor a range of cores.
    #[error("`{0}` is neither a core nor a range of cores")]
    Part(String),
    /// A range runs backwards.
    #[error("the range {0}-{1} runs backwards")]
    Backwards(usize, usize),
    /// A core number is larger than Linux can be built for.
    #[error("there is no core {0}")]
    TooLarge(usize),
    /// A core is named more than once.
    #[error("core {0} is named twice")]
    Twice(usize),
}

/// Reads a list of cores as the kernel and `taskset -c` write it, for example `0-3,8`. The order is kept.
///
/// # Errors
/// A part is not a core or a range, or a core is named twice.
pub fn parse_cpu_list(list: &str) -> Result<Vec<usize>, CpuListError> {
    let mut cores = Vec::new();
    for part in list.trim().split(',') {
        for core in parse_range(part.trim())? {
            if cores.contains(&core) {
                return Err(CpuListError::Twice(core));
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

/// Reads `3` or `0-3`.
fn parse_range(part: &str) -> Result<RangeInclusive<usize>, CpuListError> {
    let core = |text: &str| {
        text.trim()
            .parse::<usize>()
            .map_err(|_| CpuListError::Part(part.to_owned()))
    };
    let (first, last) = match part.split_once('-') {
        Some((first, last)) => (core(first)?, core(last)?),
        None => (core(part)?, core(part)?),
    };
    if last > CORE_MAX {
        return Err(CpuListError::TooLarge(last));
    }
    if first > last {
        return Err(CpuListError::Backwards(first, last));
    }
    Ok(first..=last)
}

/// Writes a list of cores the way [`parse_cpu_list`] reads it, with ranges for runs of neighbours.
#[must_use]
pub fn format_cpu_list(cores: &[usize]) -> String {
    let mut list = String::new();
    for run in cores.chunk_by(|core, next| core + 1 == *next) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        if !list.is_empty() {
            list.push(',');
        }
        // Writing into a String cannot fail.
        let _ = match last - first {
            0 => write!(list, "{first}"),
            _ => write!(list, "{first}-{last}"),
        };
    }
    list
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores() {
        let cases: &[(&str, Result<&[usize], CpuListError>)] = &[
            ("0", Ok(&[0])),
            ("0\n", Ok(&[0])),
            ("0-3,8", Ok(&[0, 1, 2, 3, 8])),
            (" 0 - 1 , 4 ", Ok(&[0, 1, 4])),
            ("8,0-1", Ok(&[8, 0, 1])),
            ("5-5", Ok(&[5])),
            ("8191", Ok(&[8191])),
            ("", Err(CpuListError::Part(String::new()))),
            ("0,", Err(CpuListError::Part(String::new()))),
            ("-1", Err(CpuListError::Part("-1".to_owned()))),
            ("0-", Err(CpuListError::Part("0-".to_owned()))),
            ("a", Err(CpuListError::Part("a".to_owned()))),
            ("1-2-3", Err(CpuListError::Part("1-2-3".to_owned()))),
            ("3-1", Err(CpuListError::Backwards(3, 1))),
            ("0-2,1", Err(CpuListError::Twice(1))),
            ("0-4000000000", Err(CpuListError::TooLarge(4_000_000_000))),
        ];
        for (list, expected) in cases {
            let expected = expected.clone().map(<[usize]>::to_vec);
            assert_eq!(parse_cpu_list(list), expected, "{list:?}");
        }
    }

    #[test]
    fn a_list_is_written_as_it_is_read() {
        let cases: &[(&[usize], &str)] = &[
            (&[], ""),
            (&[0], "0"),
            (&[0, 1], "0-1"),
            (&[0, 1, 2, 3, 8], "0-3,8"),
            (&[8, 0, 1], "8,0-1"),
            (&[2, 1, 0], "2,1,0"),
        ];
        for (cores, list) in cases {
            assert_eq!(format_cpu_list(cores), *list);
            if !cores.is_empty() {
                assert_eq!(parse_cpu_list(list).unwrap(), *cores);
            }
        }
    }

    #[test]
    fn one_core_for_each_physical_core() {
        // Cores allowed, siblings in `/sys` (None: unreadable), what is kept.
        type Siblings = fn(usize) -> Option<String>;
        let adjacent: Siblings = |core| Some(format!("{}-{}\n", core & !1, core | 1));
        let halves: Siblings = |core| Some(format!("{},{}\n", core % 4, core % 4 + 4));
        let cases: &[(&[usize], Siblings, &[usize])] = &[
            (&[0, 1, 2, 3], adjacent, &[0, 2]),
            (&[1, 3], adjacent, &[1, 3]),
            (&[1, 2, 3], adjacent, &[1, 2]),
            (&[0, 1, 2, 3, 4, 5, 6, 7], halves, &[0, 1, 2, 3]),
            (&[4, 5, 6], halves, &[4, 5, 6]),
            (&[0, 1], |_| None, &[0, 1]),
            (&[0, 1], |_| Some("nonsense".to_owned()), &[0, 1]),
        ];
        for (allowed, siblings, physical) in cases {
            let topology = Topology::new(allowed.to_vec(), 64, siblings);
            assert_eq!(topology.physical(), *physical, "{allowed:?}");
            assert_eq!(topology.shards_default(), physical.len());
        }
    }

    #[test]
    fn a_quota_bounds_the_default_number_of_shards() {
        for (parallelism, shards) in [(0, 1), (1, 1), (2, 2), (4, 4), (9, 4)] {
            let topology = Topology::new(vec![0, 1, 2, 3], parallelism, |_| None);
            assert_eq!(topology.shards_default(), shards);
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
        assert!(topology.check(topology.physical()).is_ok());
        assert!(topology.shards_default() >= 1);
    }
}
