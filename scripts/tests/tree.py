"""Faked trees of /proc and /sys, and the scripts run on them."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent
# A file that root may read and not write, and that holds a number: what a setting that cannot be changed looks like.
READ_ONLY = Path("/proc/sys/kernel/random/entropy_avail")
PATIENCE_SECONDS = 120


def skip(reason):
    """Leaves a test out, and says so."""
    print(f"SKIPPED: {reason}", file=sys.stderr)
    raise unittest.SkipTest(reason)


class Tree(unittest.TestCase):
    """A directory with faked `proc` and `sys` for each test, and a state file."""

    SCRIPT = ""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        self.state = self.root / "state" / "originals"
        self.write("proc/sys/kernel/random/boot_id", "first")

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n", encoding="utf-8")

    def read(self, path):
        return (self.root / path).read_text(encoding="utf-8").removesuffix("\n")

    def make_read_only(self, path):
        """A value of some number that nobody can change."""
        (self.root / path).unlink()
        (self.root / path).symlink_to(READ_ONLY)

    def files(self):
        """All files with what is in them, but those of the scripts themselves."""
        found = [path for top in ("proc", "sys") for path in (self.root / top).rglob("*")]
        return {str(path.relative_to(self.root)): path.read_bytes() for path in found if path.is_file() and not path.is_symlink()}

    def command(self, *arguments):
        raise NotImplementedError

    def run_script(self, *arguments, code=0, environment=None):
        """Runs the script, and insists on its exit code."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=environment, start_new_session=True)
        self.assertEqual(done.returncode, code, f"{arguments}:\n{done.stdout}{done.stderr}")
        return done

    def reboot(self):
        self.write("proc/sys/kernel/random/boot_id", "second")
