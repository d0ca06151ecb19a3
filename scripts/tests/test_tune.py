"""tune.sh on faked settings, and on the real ones of a network namespace."""

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
import unittest

import tree

# A host as it comes, each setting worse than wanted; tabs are what the kernel separates with.
STOCK = {
    "fs.file-max": "100000",
    "fs.nr_open": "65536",
    "kernel.io_uring_disabled": "2",
    "kernel.numa_balancing": "1",
    "vm.swappiness": "60",
    "vm.min_free_kbytes": "67584",
    "net.core.somaxconn": "4096",
    "net.core.netdev_max_backlog": "1000",
    "net.ipv4.tcp_max_syn_backlog": "2048",
    "net.ipv4.tcp_syncookies": "2",
    "net.ipv4.tcp_max_orphans": "8192",
    "net.ipv4.tcp_max_tw_buckets": "131072",
    "net.ipv4.tcp_fin_timeout": "60",
    "net.ipv4.tcp_mem": "95967\t127959\t191934",
    "net.ipv4.tcp_rmem": "4096\t131072\t33554432",
    "net.ipv4.tcp_wmem": "4096\t16384\t4194304",
    "net.ipv4.tcp_slow_start_after_idle": "1",
    "net.netfilter.nf_conntrack_max": "262144",
}

# The same for a million connections, by settings.table.
TUNED = {
    "fs.file-max": "1065536",
    "fs.nr_open": "1048576",
    "kernel.io_uring_disabled": "0",
    "kernel.numa_balancing": "0",
    "vm.swappiness": "10",
    "vm.min_free_kbytes": "131072",
    "net.core.somaxconn": "65535",
    "net.core.netdev_max_backlog": "16384",
    "net.ipv4.tcp_max_syn_backlog": "65536",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv4.tcp_max_orphans": "1065536",
    "net.ipv4.tcp_max_tw_buckets": "262144",
    "net.ipv4.tcp_fin_timeout": "30",
    "net.ipv4.tcp_mem": "95967\t1131072\t2196608",
    "net.ipv4.tcp_rmem": "4096\t131072\t1048576",
    "net.ipv4.tcp_wmem": "4096\t16384\t262144",
    "net.ipv4.tcp_slow_start_after_idle": "0",
    "net.netfilter.nf_conntrack_max": "1065536",
}

# Rows of the table: one more than settings, as two are about tcp_mem.
ROWS = len(STOCK) + 1


def path(setting):
    return "proc/sys/" + setting.replace(".", "/")


def difference(setting, before, after):
    return f"- {setting} = {before}\n+ {setting} = {after}\n".replace("\t", " ")


class Settings(tree.Tree):
    """Faked settings, those of STOCK where nothing else is said."""

    def setUp(self):
        super().setUp()
        self.set(STOCK)

    def set(self, settings):
        for setting, value in settings.items():
            self.write(path(setting), value)

    def keep(self, *settings):
        """This kernel has no others."""
        for setting in set(STOCK) - set(settings):
            (self.root / path(setting)).unlink()

    def value(self, setting):
        return self.read(path(setting))

    def command(self, *arguments):
        mode, *others = arguments
        return [tree.SCRIPTS / "tune.sh", mode, "--sysctl-root", self.root / "proc/sys", "--state", self.state, *others]


class Check(Settings):
    def test_a_line_for_each_setting(self):
        lines = self.run_script("check", code=1).stdout.splitlines()[:-1]
        self.assertEqual(len(lines), ROWS)
        verdicts = {line.split()[1]: line.split()[0] for line in lines}
        self.assertEqual(verdicts["net.core.somaxconn"], "low")
        self.assertEqual(verdicts["net.ipv4.tcp_rmem[2]"], "high")
        self.assertEqual(verdicts["net.ipv4.tcp_syncookies"], "off")
        self.assertEqual(verdicts["net.ipv4.tcp_mem[1]"], "low")
        self.assertNotIn("ok", verdicts.values())
        line = next(line for line in lines if "tcp_mem[2]" in line)
        self.assertRegex(line, r"191934, wanted at least 2196608 +pages of all TCP buffers")

    def test_changes_nothing(self):
        before = self.files()
        self.run_script("check", code=1)
        self.assertEqual(self.files(), before)
        self.assertFalse(self.state.exists())

    def test_one_bad_setting_is_enough(self):
        self.set(TUNED)
        self.run_script("check")
        for setting, value in STOCK.items():
            with self.subTest(setting):
                self.set({setting: value})
                self.run_script("check", code=1)
                self.set({setting: TUNED[setting]})

    def test_the_bounds_follow_the_connections(self):
        self.set(TUNED)
        self.run_script("check", "--connections", "1000000")
        self.run_script("check", "--connections", "1000001", code=1)

    def test_what_the_kernel_lacks_holds(self):
        self.set(TUNED)
        (self.root / path("net.netfilter.nf_conntrack_max")).unlink()
        self.assertRegex(self.run_script("check").stdout, r"ok +net.netfilter.nf_conntrack_max +not there")

    def test_what_is_no_number_is_named(self):
        self.set({**TUNED, "vm.swappiness": "much", "net.ipv4.tcp_mem": "1\t2000000"})
        errors = self.run_script("check", code=2).stderr
        self.assertIn("vm.swappiness has no number: much", errors)
        self.assertIn("net.ipv4.tcp_mem[2] has no number at [2]: 1 2000000", errors)


