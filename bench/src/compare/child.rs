//! A child process on cores of its own that leaves nothing behind: it leads a process group, and the group is killed when the
//! value goes, on whatever path.

#![allow(unsafe_code)] // `pre_exec`, and the system calls that it needs between fork and exec

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};

use crate::cores::CoreList;

/// A child process and everything it starts that stays in its group.
#[derive(Debug)]
pub(super) struct ConfinedChild {
    leader: Child,
}

impl ConfinedChild {
    /// Starts `command` on `cores`, with as many descriptors as this process may give, as the leader of a new process group.
    ///
    /// The kernel kills the leader when the calling *thread* ends (`PR_SET_PDEATHSIG`), so that not even a killed harness leaves a server:
    /// call this on a thread that outlives the child.
    pub(super) fn spawn(command: &mut Command, cores: &CoreList) -> io::Result<Self> {
        let set = cpu_set(cores);
        command.process_group(0);
        // SAFETY: the closure runs between fork and exec and only makes system calls on what it has copied: it neither
        // allocates nor locks.
        unsafe {
            command.pre_exec(move || confine(&set));
        }
        Ok(Self {
            leader: command.spawn()?,
        })
    }

    /// The leader's process id.
    pub(super) fn pid(&self) -> u32 {
        self.leader.id()
    }

    /// How the leader ended, once it has.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.leader.try_wait()
    }
}

impl Drop for ConfinedChild {
    fn drop(&mut self) {
        if let Ok(group) = libc::pid_t::try_from(self.leader.id()) {
            // SAFETY: killpg(2) takes two numbers. The group is the one that `spawn` made: while it has a member, the kernel gives its number
            // to nobody else. An empty one is an error without effect, as the kernel has handed out all other numbers before it comes
            // to this one again.
            unsafe {
                libc::killpg(group, libc::SIGKILL);
            }
        }
        // It has been killed, so this returns at once; an error means that it was waited for before.
        drop(self.leader.wait());
    }
}

fn cpu_set(cores: &CoreList) -> libc::cpu_set_t {
    // SAFETY: a cpu_set_t is an array of integers, for which all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // A core beyond the set's size cannot be chosen: the kernel would refuse the empty set that is left.
    let size = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    for core in cores.iter().filter(|core| *core < size) {
        // SAFETY: the core lies within the set, as the filter says.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    set
}

/// What the child does to itself before it becomes the other program.
fn confine(set: &libc::cpu_set_t) -> io::Result<()> {
    let mut descriptors = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: sched_setaffinity(2), prctl(2), getrlimit(2) and setrlimit(2) are given numbers and valid references with their sizes.
    unsafe {
        checked(libc::sched_setaffinity(0, size_of_val(set), set))?;
        checked(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        checked(libc::getrlimit(libc::RLIMIT_NOFILE, &mut descriptors))?;
        descriptors.rlim_cur = descriptors.rlim_max;
        checked(libc::setrlimit(libc::RLIMIT_NOFILE, &descriptors))
    }
}

fn checked(returned: libc::c_int) -> io::Result<()> {
    if returned == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::io::Read;
    use std::path::Path;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::cores::allowed;

    #[test]
    fn a_child_runs_on_its_cores_only() {
        let core = CoreList::new(allowed().unwrap().iter().take(1)).unwrap();
        let mut command = Command::new("grep");
        command
            .args(["Cpus_allowed_list", "/proc/self/status"])
            .stdout(Stdio::piped());
        let mut child = ConfinedChild::spawn(&mut command, &core).unwrap();
        let mut text = String::new();
        child
            .leader
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text.split_whitespace().last(), Some(&*core.to_string()));
    }

    #[test]
    fn what_a_child_has_started_goes_with_it() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(Stdio::piped());
        let mut child = ConfinedChild::spawn(&mut command, &allowed().unwrap()).unwrap();
        let mut line = [0; 16];
        let length = child.leader.stdout.take().unwrap().read(&mut line).unwrap();
        let grandchild: u32 = str::from_utf8(&line[..length])
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
        assert!(state().is_ok());

        let leader = child.pid();
        drop(child);
        assert!(!Path::new(&format!("/proc/{leader}")).exists());
        let begun = Instant::now();
        // Whoever inherits it may be slow to collect it: a zombie has ended as well.
        while state().is_ok_and(|state| !state.contains(") Z")) {
            assert!(begun.elapsed() < Duration::from_secs(5), "it still runs");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
