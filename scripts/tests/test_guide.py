"""That the guide explains what the table sets, and names only what is there."""

import re
import unittest

import tree

GUIDE = (tree.SCRIPTS.parent / "kernel-tuning.md").read_text()


class Guide(unittest.TestCase):
    def test_every_setting_of_the_table_is_explained(self):
        rows = [line.split() for line in (tree.SCRIPTS / "settings.table").read_text().splitlines() if line and not line.startswith("#")]
        self.assertGreater(len(rows), 10)
        for setting, *_ in rows:
            name = re.sub(r"\[\d\]$", "", setting)
            self.assertIn(f"`{name}`", GUIDE, f"{name} stands in settings.table")

    def test_scripts_and_pages_that_it_names_are_there(self):
        named = set(re.findall(r"scripts/[\w.-]*\w", GUIDE)) | set(re.findall(r"\]\((bench/[^)#]+)", GUIDE))
        self.assertGreater(len(named), 5)
        for path in sorted(named):
            self.assertTrue((tree.SCRIPTS.parent / path).exists(), path)


if __name__ == "__main__":
    unittest.main()
