"""The command line ``mfzoo``, built from the dataclasses of its commands."""

import shlex
import sys
from collections.abc import Sequence
from importlib import import_module

from analysis.cli.output import COMMAND_LINE

# Class and purpose of every command; the class is imported only where it runs.
COMMANDS = {
    "compare": ("Compare", "Run every scheme on the same problem and lay the answers side by side."),
    "solve": ("Solve", "Solve a fixed-point theory: order parameter, test MSE and every branch."),
    "phase": ("Phase", "Solve theories over a grid of noises and data sizes, and draw the phase diagram."),
    "sample": ("Sample", "Sample one posterior and diagnose it."),
    "sweep": ("Sweep", "Run schemes on every cell of a grid, in parallel, never a finished cell twice."),
    "predict": ("Predict", "Predict new rows by a run, in the units of the file that it was made from."),
    "diagnose": ("Diagnose", "Say of each result whether it can be trusted, and if not, why."),
    "report": ("Report", "Write one HTML page on one run or several side by side."),
    "reproduce": ("Reproduce", "Reproduce the experiment: sampled networks, and theories over them."),
    "priors": ("ListPriors", "List the priors with their parameters, or draw networks from them."),
    "problems": ("ListProblems", "List the named problems, and what is known of each."),
    "score": ("ScoreRuns", "Hold results against the reference posterior of a named problem."),
}


def parse(args: Sequence[str]):
    """The command of a command line, as its dataclass; ``SystemExit`` for what does not parse."""
    import tyro

    name, *options = args or [""]
    if name not in COMMANDS:
        wanted = name in ("-h", "--help")
        lines = [f"  {command:<11}{purpose}" for command, (_, purpose) in COMMANDS.items()]
        usage = ["usage: mfzoo COMMAND [OPTIONS]", "", *lines, "", "mfzoo COMMAND --help lists the options."]
        if not wanted:
            usage.append(
                f"mfzoo: error: {name!r} is no command." if name else "mfzoo: error: name a command."
            )
        print("\n".join(usage), file=sys.stdout if wanted else sys.stderr)
        raise SystemExit(0 if wanted else 2)
    command = getattr(import_module(f"analysis.cli.{name}"), COMMANDS[name][0])
    return tyro.cli(command, prog=f"mfzoo {name}", args=options, config=(tyro.conf.FlagCreatePairsOff,))


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; exit status 0, 2 for arguments or files that will not do, 130 for Ctrl-C."""
    args = sys.argv[1:] if args is None else list(args)
    if args == ["priors"]:  # nothing but the list, which needs no JAX
        from analysis.cli.prior_list import show_priors, zoo_priors

        show_priors(list(zoo_priors().values()))
        return 0
    try:
        command = parse(args)
        COMMAND_LINE.set(shlex.join(["mfzoo", *args]))
        command.output.check()
        command.run()
    except ValueError as error:
        print(f"mfzoo: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mfzoo: stopped.", file=sys.stderr)
        return 130
    return 0
