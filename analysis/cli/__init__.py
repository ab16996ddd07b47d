"""The command line ``mfzoo``, built from the dataclasses of its commands."""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from analysis.cli.compare import Compare
from analysis.cli.diagnose import Diagnose
from analysis.cli.phase import Phase
from analysis.cli.priors import ListPriors
from analysis.cli.report import Report
from analysis.cli.reproduce import Reproduce
from analysis.cli.sample import Sample
from analysis.cli.solve import Solve
from analysis.cli.sweep import Sweep

Command = (
    Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Solve, tyro.conf.subcommand("solve")]
    | Annotated[Phase, tyro.conf.subcommand("phase")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Diagnose, tyro.conf.subcommand("diagnose")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[ListPriors, tyro.conf.subcommand("priors")]
)


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; exit status 0, 2 for arguments or files that will not do, 130 for Ctrl-C."""
    try:
        command = tyro.cli(Command, prog="mfzoo", args=args, config=(tyro.conf.FlagCreatePairsOff,))
        command.output.check()
        command.run()
    except ValueError as error:
        print(f"mfzoo: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mfzoo: stopped.", file=sys.stderr)
        return 130
    return 0
