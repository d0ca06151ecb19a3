//! The limits of this process's control groups (cgroups(7)), of either version, and of all groups above them that are visible.

use std::fs;
use std::path::{Path, PathBuf};

/// Version 1 writes "no limit" as the largest multiple of a page, so anything above this is none.
const UNLIMITED: u64 = 1 << 62;

/// The tightest of the limits that apply. `None`: there is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// Bytes of memory, the kernel's on behalf of the group included, beyond which the group is killed from.
    pub memory_max: Option<Bound>,
    /// Bytes of memory beyond which the group is slowed down.
    pub memory_high: Option<Bound>,
    /// Threads.
    pub threads_max: Option<Bound>,
    /// Time of the processors.
    pub quota: Option<Quota>,
}

/// A limit and where it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// In the unit of what is limited.
    pub value: u64,
    /// The file that sets it.
    pub file: PathBuf,
}

/// The share of the processors' time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Microseconds of processor time in each period.
    pub quota_us: u64,
    /// The length of a period in microseconds.
    pub period_us: u64,
    /// The file that sets the quota.
    pub file: PathBuf,
}

impl Cgroup {
    /// The limits of this process.
    pub(super) fn read() -> Self {
        let text = |path: &Path| fs::read_to_string(path).ok();
        let own = |name: &str| text(&Path::new("/proc/self").join(name)).unwrap_or_default();
        Self::from_files(&own("mountinfo"), &own("cgroup"), &text)
    }

    /// The same from the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`, and what reads a group's files.
    fn from_files(mounts: &str, groups: &str, read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let number = |path: &Path| -> Option<u64> { read(path)?.trim().parse().ok() };
        let tightest = |controller: &str, names: [&str; 2]| {
            levels(mounts, groups, controller)
                .into_iter()
                .flat_map(|level| names.map(|name| level.join(name)))
                .filter_map(|file| {
                    let value = number(&file).filter(|value| *value < UNLIMITED)?;
                    Some(Bound { value, file })
                })
                .min_by_key(|bound| bound.value)
        };
        let quota = |level: PathBuf| {
            let file = level.join("cpu.max");
            if let Some(text) = read(&file) {
                let (quota_us, period_us) = text.trim().split_once(' ')?;
                return Some(Quota {
                    quota_us: quota_us.parse().ok()?,
                    period_us: period_us.parse().ok()?,
                    file,
                });
            }
            let file = level.join("cpu.cfs_quota_us");
            Some(Quota {
                quota_us: number(&file)?,
                period_us: number(&level.join("cpu.cfs_period_us"))?,
                file,
            })
        };
        Self {
            memory_max: tightest("memory", ["memory.max", "memory.limit_in_bytes"]),
            memory_high: tightest("memory", ["memory.high", "memory.high"]),
            threads_max: tightest("pids", ["pids.max", "pids.max"]),
            quota: levels(mounts, groups, "cpu")
                .into_iter()
                .filter_map(quota)
                .filter(|quota| quota.period_us > 0)
                .min_by_key(|quota| quota.quota_us.saturating_mul(1000) / quota.period_us),
        }
    }
}

/// The directories of the group that a controller has this process in, and of all above it that are mounted.
fn levels(mounts: &str, groups: &str, controller: &str) -> Vec<PathBuf> {
    let Some((mount, group)) = find(mounts, groups, Some(controller))
        .or_else(|| find(mounts, groups, None))
        .and_then(|(mount, group)| Some((mount.point, group.strip_prefix(mount.root).ok()?)))
    else {
        return Vec::new();
    };
    let mount = Path::new(mount);
    mount
        .join(group)
        .ancestors()
        .take_while(|level| level.starts_with(mount))
        .map(Path::to_path_buf)
        .collect()
}

/// Where a hierarchy is mounted.
struct Mount<'a> {
    /// The group that the mount shows.
    root: &'a str,
    point: &'a str,
}

