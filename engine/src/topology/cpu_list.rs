//! Lists of cores as the kernel and `taskset -c` write them.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// Largest core number that a list may name: what Linux can be built for.
const CORE_MAX: usize = 8191;

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
}
