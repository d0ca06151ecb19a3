"""Reports that must pass and reports that must not. Run with `python3 -m unittest discover --start-directory engine/tests/autobahn`."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import suite

CASES = suite.Cases.load()


def good_case(case: str) -> dict:
    """What the suite reports of a case that went as it should."""
    outcome = "INFORMATIONAL" if case in CASES.informational else "OK"
    return {"behavior": outcome, "behaviorClose": outcome, "duration": 2000, "reportfile": f"{case}.json"}


def good_report(server: str, quick: bool = False) -> dict[str, dict]:
    return {case: good_case(case) for case in CASES.asked(server, quick)}


class Choice(unittest.TestCase):
    def test_all_cases_are_asked_of_the_echo(self):
        asked = CASES.asked("echo", quick=False)
        self.assertEqual((len(asked), len(set(asked))), (517, 517))
        self.assertEqual((asked[0], asked[8], asked[-1]), ("1.1.1", "1.2.1", "13.7.18"))

    def test_the_rooms_are_asked_all_that_is_not_binary(self):
        left_out = set(CASES.asked("echo", quick=False)) - set(CASES.asked("rooms", quick=False))
        self.assertEqual(len(left_out), 8 + 6 + 9 + 6 + 6 + 3 * 18)
        self.assertTrue({"1.2.8", "9.2.1", "9.8.6", "12.2.1", "12.3.18", "12.5.18"} <= left_out)
        self.assertFalse({"1.1.1", "3.5", "9.1.6", "12.1.1", "12.4.18", "13.7.18"} & left_out)

    def test_quick_has_every_rule_and_every_group(self):
        quick = CASES.asked("echo", quick=True)
        rules = [case for case in CASES.all() if int(case.split(".")[0]) <= 7]
        self.assertTrue(set(rules) < set(quick))
        self.assertEqual({case.split(".")[0] for case in quick}, {group.split(".")[0] for group in CASES.groups})

    def test_groups_are_told_apart_by_whole_numbers(self):
        self.assertTrue(suite.begins("1.1.1", "1"))
        self.assertTrue(suite.begins("1.1.1", "1.1.1"))
        self.assertFalse(suite.begins("13.1.1", "1"))
        self.assertFalse(suite.begins("9.10.1", "9.1"))

    def test_a_file_that_contradicts_itself_is_refused(self):
        text = suite.CASES_FILE.read_text(encoding="utf-8")
        for before, after in (("total = 517", "total = 516"), ('"10",', '"11",')):
            with self.subTest(after), tempfile.TemporaryDirectory() as directory:
                self.assertIn(before, text)
                file = Path(directory) / "cases.toml"
                file.write_text(text.replace(before, after), encoding="utf-8")
                with self.assertRaises(ValueError):
                    suite.Cases.load(file)


class Judgement(unittest.TestCase):
    def faults(self, change, server: str = "echo", quick: bool = False) -> list[str]:
        """The faults found in a good report after a change."""
        report = good_report(server, quick)
        change(report)
        return suite.judge(CASES, server, quick, report).faults

    def test_good_reports_pass(self):
        for server in ("echo", "rooms"):
            for quick in (False, True):
                self.assertEqual(self.faults(lambda report: None, server, quick), [])

    def test_every_other_outcome_fails_in_either_column(self):
        outcomes = ("NON-STRICT", "FAILED", "UNIMPLEMENTED", "INFORMATIONAL", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT", "new")
        for outcome in outcomes:
            for column in suite.COLUMNS:
                with self.subTest(outcome=outcome, column=column):
                    report = good_report("echo")
                    report["6.4.2"][column] = outcome
                    verdict = suite.judge(CASES, "echo", False, report)
                    self.assertEqual(verdict.faults, ["echo: cases that must be OK and are not: 1"])
                    named = [line for line in verdict.not_ok if "6.4.2" in line and outcome in line]
                    self.assertEqual(len(named), 1)

    def test_informational_cases_may_be_nothing_worse(self):
        for column in suite.COLUMNS:
            faults = self.faults(lambda report: report["7.1.6"].update({column: "FAILED"}))
            self.assertEqual(len(faults), 1)

    def test_a_case_that_did_not_run_fails(self):
        faults = self.faults(lambda report: report.pop("13.7.18"))
        self.assertEqual(faults, ["echo: 1 of 517 cases did not run: 13.7.18"])

    def test_no_report_fails(self):
        self.assertEqual(len(self.faults(dict.clear)), 1)

    def test_a_case_that_was_not_asked_for_fails(self):
        faults = self.faults(lambda report: report.update({"1.2.1": good_case("1.2.1")}), server="rooms")
        self.assertEqual(faults, ["rooms: cases ran that were not asked for: 1.2.1"])

    def test_both_columns_are_counted(self):
        report = good_report("echo")
        report["1.1.1"]["behavior"] = "NON-STRICT"
        report["1.1.2"]["behaviorClose"] = "UNCLEAN"
        verdict = suite.judge(CASES, "echo", False, report)
        self.assertEqual(verdict.counts["behavior"], {"OK": 513, "INFORMATIONAL": 3, "NON-STRICT": 1})
        self.assertEqual(verdict.counts["behaviorClose"], {"OK": 513, "INFORMATIONAL": 3, "UNCLEAN": 1})
        self.assertEqual(len(verdict.not_ok), 5)
        self.assertEqual(verdict.seconds["2"], 22)


class WholeRun(unittest.TestCase):
    """`suite.py judge` on files as the suite writes them."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.reports = Path(directory.name)

    def write(self, server: str, report: dict[str, dict]) -> None:
        directory = self.reports / server
        directory.mkdir()
        (directory / "index.json").write_text(json.dumps({server: report}), encoding="utf-8")
        for case, found in report.items():
            frames = {"2": 1, "8": 1} if CASES.is_binary(case) else {"1": 1, "8": 1}
            (directory / found["reportfile"]).write_text(json.dumps({"rxFrameStats": frames}), encoding="utf-8")

    def judge(self, *more: str, servers=("echo", "rooms")) -> tuple[int, str]:
        arguments = ["judge", "--reports", str(self.reports), "--command", "scripts/autobahn.sh", *more]
        for server in servers:
            arguments += ["--server", server]
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = suite.main(arguments)
        return code, output.getvalue()

    def test_all_well(self):
        self.write("echo", good_report("echo"))
        self.write("rooms", good_report("rooms"))
        code, text = self.judge()
        self.assertEqual(code, 0, text)
        self.assertIn("| echo, `behavior` | 517 | 517 | 514 | 0 | 3 | 0 | 0 |", text)
        self.assertIn("| rooms, `behaviorClose` | 428 | 428 | 425 | 0 | 3 | 0 | 0 |", text)
        self.assertIn("not asked the 89 whose messages are binary (1.2.*, 9.2.*", text)
        self.assertIn("It passes.", text)

    def test_one_bad_case_on_one_server(self):
        report = good_report("rooms")
        report["9.1.6"]["behaviorClose"] = "UNCLEAN"
        self.write("echo", good_report("echo"))
        self.write("rooms", report)
        code, text = self.judge()
        self.assertEqual(code, 1)
        self.assertIn("* rooms: 9.1.6 is OK, its close UNCLEAN", text)
        self.assertIn("| UNIMPLEMENTED | UNCLEAN |", text)
        self.assertNotIn("It passes.", text)

    def test_a_server_without_a_report(self):
        self.write("echo", good_report("echo"))
        code, text = self.judge()
        self.assertEqual(code, 1)
        self.assertIn("rooms: 428 of 428 cases did not run", text)

    def test_what_else_went_wrong(self):
        self.write("echo", good_report("echo"))
        code, text = self.judge("--fault", "echo: the server died", servers=["echo"])
        self.assertEqual(code, 1)
        self.assertIn("* echo: the server died", text)

    def test_a_quick_run_is_no_whole_run(self):
        self.write("echo", good_report("echo", quick=True))
        self.assertEqual(self.judge("--quick", servers=["echo"])[0], 0)
        self.assertEqual(self.judge(servers=["echo"])[0], 1)

    def test_a_list_of_binary_cases_that_is_wrong(self):
        self.write("echo", good_report("echo"))
        for case, frames in (("1.1.1", {"2": 1}), ("1.2.1", {"1": 1})):
            (self.reports / "echo" / f"{case}.json").write_text(json.dumps({"rxFrameStats": frames}), encoding="utf-8")
        code, text = self.judge(servers=["echo"])
        self.assertEqual(code, 1)
        self.assertIn("cases.toml is wrong about 1.1.1", text)
        self.assertIn("cases.toml is wrong about 1.2.1", text)


if __name__ == "__main__":
    unittest.main()
