"""The `msd` command: parses the arguments, runs one command, and turns bad input into one line.

Exit status: 0 done; 2 bad input, with one line on stderr, ``msd: error: …``; 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence

from . import compare, distill, render, reproduce, sample, train_demo
from .parser import Parser

COMMANDS = {
    "distill": distill,
    "sample": sample,
    "render": render,
    "compare": compare,
    "train-demo": train_demo,
    "reproduce": reproduce,
}


def make_parser() -> Parser:
    """The parser of all commands; a command's own arguments are added when it is chosen."""
    parser = Parser(prog="msd", description="Mean-Shift Distillation: from a prompt to a neural image.")
    version = importlib.metadata.version("mean-shift-distillation")
    parser.add_argument("--version", action="version", version=f"msd {version}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        layout = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__, formatter_class=layout)
        command.fill = module.add_arguments
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        parsed = make_parser().parse_args(arguments)
        return COMMANDS[parsed.command].run(parsed)
    except (ValueError, OSError) as error:
        print(f"msd: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"msd: error: {error}; install what the command line needs: pip install '.[headless]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("msd: stopped; nothing was kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