/// The mount of a controller's hierarchy and this process's group in it; without a controller those of version 2, which has one hierarchy for all.
fn find<'a>(
    mounts: &'a str,
    groups: &'a str,
    controller: Option<&str>,
) -> Option<(Mount<'a>, &'a Path)> {
    let names = |list: &str| match controller {
        Some(controller) => list.split(',').any(|name| name == controller),
        None => list.is_empty(),
    };
    // NUMBER:CONTROLLERS:PATH
    let group = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        names(fields.next()?).then(|| fields.next())?
    })?;
    // ID PARENT DEVICE ROOT POINT OPTIONS [TAGS …] - TYPE SOURCE OPTIONS
    let mount = mounts.lines().find_map(|line| {
        let (place, hierarchy) = line.split_once(" - ")?;
        let mut hierarchy = hierarchy.split(' ');
        let is_it = match (controller, hierarchy.next()?) {
            (Some(_), "cgroup") => names(hierarchy.nth(1)?),
            (None, "cgroup2") => true,
            _ => false,
        };
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        is_it.then_some(Mount { root, point })
    })?;
    Some((mount, Path::new(group)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    const VERSION_2: &str =
        "25 1 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const VERSION_1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    /// Reads from a list of files.
    fn limits(mounts: &str, groups: &str, files: &[(&str, &str)]) -> Cgroup {
        Cgroup::from_files(mounts, groups, &|path| {
            let (_, text) = files
                .iter()
                .find(|(name, _)| Path::new("/sys/fs/cgroup").join(name) == path)?;
            Some((*text).to_owned())
        })
    }

    fn bound(value: u64, file: &str) -> Option<Bound> {
        let file = Path::new("/sys/fs/cgroup").join(file);
        Some(Bound { value, file })
    }

    #[test]
    fn version_2_has_one_hierarchy_and_the_tightest_level_counts() {
        let files = [
            ("a.slice/b.service/memory.max", "max\n"),
            ("a.slice/memory.max", "8000\n"),
            ("memory.max", "9000\n"),
            ("a.slice/b.service/memory.high", "7000\n"),
            ("a.slice/b.service/pids.max", "12\n"),
            ("a.slice/b.service/cpu.max", "max 100000\n"),
            ("a.slice/cpu.max", "150000 100000\n"),
        ];
        let read = limits(VERSION_2, "0::/a.slice/b.service\n", &files);
        assert_eq!(read.memory_max, bound(8000, "a.slice/memory.max"));
        assert_eq!(
            read.memory_high,
            bound(7000, "a.slice/b.service/memory.high")
        );
        assert_eq!(read.threads_max, bound(12, "a.slice/b.service/pids.max"));
        let quota = read.quota.unwrap();
        assert_eq!((quota.quota_us, quota.period_us), (150_000, 100_000));
        assert_eq!(quota.file, Path::new("/sys/fs/cgroup/a.slice/cpu.max"));
    }

    #[test]
    fn version_1_has_one_hierarchy_for_each_controller() {
        let groups = "4:memory:/docker/x/y\n2:cpuacct,cpu:/z\n0::/\n";
        let files = [
            ("memory/y/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.limit_in_bytes", "4096\n"),
            ("cpu/z/cpu.cfs_quota_us", "50000\n"),
            ("cpu/z/cpu.cfs_period_us", "100000\n"),
            ("cpu/cpu.cfs_quota_us", "-1\n"),
            ("unified/memory.max", "1\n"),
        ];
        let read = limits(VERSION_1, groups, &files);
        assert_eq!(read.memory_max, bound(4096, "memory/memory.limit_in_bytes"));
        assert_eq!(read.quota.unwrap().quota_us, 50_000);
        assert_eq!(read.threads_max, None);
    }

    #[test]
    fn without_limits_or_a_visible_group_there_is_none() {
        let none = Cgroup::default();
        assert_eq!(limits("", "", &[]), none);
        assert_eq!(limits(VERSION_2, "0::/a\n", &[]), none);
        let unlimited = [("memory.max", "max"), ("cpu.max", "max 100000")];
        assert_eq!(limits(VERSION_2, "0::/\n", &unlimited), none);
        // The group lies outside of what is mounted.
        let files = [("memory/memory.limit_in_bytes", "4096")];
        assert_eq!(limits(VERSION_1, "4:memory:/docker/z\n", &files), none);
    }
}
