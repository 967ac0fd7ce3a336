"""argparse, with wrong usage answered in one line."""

import argparse
from typing import NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """Exits with code 2 and one line, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")
