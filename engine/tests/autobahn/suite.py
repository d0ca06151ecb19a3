"""Chooses cases of Autobahn|Testsuite, and judges the reports of a run.

    suite.py spec  --server echo --url ws://127.0.0.1:9000/ --reports DIR [--quick]
    suite.py judge --server echo --server rooms --reports DIR [--quick] [--fault TEXT] --command TEXT

`spec` prints what the suite's fuzzing client reads. `judge` prints a summary and ends with 1 unless every case that was asked for ran
and was OK. scripts/autobahn.sh calls both. Python 3.11, nothing to install.
"""

import argparse
import json
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

CASES_FILE = Path(__file__).with_name("cases.toml")

# The columns of a report: how a server answered, and how the connection ended.
COLUMNS = ("behavior", "behaviorClose")

# Outcomes that a summary always counts. The suite knows a few more for the end of a connection, such as UNCLEAN; they are
# counted where they occur.
OUTCOMES = ("OK", "NON-STRICT", "INFORMATIONAL", "FAILED", "UNIMPLEMENTED")

# The opcode of a binary frame (RFC 6455 section 5.2), as the reports write it.
BINARY_OPCODE = "2"


def number(case: str) -> tuple[int, ...]:
    """The parts of a case's name, to sort by."""
    return tuple(int(part) for part in case.split("."))


def begins(case: str, group: str) -> bool:
    """Whether a case is the one named, or one of the group named."""
    return f"{case}.".startswith(f"{group}.")


@dataclass
class Cases:
    """What `cases.toml` says."""

    release: str
    total: int
    informational: list[str]
    binary: list[str]
    quick: list[str]
    groups: dict[str, int]

    @classmethod
    def load(cls, path: Path = CASES_FILE) -> "Cases":
        """Reads the file, and refuses one that contradicts itself."""
        cases = cls(**tomllib.loads(path.read_text(encoding="utf-8")))
        if len(cases.all()) != cases.total:
            raise ValueError(f"the groups have {len(cases.all())} cases, not {cases.total}")
        for group in cases.informational + cases.binary + cases.quick:
            if not any(begins(case, group) for case in cases.all()):
                raise ValueError(f"there is no case {group}")
        return cases

    def all(self) -> list[str]:
        """Every case of the suite, in order."""
        return [f"{group}.{last + 1}" for group, count in self.groups.items() for last in range(count)]

    def is_binary(self, case: str) -> bool:
        """Whether the case's messages are binary."""
        return any(begins(case, group) for group in self.binary)

    def asked(self, server: str, quick: bool) -> list[str]:
        """The cases that a server is asked, in order."""
        return [
            case
            for case in self.all()
            if not (server == "rooms" and self.is_binary(case))
            and (not quick or any(begins(case, group) for group in self.quick))
        ]


@dataclass
class Verdict:
    """What the reports say of one server."""

    server: str
    asked: int
    ran: int
    # For each column, how many cases had which outcome.
    counts: dict[str, Counter[str]]
    # Seconds that each group took, by the first part of its number.
    seconds: dict[str, float]
    # A line for each case that was not OK, whether that is permitted or not.
    not_ok: list[str] = field(default_factory=list)
    # Why the run does not pass; empty where it does.
    faults: list[str] = field(default_factory=list)


def judge(cases: Cases, server: str, quick: bool, report: dict[str, dict]) -> Verdict:
    """Compares the report on one server with what was asked of it."""
    asked = cases.asked(server, quick)
    seconds: Counter[str] = Counter()
    for case, found in report.items():
        seconds[case.split(".")[0]] += found["duration"] / 1000
    verdict = Verdict(
        server=server,
        asked=len(asked),
        ran=len(report),
        counts={column: Counter(found[column] for found in report.values()) for column in COLUMNS},
        seconds=dict(sorted(seconds.items(), key=lambda group: number(group[0]))),
    )
    if missing := [case for case in asked if case not in report]:
        verdict.faults.append(f"{server}: {len(missing)} of {len(asked)} cases did not run: {', '.join(missing)}")
    if strangers := [case for case in report if case not in asked]:
        verdict.faults.append(f"{server}: cases ran that were not asked for: {', '.join(strangers)}")
    bad = 0
    for case in sorted(report, key=number):
        outcomes = [report[case][column] for column in COLUMNS]
        if outcomes == ["OK", "OK"]:
            continue
        line = f"{server}: {case} is {outcomes[0]}, its close {outcomes[1]}"
        verdict.not_ok.append(line)
        permitted = {"OK", "INFORMATIONAL"} if case in cases.informational else {"OK"}
        bad += not permitted.issuperset(outcomes)
    if bad:
        verdict.faults.append(f"{server}: cases that must be OK and are not: {bad}")
    return verdict


