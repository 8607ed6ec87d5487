"""Reproduce the paper's studies, its tables and figures, and others that go past them.

Prints each table, and writes JSON, CSV and PNG files and a page of all results, README.md, into --out. Ctrl-C keeps
the parts that are done, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .arguments import path, seed, writable_folder
from .claim import claimed
from .parser import Parser
from .signals import Stopped

HELP = "the paper's studies, and others"
ALL = "all"
EXTRAS = {"scipy": "science", "matplotlib": "science", "diffusers": "diffusers", "transformers": "diffusers"}
"""Libraries that studies need, and the extra that brings them."""


def add_arguments(parser: Parser) -> None:
    """The arguments of `msd reproduce`."""
    parser.add_argument("name", metavar="NAME", help="one of the studies below, or all")
    parser.add_argument("--quick", action="store_true", help="few points and steps: minutes, for a first look")
    parser.add_argument("--out", type=path, help="folder of the results (default: results, or results-quick)")
    parser.add_argument("--seed", type=seed, default=0, help="of everything random (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace what is in --out, whoever has written it")
    parser.details = _list_of_studies


def run(arguments: argparse.Namespace) -> int:
    """Check name, libraries and folder before any work, then run the studies one after the other."""
    from ..research.studies import STUDIES
    from ..research.studies.page import PAGE
    from ..validation import check_choice

    check_choice("NAME", arguments.name, (*STUDIES, ALL))
    try:
        names = _chosen(arguments.name)
        folder = writable_folder(arguments.out or Path("results-quick" if arguments.quick else "results"))
        own = PAGE, *(f"{study}.json" for study in STUDIES), *_of_studies(folder, names)
        with claimed(folder, own) as claim:
            if not arguments.force:
                claim.check_foreign("--out")
            for name in names:
                files = _reproduce(name, folder, arguments.quick, arguments.seed)
                claim.add(file.name for file in files)
    except KeyboardInterrupt as stop:
        print("msd: stopped; finished parts are kept, the same command goes on", file=sys.stderr)
        return stop.status if isinstance(stop, Stopped) else 130
    return 0


def _of_studies(folder: Path, names: Sequence[str]) -> list[str]:
    """The tables and figures in ``folder`` that a study may write over: their names begin with its own (`result`)."""
    found = sorted(path for path in folder.iterdir() if path.suffix in (".csv", ".png"))
    return [path.name for path in found if any(path.stem == name or path.stem.startswith(f"{name}-") for name in names)]


def _reproduce(name: str, folder: Path, quick: bool, seed: int) -> list[Path]:
    """Run one study, print its tables, write its files and the page; returns these."""
    from tqdm import tqdm

    from ..research.studies import run_study
    from ..research.studies.page import write_page
    from ..research.studies.result import print_table, write
    from ..research.studies.study import Context

    result = run_study(name, Context(folder, quick, seed, tqdm))
    files = write(result, folder, seed=seed, quick=quick)
    page = write_page(folder)
    for table in result.tables:
        print_table(table)
        print()
    print(f"{name}: {', '.join(file.name for file in files)}; page {page}", flush=True)
    return [*files, page]


def _chosen(name: str) -> list[str]:
    """The studies to run, all of them importable."""
    from ..research.studies import STUDIES, load_study

    try:
        modules = {n: load_study(n) for n in (STUDIES if name == ALL else [name])}
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRAS:
            raise
        raise ValueError(
            f"{library} is not installed; install what the studies need: pip install '.[{EXTRAS[library]}]'"
        ) from error
    return [n for n, module in modules.items() if name != ALL or module.IN_ALL]


def _list_of_studies() -> str:
    """Names of the studies and what they show."""
    from ..research.studies import STUDIES

    width = max(map(len, STUDIES))
    return "\n".join(["studies", *(f"  {name:<{width}}  {entry.help}" for name, entry in STUDIES.items())])
