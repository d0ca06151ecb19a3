"""The Debian package: it is built, installed, used, upgraded and removed, under a systemd of its own, on a copy of this system that is thrown away."""

import atexit
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

import throwaway
import tree
import websocket

sys.path.insert(0, str(tree.SCRIPTS))
import scene

CONFIGURATION = "/etc/shardcast/shardcast.toml"
# What the tools of Debian keep of every installation, and caches.
KEPT = re.compile(r"/var/(log|cache|tmp|lib/(dpkg|apt|man-db|systemd/(catalog|timers|random-seed)))\b|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|/etc/\.pwd\.lock$")
# Tags of lintian that say nothing about a package outside of Debian's archive.
OF_THE_ARCHIVE = ("initial-upload-closes-no-bugs",)
# What systemd gives to users that exist while a service runs (systemd's UIDS-GIDS.md).
DYNAMIC_USERS = range(61184, 65520)
BUILD_SECONDS_MAX = 1800


class Packaged(unittest.TestCase):
    """Has two revisions of the package, built once."""

    FIRST = throwaway.SYSTEMD

    @classmethod
    def setUpClass(cls):
        if missing := throwaway.what_is_missing(cls.FIRST) or what_is_missing():
            tree.skip(f"{cls.__name__} of the package: {missing}")
        cls.packages = packages()

    def setUp(self):
        self.system = self.enterContext(throwaway.System(self.FIRST))
        for revision, package in enumerate(self.packages, 1):
            shutil.copy(package, self.system.path(f"/run/shardcast-{revision}.deb"))

    def install(self, revision):
        self.system.run("dpkg", "-i", f"/run/shardcast-{revision}.deb")

    def files(self):
        """Every file, with its kind and permissions."""
        listed = self.system.run("find", "/etc", "/opt", "/srv", "/usr", "/var", "-xdev", "-printf", "%p\t%y %m\n").stdout
        found = dict(line.split("\t") for line in listed.splitlines() if "\t" in line)
        return {name: kind for name, kind in found.items() if not KEPT.match(name)}

    def chat(self, port=9000):
        """Two users meet in a room."""
        with self.system.network():
            ada, bob = (connect(port, user) for user in ("ada", "bob"))
        for client in (ada, bob):
            self.addCleanup(client.close)
            client.say(type="join", room="lobby")
            client.hear("joined")
        ada.say(type="message", room="lobby", content="hello")
        self.assertEqual(bob.hear("message")["content"], "hello")
        return bob

    def service(self, name):
        """A property of the service."""
        return self.system.run("systemctl", "show", "--property", name, "--value", "shardcast").stdout.strip()

    def running(self):
        """What /proc says of the server, which must be running: `status` by name, and limits."""
        self.assertEqual(self.service("ActiveState"), "active", self.system.run("journalctl", "--no-pager", "-u", "shardcast").stdout)
        process = self.service("MainPID")
        status = dict(line.split(":\t", 1) for line in self.system.path(f"/proc/{process}/status").read_text().splitlines() if ":\t" in line)
        return status, self.system.path(f"/proc/{process}/limits").read_text()


    def tree(self, directory, file):
        """Puts a file where it would be in a copy of the repository."""
        place = self.system.path("/run/tree") / directory
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)

    def in_tree(self, command):
        """Runs a command as it is written for whoever is at the top of the repository; its output."""
        return self.system.run("sh", "-euc", f"cd /run/tree && {command}").stdout


