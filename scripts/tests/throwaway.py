"""A copy of this system that is thrown away: what is installed, changed and started in it never reaches the real one. Needs root.

Files are this system's under an overlay, whose upper layer lies in memory; processes, network, mounts, host name and control groups are in namespaces of their own.
Settings of the kernel can be read, and those of the network changed, which are the namespace's own.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import scene

PATIENCE_SECONDS = 60
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The first process of a system that is to be started as one, and of one that is like a container.
SYSTEMD = ("/lib/systemd/systemd", "--unit=basic.target", "--show-status=no")
IDLE = ("/bin/sleep", "infinity")
# Where control groups of version 2 are, alone or beside those of version 1.
CONTROL_GROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")

# Makes the overlay and what a system finds mounted, then becomes the first process in it. Arguments: an empty directory, a control group, the first process.
PREPARE = r"""
set -eu
scratch=$1 group=$2
shift 2
[ -z "$group" ] || echo $$ >"$group/cgroup.procs"
mount -t tmpfs throwaway "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" throwaway "$scratch/root"
cd "$scratch/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,rw proc/sys/net
exec ${group:+unshare --cgroup} sh -euc "$INSIDE" inside "$@"
"""
# The second part, where the control group is the root of all that can be seen.
INSIDE = r"""
mount -t sysfs -o ro sysfs sys
[ ! -d sys/fs/cgroup ] || mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for node in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "dev/${node%:*}" c 1 "${node#*:}"
done
mknod -m 666 dev/tty c 5 0
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
ip link set lo up
mkdir run/old
pivot_root . run/old
cd /
umount -l run/old
rmdir run/old
# What the administrator of this host mounts and starts has no place here.
: >etc/fstab
rm -rf etc/crypttab etc/systemd/system/*.wants etc/systemd/system/*.requires
# Images of containers have these: nothing is started when a package is installed, and its documentation is left out. Indexing the manual takes seconds.
rm -f usr/sbin/policy-rc.d etc/dpkg/dpkg.cfg.d/docker etc/dpkg/dpkg.cfg.d/excludes var/lib/man-db/auto-update
exec env -i container=throwaway "PATH=$PATH" setpriv --bounding-set=-sys_module,-sys_time,-sys_boot "$@"
"""


def what_is_missing(first=IDLE):
    """Why no such system can be made here, or None."""
    if os.geteuid() != 0:
        return "it needs root"
    for tool, package in (("unshare", "util-linux"), ("ip", "iproute2"), ("dpkg", "dpkg")):
        if not shutil.which(tool):
            return f"{tool} is missing (apt-get install {package})"
    if not Path(first[0]).exists():
        return f"{first[0]} is missing"
    try:
        with System(first):
            return None
    except OSError as error:
        return str(error)


class System:
    """A system in which `run` runs commands, from the entry of a `with` block to its end."""

    def __init__(self, first=IDLE):
        self.first = first

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="shardcast-throwaway-"))
            group = stack.enter_context(control_group())
            log = stack.enter_context(tempfile.TemporaryFile("w+"))
            namespaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--propagation", "private", "--fork", "--kill-child")
            # Everything ends with this process, however that ends.
            command = ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "sh", "-euc", PREPARE, "prepare", scratch, group, *self.first]
            self.outer = subprocess.Popen(command, env={"PATH": SEARCH_PATH, "INSIDE": INSIDE}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            stack.callback(self._end)
            self._wait(log)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _end(self):
        # The first process of the namespace goes with it (--kill-child), and everything in there with that.
        self.outer.kill()
        self.outer.wait()

    def _wait(self, log):
        """Until the system is there."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            if self.outer.poll() is not None:
                log.seek(0)
                raise OSError(f"no system to throw away can be made here: {log.read().strip()[-400:]}")
            self.process = first_child(self.outer.pid)
            if self.process and Path(f"/proc/{self.process}/cmdline").read_bytes().split(b"\0")[0] == self.first[0].encode():
                if self.first == IDLE or self.run("systemctl", "is-active", "basic.target", check=False).returncode == 0:
                    return
            if time.monotonic() > end:
                log.seek(0)
                raise OSError(f"{self.first[0]} has not come up within {PATIENCE_SECONDS} s: {log.read().strip()[-400:]}")
            time.sleep(0.05)

    def _inside(self, command):
        """The command line that runs another one there."""
        enter = ["nsenter", "--target", str(self.process), "--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd"]
        return [*enter, "env", "-i", f"PATH={SEARCH_PATH}", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", *map(str, command)]

    def run(self, *command, check=True):
        """Runs a command there as root."""
        done = subprocess.run(self._inside(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_SECONDS)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
        return done

    def start(self, *command):
        """Starts a command there as root."""
        return subprocess.Popen(self._inside(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def path(self, name):
        """A file of the system, as it is reached from outside. A link is followed outside: read those inside."""
        return Path(f"/proc/{self.process}/root") / str(name).lstrip("/")

    @contextlib.contextmanager
    def network(self):
        """Sockets made meanwhile are in the system's network for as long as they live."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.process}/ns/net", os.O_RDONLY)
        try:
            scene.enter(there)
            yield
        finally:
            scene.enter(home)
            os.close(there)
            os.close(home)


def first_child(process):
    """The child of a process, or None while it has none."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return int(children[0]) if children else None
    return None


@contextlib.contextmanager
def control_group():
    """A control group of version 2, or an empty name where there are none. It is gone afterwards with those below it."""
    top = next((Path(place) for place in CONTROL_GROUPS if Path(place, "cgroup.procs").exists() and Path(place, "cgroup.controllers").exists()), None)
    if top is None:
        yield ""
        return
    group = top / f"shardcast-{os.getpid()}"
    group.mkdir()
    try:
        yield str(group)
    finally:
        end = time.monotonic() + PATIENCE_SECONDS
        while group.exists():
            for directory, _, _ in os.walk(group, topdown=False):
                # It is busy until its last process is gone.
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
            if time.monotonic() > end:
                raise TimeoutError(f"the control group {group} does not go away")
            time.sleep(0.02)
