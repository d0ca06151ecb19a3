"""The image and its composition, as far as they can be tried without Docker: what the image is built from is there, and what its last stage makes runs with
what compose.yaml gives it, and under what it forbids."""

import fnmatch
import json
import os
import re
import resource
import secrets
import shutil
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import throwaway
import tree
import websocket

sys.path.insert(0, str(tree.SCRIPTS))
import scene

TOP = tree.SCRIPTS.parent
DOCKERFILE = tree.SCRIPTS / "docker/Dockerfile"
COMPOSE = tree.SCRIPTS / "docker/compose.yaml"
PYTHON = os.path.realpath(sys.executable)
LIMITS = {"memlock": resource.RLIMIT_MEMLOCK, "nofile": resource.RLIMIT_NOFILE}


def stages():
    """The stages of the Dockerfile, each as a list of instructions with their text."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    found = []
    for line in filter(None, text.splitlines()):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, rest.strip()))
    return found


def last_stage(instruction):
    """The texts of an instruction in the stage that becomes the image."""
    return [rest for name, rest in stages()[-1] if name == instruction]


def composed(key):
    """What a key of compose.yaml has: its value, or of a block each line without indentation."""
    found = re.search(rf"^( *){key}:(?: +(.+)|((?:\n\1 +.+)+))$", COMPOSE.read_text(), re.MULTILINE)
    return found[2] or [line.strip() for line in found[3].strip().splitlines() if not line.strip().startswith("#")]


def pairs(key):
    """What a key of compose.yaml has, where that is a mapping."""
    return {name: value.strip('"') for name, value in (line.split(": ") for line in composed(key))}


def ignored(path):
    """Whether .dockerignore keeps a file of the repository out: the last pattern that fits it, or a directory above it, decides."""
    out = False
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    for line in (TOP / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        # fnmatch has a star go over slashes; here it is a whole path or `**/name`.
        names = [pattern.removeprefix("**/"), pattern] if pattern.startswith("**/") else [pattern]
        if any(fnmatch.fnmatchcase(one, name) and one.count("/") == name.count("/") or pattern.startswith("**/") and fnmatch.fnmatchcase(one, f"*/{names[0]}") for one in above for name in names):
            out = not line.startswith("!")
    return out


class Image(unittest.TestCase):
    def test_what_it_is_built_from_is_there(self):
        files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=TOP, capture_output=True, text=True)
        if files.returncode != 0:
            tree.skip(f"what an image is built from, which needs git: {files.stderr.strip()}")
        sources = [file for file in files.stdout.splitlines() if not ignored(file)]
        self.assertLess(len(sources), len(files.stdout.splitlines()) / 2 + 200)
        for name in ("Cargo.toml", "Cargo.lock", "LICENSE", "engine/Cargo.toml", "shard/Cargo.toml", "bench/Cargo.toml", "engine/src/main.rs"):
            self.assertIn(name, sources)
        for name in ("README.md", "scripts/tests/test_docker.py", "bench/results/README.md", "shard/fuzz/Cargo.toml"):
            self.assertNotIn(name, sources)
        # What the compiler includes in the program.
        for source in sources:
            if source.endswith(".rs") and Path(source).name != "tests.rs":
                for included in re.findall(r"include_(?:str|bytes)!\(\s*\"([^\"]+)\"", (TOP / source).read_text()):
                    self.assertIn(os.path.normpath(Path(source).parent / included), sources, f"{source} includes it")

    def test_each_copy_has_a_source(self):
        for stage in stages():
            for rest in (rest for name, rest in stage if name == "COPY"):
                source = rest.split()[-2]
                if rest.startswith("--from=build"):
                    self.assertIn(f"cp target/release/shardcast {Path(source).parent}/", DOCKERFILE.read_text())
                else:
                    self.assertTrue((TOP / source).exists(), source)
                    self.assertFalse(source != "." and ignored(source), source)

    def test_the_compiler_is_new_enough(self):
        least = re.search(r'^rust-version = "1\.(\d+)"', (TOP / "Cargo.toml").read_text(), re.MULTILINE)[1]
        self.assertGreaterEqual(int(re.search(r"^FROM rust:1\.(\d+)-", DOCKERFILE.read_text(), re.MULTILINE)[1]), int(least))

    def test_compose_reads_the_file(self):
        if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0:
            tree.skip("compose.yaml as Docker reads it, which needs docker compose")
        done = subprocess.run(["docker", "compose", "-f", COMPOSE, "config", "--quiet"], capture_output=True, text=True, timeout=tree.PATIENCE_SECONDS)
        self.assertEqual(done.returncode, 0, done.stderr)


class Composition(unittest.TestCase):
    """The container without Docker: its processes begin as compose.yaml and the image say, on a copy of this system in place of the image's files."""

    def setUp(self):
        if missing := throwaway.what_is_missing():
            tree.skip(f"a container of the image: {missing}")
        scene.build("shardcast")
        self.system = self.enterContext(throwaway.System())
        self.token = secrets.token_hex(32)
        shutil.copy(scene.TARGET / "shardcast", self.system.path("/usr/local/bin/shardcast"))
        self.system.path("/run/secrets").mkdir()
        self.system.path("/run/secrets/admin_token").write_text(f"{self.token}\n")
        shutil.copy(tree.SCRIPTS / "tests/confined.py", self.system.path("/run/confined.py"))
        profile = next(option.split(":", 1)[1] for option in composed("security_opt") if "seccomp" in option)
        shutil.copy(COMPOSE.parent / profile, self.system.path("/run/seccomp.json"))
        for name, value in pairs("sysctls").items():
            self.system.run("sysctl", "-q", "-w", f"{name}={value}")
        # The interpreter may lie in root's home.
        self.system.run("chmod", "a+x", *Path(PYTHON).parents)
        self.system.run("mount", "-o", "remount,ro", "/")

    def begin(self, command):
        """The command line of a process of the container, which is given its limits, environment, user and capabilities, and the profile last."""
        limits = []
        for name, wanted in pairs("ulimits").items():
            hard = resource.getrlimit(LIMITS[name])[1]
            # Nobody gives more here than there is, without a capability that not every root has.
            value = hard if int(wanted) < 0 else int(wanted) if hard < 0 else min(int(wanted), hard)
            limits.append(f"--{name}={'unlimited' if value < 0 else value}")
        user, group = last_stage("USER")[0].split(":")
        self.assertIn("no-new-privileges:true", [option.strip("- ") for option in composed("security_opt")])
        self.assertEqual(composed("cap_drop"), ["- ALL"])
        drop = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        confine = [PYTHON, "-B", "/run/confined.py", "/run/seccomp.json"]
        environment = dict(text.split("=", 1) for text in last_stage("ENV")) | pairs("environment")
        words = [f"{name}={value}" for name, value in environment.items()]
        return ["prlimit", *limits, "env", *words, *drop, *confine, self.system.run("which", command[0]).stdout.strip(), *command[1:]]

    def ask(self, path, token=None):
        """The status of an answer of the admin API."""
        request = urllib.request.Request(f"http://127.0.0.1:9001{path}", headers={"Authorization": f"Bearer {token}"} if token else {})
        with self.system.network():
            try:
                with urllib.request.urlopen(request, timeout=tree.PATIENCE_SECONDS) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                error.close()
                return error.code

    def healthy(self):
        """Whether the image's health check holds."""
        command = json.loads(last_stage("HEALTHCHECK")[0].partition("CMD ")[2])
        return self.system.run(*self.begin(command), check=False).returncode == 0

    def test_it_serves_and_stops(self):
        self.assertFalse(self.healthy())
        command = json.loads(last_stage("ENTRYPOINT")[0]) + json.loads(last_stage("CMD")[0])
        server = self.system.start(*self.begin(command))
        for clean_up in (server.stdout.close, server.wait, server.kill):
            self.addCleanup(clean_up)
        printed = []
        for line in server.stdout:
            printed.append(line)
            if "listening on" in line:
                break
        else:
            self.fail(f"the server ended with {server.wait()}: {''.join(printed)}")
        self.assertTrue(self.healthy())
        process = next(int(status.parent.name) for status in self.system.path("/proc").glob("[0-9]*/status") if status.read_text().startswith("Name:\tshardcast\n"))
        status = dict(line.split(":\t", 1) for line in self.system.path(f"/proc/{process}/status").read_text().splitlines() if ":\t" in line)
        self.assertEqual((status["Uid"].split(), status["CapBnd"], status["NoNewPrivs"], status["Seccomp"]), (["10001"] * 4, "0" * 16, "1", "2"))
        self.assertEqual((self.ask("/v1/node", self.token), self.ask("/v1/node")), (200, 401))

        with self.system.network():
            ada, bob = (websocket.Client(9000, user) for user in ("ada", "bob"))
        for client in (ada, bob):
            self.addCleanup(client.close)
            client.say(type="join", room="lobby")
            client.hear("joined")
        ada.say(type="message", room="lobby", content="hello")
        self.assertEqual(bob.hear("message")["content"], "hello")

        begun = time.monotonic()
        self.system.run("kill", f"-{last_stage('STOPSIGNAL')[0].removeprefix('SIG')}", str(process))
        with self.assertRaisesRegex(ConnectionError, "closed with 1001"):
            bob.hear("never")
        output, _ = server.communicate(timeout=tree.PATIENCE_SECONDS)
        self.assertEqual(server.returncode, 0, output)
        self.assertLess(time.monotonic() - begun, int(composed("stop_grace_period").removesuffix("s")))


if __name__ == "__main__":
    unittest.main()