def mistaken_kinds(cases: Cases, report: dict[str, dict], directory: Path) -> list[str]:
    """Where `binary` is wrong: an echo answers a binary message with binary frames, and nothing else with any."""
    faults = []
    for case, found in report.items():
        if found["behavior"] != "OK":
            continue
        frames = json.loads((directory / found["reportfile"]).read_text(encoding="utf-8"))["rxFrameStats"]
        if (BINARY_OPCODE in frames) != cases.is_binary(case):
            faults.append(f"cases.toml is wrong about {case}: the echo's answer has the frames {frames}")
    return faults


def load_report(directory: Path, server: str) -> dict[str, dict]:
    """What the suite's index says of a server: nothing where it wrote none."""
    index = directory / "index.json"
    if not index.exists():
        return {}
    return json.loads(index.read_text(encoding="utf-8")).get(server, {})


def outcome_columns(verdicts: list[Verdict]) -> list[str]:
    """The outcomes that the table has a column for."""
    seen = {outcome for verdict in verdicts for counts in verdict.counts.values() for outcome in counts}
    return list(OUTCOMES) + sorted(seen - set(OUTCOMES))


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table. Its first column is text, the others are numbers."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return [f"| {' | '.join(row)} |" for row in [head, rule, *rows]]


def summary(cases: Cases, verdicts: list[Verdict], faults: list[str], command: str) -> str:
    """The summary in Markdown."""
    outcomes = outcome_columns(verdicts)
    lines = [f"# Autobahn|Testsuite {cases.release}", "", f"Made by `{command}`.", ""]
    lines += table(
        ["server, column", "asked", "ran", *outcomes],
        [
            [f"{verdict.server}, `{column}`", str(verdict.asked), str(verdict.ran)]
            + [str(verdict.counts[column][outcome]) for outcome in outcomes]
            for verdict in verdicts
            for column in COLUMNS
        ],
    )
    informational = ", ".join(cases.informational)
    lines += ["", f"The suite defines {informational} as INFORMATIONAL, whatever a server does. Nothing is excluded for `echo`."]
    if any(verdict.server == "rooms" for verdict in verdicts):
        binary = [case for case in cases.all() if cases.is_binary(case)]
        groups = ", ".join(f"{group}.*" for group in cases.binary)
        lines.append(
            f"`rooms` speaks text alone: of all {cases.total} cases it is not asked the {len(binary)} whose messages are binary ({groups})."
        )
    lines += ["", "Not OK:", ""]
    lines += [f"* {line}" for verdict in verdicts for line in verdict.not_ok] or ["* none"]
    groups = sorted({group for verdict in verdicts for group in verdict.seconds}, key=number)
    lines += ["", "Seconds that the cases took, most of them the suite's own:", ""]
    lines += table(
        ["server", *[f"group {group}" for group in groups], "together"],
        [
            [verdict.server]
            + [f"{verdict.seconds.get(group, 0):.0f}" for group in groups]
            + [f"{sum(verdict.seconds.values()):.0f}"]
            for verdict in verdicts
        ],
    )
    lines += ["", "It does not pass:", "", *[f"* {fault}" for fault in faults]] if faults else ["", "It passes."]
    return "\n".join(lines) + "\n"


def spec(cases: Cases, options: argparse.Namespace) -> str:
    """What the fuzzing client reads."""
    return json.dumps(
        {
            "outdir": options.reports,
            "servers": [{"agent": options.server, "url": options.url}],
            "cases": cases.asked(options.server, options.quick),
        },
        indent=2,
    )


def judge_all(cases: Cases, options: argparse.Namespace) -> int:
    """Prints the summary of all servers; the exit code."""
    verdicts, faults = [], list(options.fault)
    for server in options.server:
        directory = Path(options.reports) / server
        report = load_report(directory, server)
        verdicts.append(judge(cases, server, options.quick, report))
        faults += verdicts[-1].faults
        if server == "echo":
            faults += mistaken_kinds(cases, report, directory)
    print(summary(cases, verdicts, faults, options.command), end="")
    return 1 if faults else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="action", required=True)
    for_spec = commands.add_parser("spec", help="print what the fuzzing client reads")
    for_spec.add_argument("--server", choices=("echo", "rooms"), required=True)
    for_spec.add_argument("--url", required=True)
    for_judge = commands.add_parser("judge", help="print a summary; end with 1 unless all is well")
    for_judge.add_argument("--server", choices=("echo", "rooms"), action="append", required=True)
    for_judge.add_argument("--fault", action="append", default=[], help="what else went wrong")
    for_judge.add_argument("--command", required=True, help="what made the reports")
    for each in (for_spec, for_judge):
        each.add_argument("--reports", required=True, help="directory of the reports; for judge, of all servers'")
        each.add_argument("--quick", action="store_true", help="only the quick cases")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Does what the command line says; the exit code."""
    options, cases = parse(arguments), Cases.load()
    if options.action == "spec":
        print(spec(cases, options))
        return 0
    return judge_all(cases, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
