"""`promise`: the command line. One line on stderr and exit code 2 for everything that the user can mend."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from ProMISeCore.errors import InputError, PromiseError
from ProMISeCore.terminal import say

#: Command → module, functions that add its arguments and run it, help. Only the module asked for is imported.
#: A module with a dot is another package's: the page in the browser lives beside Slicer's module, not in the core.
COMMANDS = {
    "segment": ("segment", "add_arguments", "run", "segment a volume, a series folder or a picture"),
    "demo": ("segment", "add_demo_arguments", "run_demo", "segment a generated phantom, no data needed"),
    "view": ("ProMISeView.command", "add_arguments", "run", "segment and correct in a browser"),
    "packs": ("inventory", "add_packs_arguments", "run_packs", "list packs; install and remove them"),
    "backbones": ("inventory", "add_backbones_arguments", "run_backbones", "list backbones; download and remove them"),
    "teach": ("teach", "add_arguments", "run", "teach a pack from a few segmented cases, in minutes"),
    "rank": ("rank", "add_arguments", "run", "sort unsegmented cases, the least sure first"),
    "train": ("train", "add_arguments", "run", "train a pack on your own images and labels"),
    "evaluate": ("evaluate", "add_arguments", "run", "score a pack on labelled images"),
    "import": ("inventory", "add_import_arguments", "run_import", "turn the authors' checkpoint into a pack"),
    "cache": ("inventory", "add_cache_arguments", "run_cache", "show or clear the embedding cache"),
    "bench": ("bench", "add_arguments", "run", "measure speed and memory on this machine"),
    "pretrain": ("pretrain", "add_arguments", "run", None),
}
INTERRUPTED = 130


class _Notices(logging.Handler):
    """What the package logs, said as everything else."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


class _Parser(argparse.ArgumentParser):
    """Mistakes in one line, like every other one."""

    def error(self, message: str) -> NoReturn:
        say(f"{message}; see {self.prog} --help")
        raise SystemExit(2)


def _module(name: str) -> ModuleType:
    """A command's module. Raises InputError where its package is not part of this installation."""
    if "." not in name:
        return importlib.import_module(f"ProMISeCore.{name}")
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        raise InputError("this installation has no page for the browser; use a complete checkout: pip install -e .")
    return importlib.import_module(name)


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    import ProMISeCore

    parser = _Parser(
        "promise",
        description="Promptable segmentation of medical images with a frozen SAM. Research use only.",
        epilog="promise COMMAND --help explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"promise {ProMISeCore.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, (module, arguments, _, text) in COMMANDS.items():
        shown = {"help": text, "description": text[0].upper() + text[1:] + "."} if text else {}
        command = commands.add_parser(name, **shown)
        if name == chosen:
            getattr(_module(module), arguments)(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for a mistake that can be mended, 130 when stopped."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file on Windows, a terminal of LC_ALL=C: what they lack becomes "?"
            stream.reconfigure(errors="replace")
    logger = logging.getLogger("ProMISeCore")
    if not logger.handlers:
        logger.addHandler(_Notices(logging.WARNING))
    chosen = next((word for word in argv if not word.startswith("-")), None)
    try:
        arguments = _parser(chosen).parse_args(argv)
        module, _, run, _ = COMMANDS[arguments.command]
        getattr(_module(module), run)(arguments)
        sys.stdout.flush()
        return 0
    except PromiseError as error:
        say(str(error))
    except BrokenPipeError:  # the reader of our output has gone, as in `promise packs | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:
        say(f"{error.filename or 'a file'} could not be used: {error.strerror or error}")
    except MemoryError:
        say("there is not enough memory; close other programs, crop the image, or use a pack on a smaller backbone")
    except KeyboardInterrupt:
        say("stopped; the same command goes on from what is cached")
        return INTERRUPTED
    return 2


if __name__ == "__main__":
    sys.exit(main())