class Service(Packaged):
    def test_it_is_installed_used_and_removed_without_a_trace(self):
        before = self.files()
        self.install(1)
        status, limits = self.running()
        self.assertEqual(self.system.run("id", "-u", "shardcast").stdout.split(), status["Uid"].split()[:1])
        self.assertEqual((status["CapEff"], status["NoNewPrivs"], status["Seccomp"]), ("0" * 16, "1", "2"))
        if self.system.run("prlimit", "--nofile=1048576", "--memlock=unlimited", "true", check=False).returncode == 0:
            self.assertRegex(limits, r"Max open files +1048576 +1048576 ")
            self.assertRegex(limits, r"Max locked memory +unlimited +unlimited ")
        self.assertEqual(self.system.run("systemctl", "is-enabled", "shardcast").stdout.strip(), "enabled")

        self.chat()
        with self.system.network(), urllib.request.urlopen("http://127.0.0.1:9001/healthz", timeout=tree.PATIENCE_SECONDS) as answer:
            self.assertTrue(json.load(answer)["ok"])
        doctor = self.system.run("runuser", "-u", "shardcast", "--", "shardcast", "doctor", "--config", CONFIGURATION, check=False).stdout
        self.assertRegex(doctor, r"holds [\d,]+ connections")
        self.assertNotIn("net.core.somaxconn", "".join(line for line in doctor.splitlines() if not line.strip().startswith("ok")))
        for page in ("shardcast", "shardcast-serve", "shardcast-doctor"):
            self.assertIn(".SH SYNOPSIS", self.system.run("zcat", f"/usr/share/man/man1/{page}.1.gz").stdout)
        self.system.run("bash", "-euc", ". /usr/share/bash-completion/completions/shardcast; complete -p shardcast")
        self.system.run("/usr/share/shardcast/scripts/tune.sh", "--help")

        client = self.chat()
        self.system.run("dpkg", "-r", "shardcast")
        with self.assertRaisesRegex(ConnectionError, "closed with 1001"):
            client.hear("never")
        left = self.files()
        self.assertIn(CONFIGURATION, left)
        self.assertNotIn("/usr/bin/shardcast", left)
        self.system.run("dpkg", "-P", "shardcast")
        self.assertEqual(self.files().items() ^ before.items(), set())
        # As Debian wants it: its number must not be given to another user.
        self.assertEqual(self.system.run("id", "-un", "shardcast").stdout.strip(), "shardcast")

    def test_an_edited_configuration_survives_an_upgrade_and_a_removal(self):
        self.install(1)
        file = self.system.path(CONFIGURATION)
        edited = file.read_text().replace('# listen = "127.0.0.1:9000"', 'listen = "0.0.0.0:9100"').replace('# anonymous = "auto"', 'anonymous = "on"')
        file.write_text(edited)
        self.system.run("systemctl", "restart", "shardcast")
        client, process = self.chat(9100), self.service("MainPID")
        self.system.run("apt-get", "install", "--yes", "/run/shardcast-2.deb")
        with self.assertRaisesRegex(ConnectionError, "closed with 1001"):
            client.hear("never")
        self.running()
        self.assertNotEqual(self.service("MainPID"), process)
        self.assertIn("-2", self.system.run("dpkg-query", "--show", "shardcast").stdout)
        self.chat(9100)
        self.system.run("apt-get", "remove", "--yes", "shardcast")
        self.assertEqual(file.read_text(), edited)
        self.install(2)
        self.chat(9100)
        # An administrator's choice outlives an upgrade, too.
        self.system.run("systemctl", "disable", "--now", "shardcast")
        self.install(1)
        self.assertEqual(self.system.run("systemctl", "is-enabled", "shardcast", check=False).stdout.strip(), "disabled")

    def test_settings_are_raised_and_never_lowered(self):
        self.system.run("sysctl", "-w", "net.core.somaxconn=100000", "net.ipv4.tcp_max_syn_backlog=2048")
        self.install(1)
        values = self.system.run("sysctl", "-n", "net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog").stdout.split()
        self.assertEqual(values, ["100000", "65536"])

    def test_what_the_administrator_says_of_settings_counts(self):
        self.system.path("/etc/sysctl.d/99-local.conf").write_text("net.core.somaxconn = 5000\n")
        self.system.run("sysctl", "-w", "net.core.somaxconn=4096")
        self.install(1)
        self.assertEqual(self.system.run("sysctl", "-n", "net.core.somaxconn").stdout.strip(), "5000")

    def test_a_server_that_cannot_start_says_why(self):
        self.system.path("/etc/default/shardcast").write_text("SHARDCAST_LISTEN=0.0.0.0:9000\n")
        self.install(1)
        log = self.system.run("journalctl", "--no-pager", "-u", "shardcast").stdout
        self.assertNotEqual(self.service("SubState"), "running")
        self.assertIn("anonymous", log)

    def test_the_commands_of_the_readme(self):
        install, remove, *_ = commands_of("README.md", "## Install it")
        self.assertEqual((install[0], len(install), len(remove)), ("scripts/package.sh", 4, 2))
        self.system.path("/etc/apt/apt.conf.d/99-tests").write_text('APT::Get::Assume-Yes "true";\n')
        # The package is there already.
        self.tree("target/debian", self.packages[0])
        for command in install[1:]:
            output = self.in_tree(command)
        self.assertIn("listening on", output)
        self.chat()
        for command, state in zip(remove, ("config-files", "not-installed")):
            self.in_tree(command)
            shown = self.system.run("dpkg-query", "--show", "--showformat", "${db:Status-Status}", "shardcast", check=False).stdout
            self.assertIn(state if state == "config-files" else "no packages found", shown)

    def test_the_unit_works_without_the_package(self):
        self.tree("target/release", scene.TARGET / "shardcast")
        self.tree("scripts", tree.SCRIPTS / "shardcast.service")
        header = (tree.SCRIPTS / "shardcast.service").read_text().split("\n[Unit]")[0]
        commands = re.findall(r"^#   (\S.*?)(?:   +#.*)?$", header, re.MULTILINE)
        self.assertEqual(len(commands), 5, commands)
        for command in commands:
            # The settings are this host's here, and test_tune.py has their script.
            if "tune.sh" not in command:
                self.in_tree(command)
        status, _ = self.running()
        self.assertIn(int(status["Uid"].split()[0]), DYNAMIC_USERS)
        self.chat()
        self.system.run("systemctl", "reload", "shardcast")
        self.chat()
        self.system.run("systemctl", "disable", "--now", "shardcast")
        self.assertEqual(self.service("Result"), "success")