class Apply(Settings):
    def test_all_that_is_worse_changes_and_is_shown(self):
        done = self.run_script("apply")
        self.assertEqual({setting: self.value(setting) for setting in STOCK}, TUNED)
        shown = "".join(difference(setting, STOCK[setting], TUNED[setting]) for setting in STOCK)
        self.assertTrue(done.stdout.startswith(shown), done.stdout)
        self.assertIn("18 changed, 0 held, 0 are not on this kernel, 0 could not be changed", done.stdout)
        self.run_script("check")

    def test_what_is_better_stays(self):
        better = {
            **TUNED,
            "fs.file-max": "9223372036854775807",
            "vm.swappiness": "0",
            "net.ipv4.tcp_mem": "5\t3000000\t2196608",
            "net.ipv4.tcp_rmem": "4096\t131072\t500000",
        }
        self.set(better)
        before = self.files()
        done = self.run_script("apply")
        self.assertEqual(self.files(), before)
        self.assertIn("0 changed, 18 held", done.stdout)
        self.assertFalse(self.state.exists(), "nothing was changed, so there is nothing to keep")

    def test_of_several_values_only_the_bad_ones_change(self):
        self.set({"net.ipv4.tcp_mem": "7\t3000000\t9"})
        self.run_script("apply")
        self.assertEqual(self.value("net.ipv4.tcp_mem"), "7\t3000000\t2196608")

    def test_again_changes_nothing(self):
        self.run_script("apply")
        files, state = self.files(), self.state.read_bytes()
        done = self.run_script("apply")
        self.assertIn("0 changed, 18 held", done.stdout)
        self.assertEqual((self.files(), self.state.read_bytes()), (files, state))

    def test_originals_are_saved_once(self):
        before = self.files()
        self.run_script("apply", "--connections", "1000")
        self.set({"net.core.somaxconn": "77", "vm.swappiness": "90"})
        self.run_script("apply", "--connections", "2000000")
        self.assertEqual(self.value("net.core.somaxconn"), "65535")
        self.run_script("revert")
        self.assertEqual(self.files(), before)

    def test_what_the_kernel_lacks_is_not_made(self):
        self.keep("vm.swappiness")
        self.assertIn("1 changed, 0 held, 17 are not", self.run_script("apply").stdout)
        self.assertFalse((self.root / path("net.core.somaxconn")).exists())

    def test_what_cannot_be_written_is_named_and_counted(self):
        self.make_read_only(path("net.core.somaxconn"))
        before = self.files()
        done = self.run_script("apply", code=2)
        self.assertRegex(done.stderr, r"net\.core\.somaxconn cannot be set to 65535: Permission denied")
        self.assertIn("17 changed, 0 held, 0 are not on this kernel, 1 could not be changed", done.stdout)
        self.assertNotIn("+ net.core.somaxconn", done.stdout)
        self.assertEqual(self.value("vm.swappiness"), "10")
        self.run_script("revert")
        self.assertEqual(self.files(), before)

    def test_what_is_no_number_is_named_and_stays(self):
        self.set({"net.ipv4.tcp_mem": "1\t2", "vm.swappiness": "much"})
        done = self.run_script("apply", code=2)
        self.assertIn("net.ipv4.tcp_mem has no number at [2]: 1 2", done.stderr)
        self.assertIn("vm.swappiness has no number: much", done.stderr)
        self.assertEqual((self.value("net.ipv4.tcp_mem"), self.value("vm.swappiness")), ("1\t2", "much"))

    def test_without_a_place_for_the_originals_nothing_changes(self):
        before = self.files()
        self.state.parent.write_text("a file, so no directory")
        self.assertIn("cannot keep the originals", self.run_script("apply", code=3).stderr)
        self.assertEqual(self.files(), before)


