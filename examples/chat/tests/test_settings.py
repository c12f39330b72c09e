"""What a deployment gives through its environment."""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from django.core.exceptions import ImproperlyConfigured
from django.test import SimpleTestCase

from chatsite.environment import key_from_file, read, read_flag, read_list


class EnvironmentTests(SimpleTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_a_value_comes_from_the_variable_the_file_or_the_default(self) -> None:
        (self.folder / "secret").write_text("from the file\n")
        with mock.patch.dict(os.environ, {"PLAIN": "given", "FILED_FILE": str(self.folder / "secret")}):
            self.assertEqual(
                [read("PLAIN"), read("FILED"), read("MISSING", "default")], ["given", "from the file", "default"]
            )

    def test_a_value_and_its_file_together_are_an_error(self) -> None:
        with (
            mock.patch.dict(os.environ, {"KEY": "a", "KEY_FILE": "/b"}),
            self.assertRaisesMessage(ImproperlyConfigured, "KEY and KEY_FILE are both set"),
        ):
            read("KEY")

    def test_a_missing_or_empty_file_is_an_error_that_names_it(self) -> None:
        empty = self.folder / "empty"
        empty.touch()
        for path, words in ((self.folder / "none", "can't be read"), (empty, "is empty")):
            with (
                mock.patch.dict(os.environ, {"KEY_FILE": str(path)}),
                self.assertRaisesMessage(ImproperlyConfigured, words),
            ):
                read("KEY")

    def test_lists_take_commas_and_blanks(self) -> None:
        with mock.patch.dict(os.environ, {"HOSTS": "a.example, b.example c.example"}):
            self.assertEqual(read_list("HOSTS"), ["a.example", "b.example", "c.example"])

    def test_a_flag_that_is_neither_yes_nor_no_is_an_error(self) -> None:
        with mock.patch.dict(os.environ, {"DEBUG_A": "True", "DEBUG_B": "maybe"}):
            self.assertIs(read_flag("DEBUG_A"), True)
            with self.assertRaisesMessage(ImproperlyConfigured, "write 1 or 0"):
                read_flag("DEBUG_B")

    def test_processes_that_start_together_agree_on_one_private_key(self) -> None:
        path = self.folder / "new" / "secret-key"
        with ThreadPoolExecutor(8) as pool:
            keys = set(pool.map(key_from_file, [path] * 16))
        self.assertEqual(len(keys), 1)
        self.assertGreater(len(keys.pop()), 50)
        self.assertEqual(path.stat().st_mode & 0o077, 0)
        self.assertEqual([each.name for each in path.parent.iterdir()], ["secret-key"])
