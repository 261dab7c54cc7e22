"""`python -m inference.script describe PATH [--says JSON] [-- WORDS]`: one JSON document on stdout.

Exit code 2 with a message for a script or a command line that cannot be taken.
"""

import argparse
import json
import sys

from inference.environment import ConfigurationError
from inference.script.arguments import BadArgument, UnsupportedParser
from inference.script.describe import describe


def main() -> int:
    own, words = _split(sys.argv[1:])
    parser = argparse.ArgumentParser(prog="python -m inference.script")
    parser.add_argument("command", choices=["describe"])
    parser.add_argument("path")
    parser.add_argument("--says", type=json.loads, default={})
    options = parser.parse_args(own)
    try:
        found = describe(options.path, words, options.says)
    except (ConfigurationError, UnsupportedParser, BadArgument) as error:
        print(f"muster: {error}", file=sys.stderr)  # noqa: T201
        return 2
    json.dump(found, sys.stdout)
    return 0


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