class Revert(Settings):
    def test_puts_back_every_byte_in_reverse_order(self):
        before = self.files()
        self.run_script("apply")
        done = self.run_script("revert")
        self.assertEqual(self.files(), before)
        shown = "".join(difference(setting, TUNED[setting], STOCK[setting]) for setting in reversed(STOCK))
        self.assertTrue(done.stdout.startswith(shown), done.stdout)
        self.assertEqual(list(self.state.parent.iterdir()), [])

    def test_without_state_nothing_happens(self):
        before = self.files()
        self.assertIn("nothing to put back", self.run_script("revert").stdout)
        self.assertEqual(self.files(), before)

    def test_what_cannot_be_put_back_keeps_the_state(self):
        before = self.files()
        self.run_script("apply")
        for setting in ("net.core.somaxconn", "net.netfilter.nf_conntrack_max"):
            (self.root / path(setting)).unlink()
        (self.root / path("net.core.somaxconn")).symlink_to(tree.READ_ONLY)
        errors = self.run_script("revert", code=2).stderr
        self.assertIn("net.core.somaxconn cannot be set to 4096: Permission denied", errors)
        self.assertIn("net.netfilter.nf_conntrack_max is not there", errors)
        self.assertIn("16 put back, 2 not", errors)
        self.assertTrue(self.state.exists())

        (self.root / path("net.core.somaxconn")).unlink()
        self.set({setting: TUNED[setting] for setting in ("net.core.somaxconn", "net.netfilter.nf_conntrack_max")})
        self.run_script("revert")
        self.assertEqual(self.files(), before)
        self.assertFalse(self.state.exists())

    def test_a_reboot_has_undone_it(self):
        self.run_script("apply")
        self.reboot()
        self.set({**STOCK, "vm.swappiness": "50"})
        rebooted = self.files()
        self.assertIn("of an earlier boot", self.run_script("revert").stdout)
        self.assertEqual(self.files(), rebooted)
        self.assertFalse(self.state.exists())

    def test_apply_after_a_reboot_saves_anew(self):
        self.run_script("apply")
        self.reboot()
        self.set({**STOCK, "vm.swappiness": "50"})
        rebooted = self.files()
        self.assertIn("begun anew", self.run_script("apply").stdout)
        self.run_script("revert")
        self.assertEqual(self.files(), rebooted)

    def test_a_broken_state_file_is_refused(self):
        self.run_script("apply")
        tuned = self.files()
        for line in ("value ../../etc/passwd 1", "value vm.swappiness", "valu vm.swappiness 60", "vm.swappiness"):
            with self.subTest(line):
                self.state.write_text(f"boot first\n{line}\n")
                for mode in ("apply", "revert"):
                    self.assertIn(f"cannot be read: {line}", self.run_script(mode, code=3).stderr)
                self.assertEqual(self.files(), tuned)

    def test_processes_with_more_files_than_the_original_permits_are_named(self):
        for process, hard in ((10, 65536), (11, 1048576), (12, "unlimited")):
            self.write(f"proc/{process}/limits", f"Limit        Soft Limit  Hard Limit  Units\nMax open files            1024                 {hard}               files")
        self.run_script("apply")
        errors = self.run_script("revert").stderr
        self.assertRegex(errors, r"fs\.nr_open goes back to 65536.*: 11 12\n")
        self.assertEqual(self.value("fs.nr_open"), "65536")


class Persist(Settings):
    def setUp(self):
        super().setUp()
        self.file = self.root / "90-shardcast.conf"
        self.persist = f"--persist={self.file}"

    def persisted(self):
        lines = self.file.read_text().splitlines()
        self.assertTrue(lines[0].startswith("# Written by tune.sh"))
        return dict(line.split(" = ") for line in lines[1:])

    def test_nothing_is_persisted_unasked(self):
        self.run_script("apply")
        self.assertEqual(sorted(entry.name for entry in self.root.iterdir()), ["proc", "state"])

    def test_what_was_changed_is_written_and_revert_removes_it(self):
        self.set({"net.core.somaxconn": "70000"})
        self.make_read_only(path("vm.swappiness"))
        before = self.files()
        self.run_script("apply", self.persist, code=2)
        expected = {setting: value.replace("\t", " ") for setting, value in TUNED.items()}
        del expected["net.core.somaxconn"], expected["vm.swappiness"]
        self.assertEqual(self.persisted(), expected)
        self.run_script("revert")
        self.assertFalse(self.file.exists())
        self.assertEqual(self.files(), before)

    def test_it_can_be_persisted_later(self):
        self.run_script("apply")
        self.run_script("apply", self.persist)
        self.assertEqual(self.persisted()["net.core.somaxconn"], "65535")

    def test_revert_after_a_reboot_still_puts_back(self):
        before = self.files()
        self.run_script("apply", self.persist)
        self.reboot()
        before["proc/sys/kernel/random/boot_id"] = b"second\n"
        self.run_script("revert")
        self.assertEqual(self.files(), before)
        self.assertFalse(self.file.exists() or self.state.exists())

    def test_somebody_elses_file_stays(self):
        self.file.write_text("vm.swappiness = 1\n")
        self.assertIn("somebody else's", self.run_script("apply", self.persist, code=2).stderr)
        self.run_script("revert")
        self.assertEqual(self.file.read_text(), "vm.swappiness = 1\n")


