"""The walk-through of the README, step by step as it stands there: on a copy of this system that is thrown away, with a browser and a terminal."""

import os
import re
import shutil
import subprocess
import time
import unittest
from pathlib import Path

import test_package
import throwaway
import tree

ROOT = tree.SCRIPTS.parent
DASHBOARD = ROOT / "engine/dashboard"
# Where the README has people look.
PAGE = "http://127.0.0.1:9001/"
SCREEN = ("-x", "100", "-y", "30")


def steps():
    """The commands of each step of the README, in the order of the blocks."""
    section = (ROOT / "README.md").read_text().split("\n## A walk-through\n")[1].split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def what_is_missing():
    for tool, package in (("tmux", "tmux"), ("curl", "curl"), ("node", "nodejs"), (os.environ.get("CHROMIUM", "chromium"), "chromium")):
        if not shutil.which(tool):
            return f"{tool} is missing: install {package}"
    if not (DASHBOARD / "node_modules/.bin/playwright").exists():
        return "scripts/dashboard.sh has not installed what the dashboard's tests need"
    return None


class Terminal:
    """A terminal in which a command of the README runs."""

    def __init__(self, system, name, command):
        self.system, self.name = system, name
        self.tmux("new-session", "-d", "-s", name, *SCREEN, command)

    def tmux(self, *arguments):
        return self.system.run("env", "TERM=xterm-256color", "tmux", "-L", "walk", *arguments).stdout

    def type(self, text):
        self.tmux("send-keys", "-t", f"={self.name}:", "-l", text)
        self.tmux("send-keys", "-t", f"={self.name}:", "Enter")

    def screen(self):
        return self.tmux("capture-pane", "-p", "-t", f"={self.name}:")

    def wait_for(self, *patterns):
        """Until the screen shows all of it."""
        end = time.monotonic() + tree.PATIENCE_SECONDS
        while True:
            screen = self.screen()
            if all(re.search(pattern, screen) for pattern in patterns):
                return screen
            if time.monotonic() > end:
                raise AssertionError(f"{patterns} did not come to the screen of {self.name}:\n{screen}")
            time.sleep(0.1)


class Walkthrough(unittest.TestCase):
    def setUp(self):
        if missing := throwaway.what_is_missing(throwaway.SYSTEMD) or test_package.what_is_missing() or what_is_missing():
            tree.skip(f"the walk-through of the README: {missing}")
        self.system = self.enterContext(throwaway.System(throwaway.SYSTEMD))

    def bash(self, commands):
        """Runs commands as the README has them, as root: the system has no need of sudo."""
        return self.system.run("bash", "-euo", "pipefail", "-c", commands.replace("sudo ", "")).stdout

    def browser(self):
        """Two windows that chat, in the network of the system; they are open until somebody says goodbye."""
        with self.system.network():
            command = ["node_modules/.bin/playwright", "test", "--project", "walkthrough"]
            environment = {**os.environ, "SHARDCAST_PAGE": PAGE}
            browser = subprocess.Popen(command, cwd=DASHBOARD, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(browser.stdout.close)
        self.addCleanup(browser.wait)
        self.addCleanup(browser.kill)
        return browser

    def test_each_step_does_what_it_says(self):
        install, chat, publish, top, metrics, remove = steps()

        build, install = install.splitlines()
        self.assertEqual(build, "scripts/package.sh")
        package = self.system.path("/run/shardcast.deb")
        shutil.copy(test_package.packages()[0], package)
        self.bash(install.replace("./target/debian/shardcast_*.deb", "/run/shardcast.deb"))
        self.bash(f"for _ in $(seq 100); do curl --silent --fail {PAGE}healthz && exit; sleep 0.1; done; exit 1")

        browser = self.browser()
        cleo = Terminal(self.system, "chat", chat.strip())
        # What was said before it came, and who is there.
        cleo.wait_for("hello from the first window", "hello from the second window", "ada")
        cleo.type("hello from the terminal")
        cleo.wait_for("hello from the terminal")
        self.bash(publish)
        cleo.wait_for("The kettle is on", "Two minutes")

        watch = Terminal(self.system, "top", top.strip())
        # Rooms are counted while somebody looks.
        cleo.type("is anybody still there?")
        watch.wait_for(r"connections ─+ 3 ", r"busiest rooms", r"lobby +\d")
        deliveries = re.findall(r'shard="\d+"} (\d+)$', self.bash(metrics), re.MULTILINE)
        self.assertGreater(sum(map(int, deliveries)), 0)

        cleo.type("goodbye")
        output, _ = browser.communicate(timeout=tree.PATIENCE_SECONDS)
        self.assertEqual(browser.returncode, 0, output)
        cleo.type("/quit")

        for command in remove.splitlines():
            self.bash(command)
        self.assertFalse(self.system.path("/usr/bin/shardcast").exists())
        self.assertFalse(self.system.path("/etc/shardcast").exists())


if __name__ == "__main__":
    unittest.main()
