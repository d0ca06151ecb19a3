//! Lists of cores: which the server under test may use, and which the generator.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Largest core number that a list may name: what Linux can be built for.
const CORE_MAX: usize = 8191;

/// Cores, at least one, without repeats. Written as the kernel does: `0-3,8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreList(BTreeSet<usize>);

/// What is wrong with a choice of cores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoresError {
    /// The text is no list of cores.
    #[error("\"{text}\" is no list of cores such as 0 or 2-3,8")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// Server and generator cannot be kept apart.
    #[error(
        "this process may use one core only ({allowed}), and the server and the generator need one each: on a shared core they would measure each other"
    )]
    One {
        /// The permitted core.
        allowed: CoreList,
    },
    /// Cores are named that this process may not use.
    #[error("this process may not use core {denied}; it may use {allowed}")]
    Denied {
        /// The cores that may not be used.
        denied: CoreList,
        /// The permitted ones.
        allowed: CoreList,
    },
    /// The server's and the generator's cores overlap.
    #[error("core {shared} is given to both the server and the generator: they must be apart")]
    Shared {
        /// The cores in both lists.
        shared: CoreList,
    },
    /// Nothing is left for one of the two.
    #[error("the server has all cores ({server}): leave one for the generator")]
    NothingLeft {
        /// The server's cores.
        server: CoreList,
    },
    /// The kernel did not say which cores there are.
    #[error("the kernel does not say which cores this process may use")]
    Unknown,
}

impl CoreList {
    /// A list of these cores; `None` where there is none.
    #[must_use]
    pub fn new(cores: impl IntoIterator<Item = usize>) -> Option<Self> {
        let cores: BTreeSet<usize> = cores.into_iter().collect();
        (!cores.is_empty()).then_some(Self(cores))
    }

    /// The cores, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    /// How many there are: at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn shared_with(&self, other: &Self) -> Option<Self> {
        Self::new(self.0.intersection(&other.0).copied())
    }

    fn without(&self, other: &Self) -> Option<Self> {
        Self::new(self.0.difference(&other.0).copied())
    }
}

impl FromStr for CoreList {
    type Err = CoresError;

    fn from_str(text: &str) -> Result<Self, CoresError> {
        let malformed = || CoresError::Malformed {
            text: text.to_owned(),
        };
        let number = |word: &str| {
            let core: usize = word.parse().map_err(|_| malformed())?;
            (core <= CORE_MAX).then_some(core).ok_or_else(malformed)
        };
        let mut cores = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first.trim())?, number(last.trim())?);
            if first > last {
                return Err(malformed());
            }
            cores.extend(first..=last);
        }
        Self::new(cores).ok_or_else(malformed)
    }
}

impl fmt::Display for CoreList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores: Vec<usize> = self.iter().collect();
        for (index, run) in cores.chunk_by(|core, next| core + 1 == *next).enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(formatter, "{separator}{}", run[0])?;
            if run.len() > 1 {
                write!(formatter, "-{}", run[run.len() - 1])?;
            }
        }
        Ok(())
    }
}

/// The cores that this process may use.
pub(crate) fn allowed() -> Result<CoreList, CoresError> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    CoreList::new(cores.iter().map(|core| core.id)).ok_or(CoresError::Unknown)
}

/// The server's and the generator's cores, disjoint. Without a choice the server has the first and the generator the rest.
pub(crate) fn share_out(
    allowed: &CoreList,
    server: Option<CoreList>,
    generator: Option<CoreList>,
) -> Result<(CoreList, CoreList), CoresError> {
    if allowed.count() < 2 {
        return Err(CoresError::One {
            allowed: allowed.clone(),
        });
    }
    for chosen in [&server, &generator].into_iter().flatten() {
        if let Some(denied) = chosen.without(allowed) {
            return Err(CoresError::Denied {
                denied,
                allowed: allowed.clone(),
            });
        }
    }
    let first_free = |taken: Option<&CoreList>| {
        let free = taken.map_or_else(|| Some(allowed.clone()), |taken| allowed.without(taken));
        free.and_then(|free| CoreList::new(free.iter().take(1)))
    };
    let server = server
        .or_else(|| first_free(generator.as_ref()))
        .or_else(|| first_free(None))
        .ok_or(CoresError::Unknown)?;
    let generator = match generator {
        Some(generator) => generator,
        None => allowed
            .without(&server)
            .ok_or_else(|| CoresError::NothingLeft {
                server: server.clone(),
            })?,
    };
    match server.shared_with(&generator) {
        Some(shared) => Err(CoresError::Shared { shared }),
        None => Ok((server, generator)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn list(text: &str) -> CoreList {
        text.parse().unwrap()
    }

    #[test]
    fn a_list_reads_and_prints_as_the_kernel_writes_it() {
        assert_eq!(list("8,0-2,1").to_string(), "0-2,8");
        assert_eq!(list("3").to_string(), "3");
        for text in ["", "a", "3-1", "1,,2", "9000", "-1"] {
            assert!(text.parse::<CoreList>().is_err(), "{text:?} is no list");
        }
    }

    #[test]
    fn the_server_has_the_first_core_and_the_generator_the_rest() {
        let (server, generator) = share_out(&list("2-5"), None, None).unwrap();
        assert_eq!((server, generator), (list("2"), list("3-5")));
        let (server, generator) = share_out(&list("2-5"), None, Some(list("2-3"))).unwrap();
        assert_eq!((server, generator), (list("4"), list("2-3")));
    }

    #[test]
    fn server_and_generator_never_share_a_core() {
        let all = list("0-1");
        let error = |server: &str, generator: &str| {
            share_out(&all, Some(list(server)), Some(list(generator))).unwrap_err()
        };
        assert_eq!(error("0-1", "1"), CoresError::Shared { shared: list("1") });
        assert!(matches!(error("0", "7"), CoresError::Denied { .. }));
        assert!(matches!(
            share_out(&all, Some(list("0-1")), None),
            Err(CoresError::NothingLeft { .. })
        ));
        assert!(matches!(
            share_out(&all, None, Some(list("0-1"))),
            Err(CoresError::Shared { .. })
        ));
        assert!(matches!(
            share_out(&list("0"), None, None),
            Err(CoresError::One { .. })
        ));
    }
}