class Interrupted(Settings):
    """A false `sync` ends the script before each of the moments at which something is on the disk: before and after each rename."""

    FEW = ("fs.nr_open", "vm.swappiness", "net.core.somaxconn", "net.ipv4.tcp_mem")
    # Two for each setting that is saved: of the new state file, and of its directory after the rename.
    MOMENTS = 2 * len(FEW)

    def setUp(self):
        super().setUp()
        self.keep(*self.FEW)
        programs = self.root / "programs"
        programs.mkdir()
        sync = programs / "sync"
        sync.write_text(
            "#!/bin/sh\n"
            f"echo >>{self.root}/syncs\n"
            f'[ "$(wc -l <{self.root}/syncs)" -ne "$MOMENT" ] || {{ kill -s "$SIGNAL" 0; sleep 1; }}\n'
        )
        sync.chmod(0o755)
        self.path = f"{programs}:{os.environ['PATH']}"

    def interrupt(self, moment, name):
        """Runs apply, whose process group is sent a signal at a moment."""
        (self.root / "syncs").unlink(missing_ok=True)
        environment = {**os.environ, "PATH": self.path, "MOMENT": str(moment), "SIGNAL": name}
        # Whoever runs the tests in the background may have them ignore SIGINT, and bash cannot trap what it was started to ignore.
        command = ["env", "--default-signal=INT", *map(str, self.command("apply"))]
        done = subprocess.run(command, capture_output=True, timeout=tree.PATIENCE_SECONDS, env=environment, start_new_session=True)
        self.assertNotEqual(done.returncode, 0, "it was not interrupted")

    def test_revert_restores_and_apply_goes_on(self):
        before, cut_short = self.files(), 0
        for name, moments in (("KILL", range(1, self.MOMENTS + 1)), ("TERM", (3, 4)), ("INT", (5, 6))):
            for moment in moments:
                with self.subTest(signal=name, moment=moment):
                    self.interrupt(moment, name)
                    cut_short += self.files() != before
                    self.run_script("revert")
                    self.assertEqual(self.files(), before)
                    self.assertEqual(list(self.state.parent.iterdir()), [])

                    self.interrupt(moment, name)
                    self.run_script("apply")
                    for setting in self.FEW:
                        self.assertEqual(self.value(setting), TUNED[setting])
                    self.run_script("revert")
                    self.assertEqual(self.files(), before)
        self.assertGreater(cut_short, self.MOMENTS / 2, "most moments lie after the first change")

    def test_a_revert_that_was_interrupted_is_repeated(self):
        before = self.files()
        self.run_script("apply")
        self.set({"net.ipv4.tcp_mem": STOCK["net.ipv4.tcp_mem"]})
        self.run_script("revert")
        self.assertEqual(self.files(), before)


class Together(Settings):
    def test_two_at_once_are_excluded(self):
        before = self.files()
        directory = os.open(self.root / "proc/sys", os.O_RDONLY)
        self.addCleanup(os.close, directory)
        fcntl.flock(directory, fcntl.LOCK_EX)
        for mode in ("apply", "revert"):
            self.assertIn("another scripts/tune.sh is at work", self.run_script(mode, code=3).stderr)
        self.assertEqual(self.files(), before)
        self.run_script("check", code=1)
        fcntl.flock(directory, fcntl.LOCK_UN)
        self.run_script("apply")


