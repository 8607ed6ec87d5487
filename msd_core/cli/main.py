"""The `msd` command: parses the arguments, runs one command, and turns bad input into one line.

Exit status: 0 done; 2 bad input, with one line on stderr, ``msd: error: …``; 130 stopped with Ctrl-C, 143 by SIGTERM;
141 nobody reads what is printed.

torch is imported after `patient_threads`: its threads then spin only briefly while they wait for each other, and sleep.
24 steps of `msd distill` on two cores, idle and beside two other jobs: 6.4 and 18.6 s with 10,000 turns; 6.6 and 129 s
with OpenMP's own choice; 16.5 and 15.4 s without spinning; 9.0 and 16.0 s on one thread.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence

from . import bench, compare, distill, edit, fit, inpaint, invert, render, reproduce, restore, sample, sweep, train_demo
from .parser import Parser
from .signals import Stopped, signals
from .streams import GONE, complain, reliable_streams

COMMANDS = {
    "distill": distill,
    "sample": sample,
    "fit": fit,
    "render": render,
    "edit": edit,
    "inpaint": inpaint,
    "restore": restore,
    "invert": invert,
    "compare": compare,
    "train-demo": train_demo,
    "reproduce": reproduce,
    "sweep": sweep,
    "bench": bench,
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


def patient_threads() -> None:
    """Let OpenMP's threads spin only briefly while they wait, unless the user has said how they are to wait."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ |= {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Without ``arguments`` they are the process's, and it ends with them."""
    patient_threads()
    try:
        with reliable_streams(), signals.watched(to_the_end=arguments is None):
            return _run(arguments)
    except BrokenPipeError:
        return GONE
    except OSError as error:  # of stdout itself, at the end
        with reliable_streams():
            complain(f"standard output cannot be written ({error.strerror}); lead it elsewhere")
        return 2


def _run(arguments: Sequence[str] | None) -> int:
    """Run one command; what it refuses becomes one line."""
    try:
        parsed = make_parser().parse_args(arguments)
        return COMMANDS[parsed.command].run(parsed)
    except (ValueError, OSError) as error:
        complain(str(error))
        return 2
    except ModuleNotFoundError as error:
        complain(f"{error}; install what the command line needs: pip install '.[headless]'")
        return 2
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "alloc" not in str(error):
            raise
        complain("not enough memory for what was asked; lower sizes and numbers")
        return 2
    except KeyboardInterrupt as stop:
        print("msd: stopped; nothing was kept", file=sys.stderr)
        return stop.status if isinstance(stop, Stopped) else 130


if __name__ == "__main__":
    sys.exit(main())