class Container(Packaged):
    """Where no systemd runs, and the settings of the kernel cannot be written."""

    FIRST = throwaway.IDLE

    def test_it_is_installed_and_removed(self):
        self.system.run("mount", "-o", "remount,bind,ro", "/proc/sys/net")
        before = self.files()
        self.install(1)
        self.assertIn("shardcast", self.system.run("shardcast", "--version").stdout)
        self.system.run("dpkg", "-P", "shardcast")
        self.assertEqual(self.files().items() ^ before.items(), set())

    def test_lintian_finds_nothing(self):
        if not shutil.which("lintian"):
            tree.skip("what lintian says of the package, which needs the Debian package lintian")
        command = ["lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags", ",".join(OF_THE_ARCHIVE), self.packages[0]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=tree.PATIENCE_SECONDS)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)


    def test_the_configuration_is_the_same_whatever_machine_built_it(self):
        self.install(1)
        default = self.system.path(CONFIGURATION).read_text().splitlines()
        for cores in ("0", f"0-{os.cpu_count() - 1}"):
            printed = self.system.run("taskset", "--cpu-list", cores, "shardcast", "config", "--format", "toml").stdout.splitlines()
            others = [line for line in printed[1:] if line not in default]
            self.assertEqual([line.split(" = ")[0] for line in others], ["# shards", "# cores"])


class Settings(unittest.TestCase):
    def test_the_file_says_what_the_table_says(self):
        rows = [line.split() for line in (tree.SCRIPTS / "settings.table").read_text().splitlines() if line and not line.startswith("#")]
        table = {setting: (want, base, each) for setting, want, base, each, *_ in rows}
        lines = [line for line in (tree.SCRIPTS / "debian/sysctl.conf").read_text().splitlines() if not line.startswith("#")]
        self.assertGreater(len(lines), 2)
        for line in lines:
            name, value = line.split(" = ")
            # Only bounds that are raised, by values that do not depend on how many connections there are.
            self.assertEqual(table[name], ("at-least", value, "0"), name)


def what_is_missing():
    for tool, package in (("cargo", "Rust"), ("dpkg-shlibdeps", "dpkg-dev")):
        if not shutil.which(tool):
            return f"{tool} is missing: install {package}"
    return None


def commands_of(page, heading):
    """The commands of each block of shell in a chapter of a page, without comments."""
    chapter = (tree.SCRIPTS.parent / page).read_text().split(f"\n{heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL)
    return [[line.split("   #")[0].strip() for line in block.splitlines()] for block in blocks]


def connect(port, user):
    """A client. The service is up for systemd when the program runs; it listens a moment later."""
    end = time.monotonic() + tree.PATIENCE_SECONDS
    while True:
        try:
            return websocket.Client(port, user)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


@functools.cache
def packages():
    """Two revisions of the package, of the binaries that the tests use."""
    directory = tempfile.TemporaryDirectory()
    # Tests of other modules use them too.
    atexit.register(directory.cleanup)
    built = []
    for revision in ("1", "2"):
        command = [tree.SCRIPTS / "package.sh", "--revision", revision, "--output", directory.name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=BUILD_SECONDS_MAX, env={**os.environ, "SHARDCAST_PROFILE": scene.PROFILE})
        if done.returncode != 0:
            raise AssertionError(f"package.sh ended with {done.returncode}:\n{done.stdout}")
        built.append(Path(done.stdout.splitlines()[-1]))
    return built


if __name__ == "__main__":
    unittest.main()