class CommandLine(Settings):
    def test_what_makes_no_sense_is_refused(self):
        cases = (
            (["change"], "the first argument is"),
            (["check", "--connections"], "needs a value"),
            (["check", "--connections", "many"], "not many"),
            (["check", "--connections", "0"], "not 0"),
            (["check", "--persist"], "--persist goes with apply"),
            (["apply", "--force"], "unknown argument: --force"),
            (["check", "--sysctl-root", "/nowhere"], "there is no directory /nowhere"),
        )
        before = self.files()
        for arguments, reason in cases:
            with self.subTest(arguments):
                self.assertIn(reason, self.run_script(*arguments, code=3).stderr)
        self.assertEqual(self.files(), before)

    def test_a_row_that_cannot_be_read_is_named(self):
        copies = self.root / "scripts"
        copies.mkdir()
        for name in ("tune.sh", "originals.sh"):
            (copies / name).symlink_to(tree.SCRIPTS / name)
        for row in ("vm.swappiness at-most 10", "vm.swappiness most 10 0 why", "vm.swappiness at-most ten 0 why", "vm.swa/ppiness at-most 10 0 why"):
            with self.subTest(row):
                (copies / "settings.table").write_text(f"# a table\n{row}\n")
                command = [copies / "tune.sh", *self.command("check")[1:]]
                done = subprocess.run(command, capture_output=True, text=True, timeout=tree.PATIENCE_SECONDS)
                self.assertEqual(done.returncode, 3)
                self.assertIn("line 2 of", done.stderr)


# Prints every setting below a directory with what it says, or why it says nothing, as `sysctl -a` does.
READ_ALL = """
import json, os, sys
found = {}
for directory, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(directory, name)
        try:
            found[path] = open(path, "rb").read().decode("latin-1")
        except OSError as error:
            found[path] = error.strerror
print(json.dumps(found))
"""

# Counts what happens, so it is never the same twice.
VOLATILE = "/proc/sys/net/netfilter/nf_conntrack_count"


class Namespace(Settings):
    """The real settings of the network in a namespace of its own. Those that are no network's are the host's, so they are faked."""

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            tree.skip("tune.sh in a network namespace, which needs root")
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; exec sleep 600"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.end_holder)
        if self.holder.stdout.readline() != "ready\n":
            tree.skip(f"tune.sh in a network namespace, which cannot be made here: {self.holder.stderr.read().strip()}")
        net = self.root / "proc/sys/net"
        subprocess.run(["rm", "-r", net], check=True)
        net.symlink_to("/proc/sys/net")
        # The kernel shows some settings of a namespace and permits no change, not even to root.
        conntrack = self.inside("stat", "-c", "%a", "/proc/sys/net/netfilter/nf_conntrack_max").stdout.strip()
        self.code = 2 if conntrack == "444" else 0

    def end_holder(self):
        self.holder.kill()
        self.holder.communicate()

    def enter(self, *command):
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *map(str, command)]

    def inside(self, *command):
        return subprocess.run(self.enter(*command), capture_output=True, text=True, timeout=tree.PATIENCE_SECONDS)

    def command(self, *arguments):
        return self.enter(*super().command(*arguments))

    def settings(self):
        done = self.inside(sys.executable, "-c", READ_ALL, "/proc/sys/net")
        settings = json.loads(done.stdout)
        settings.pop(VOLATILE, None)
        self.assertGreater(len(settings), 100)
        return settings

    def test_revert_leaves_every_setting_as_it_was(self):
        faked, real = self.files(), self.settings()
        self.run_script("apply", code=self.code)
        applied = self.settings()
        self.assertEqual(applied["/proc/sys/net/core/somaxconn"], "65535\n")
        self.assertEqual(applied["/proc/sys/net/ipv4/tcp_rmem"].split()[2], "1048576")
        changed = {name for name in real if applied[name] != real[name]}
        self.assertGreaterEqual(len(changed), 5, changed)
        self.run_script("apply", code=self.code)
        self.assertEqual(self.settings(), applied)
        self.run_script("revert")
        self.assertEqual(self.settings(), real)
        self.assertEqual(self.files(), faked)

    def test_killed_at_any_point_revert_restores(self):
        faked, real = self.files(), self.settings()
        begun = time.monotonic()
        self.run_script("apply", code=self.code)
        lasts = time.monotonic() - begun
        self.run_script("revert")
        points, cut_short = random.Random(20), 0
        for point in range(20):
            delay = points.uniform(0, lasts)
            with self.subTest(point=point, delay=delay):
                apply = subprocess.Popen(self.command("apply"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
                time.sleep(delay)
                os.killpg(apply.pid, signal.SIGKILL)
                cut_short += apply.wait() == -signal.SIGKILL and self.state.exists()
                if point % 2 == 1:
                    self.run_script("apply", code=self.code)
                self.run_script("revert")
                self.assertEqual(self.settings(), real)
                self.assertEqual(self.files(), faked)
        self.assertGreaterEqual(cut_short, 5, "too few of the points lay within the changes")


if __name__ == "__main__":
    unittest.main()
