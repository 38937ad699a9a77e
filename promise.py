"""Starts ProMISe from a source checkout. The first start makes an environment of its own (a few minutes).

    python3 promise.py demo                             segment a generated heart phantom, no data needed
    python3 promise.py segment scan.nii.gz --pack heart segment a volume
    python3 promise.py view scan.nii.gz                 segment and correct it in a browser
    python3 promise.py test [pytest arguments]          set up and run the tests
    python3 promise.py COMMAND --help                   every other command of ProMISe

Environment variables:
    PROMISE_VENV    folder of the environment; .venv beside this file if not set
    PROMISE_TORCH   which PyTorch to install: a version (2.9.1), a specifier (>=2.6), a wheel's file or address, or
                    "system" to use the one that this Python already has
"""

# Only the standard library, and nothing that Python 3.6 could not parse: an old Python shall get the message below.
import hashlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TESTED_TORCH = "2.13.0"  # the version every measurement in README was made with
OLDEST_PYTHON = (3, 10)
STAMP = "promise-stamp.json"


class Failure(Exception):
    """Something the user can mend; shown as one line, exit code 2."""


def say(text: str) -> None:
    """Tells on stderr what is being done; stdout belongs to the command."""
    print("promise: " + text, file=sys.stderr, flush=True)


def check_python(version: tuple, program: str) -> None:
    """Raises Failure when `version` (major, minor, …) is older than ProMISe supports."""
    if tuple(version[:2]) < OLDEST_PYTHON:
        needed, given = (".".join(map(str, numbers[:2])) for numbers in (OLDEST_PYTHON, version))
        raise Failure(
            f"ProMISe needs Python {needed} or newer, this is Python {given} ({program}). "
            "Start it with a newer one, for example: python3.12 promise.py demo"
        )


def environment_folder(variables: dict) -> Path:
    """Where the environment is or will be: $PROMISE_VENV, else .venv beside this file; absolute."""
    chosen = variables.get("PROMISE_VENV", "").strip()
    return Path(chosen).expanduser().absolute() if chosen else ROOT / ".venv"


def environment_python(folder: Path, system: str = os.name) -> Path:
    """The environment's interpreter; `system` as os.name ("nt" on Windows)."""
    return folder / "Scripts" / "python.exe" if system == "nt" else folder / "bin" / "python"


def torch_requirement(variables: dict) -> str:
    """What pip installs as PyTorch, "" for the one the system has; from $PROMISE_TORCH, else the tested version."""
    chosen = variables.get("PROMISE_TORCH", "").strip() or TESTED_TORCH
    if chosen == "system":
        return ""
    if chosen[0].isdigit():
        return "torch==" + chosen
    return "torch" + chosen if chosen[0] in "<>=!~" else chosen


def stamp_key(root: Path, requirement: str) -> str:
    """Fingerprint of what an installation depends on: where the checkout is, its pyproject.toml, the PyTorch."""
    project = (root / "pyproject.toml").read_bytes()
    return hashlib.sha256(b"\0".join([str(root).encode(), requirement.encode(), project])).hexdigest()


def installed_extras(stamp: Path, key: str) -> "list | None":
    """Extras that a finished installation with this key has; None when there is none, or it was of something else."""
    try:
        record = json.loads(stamp.read_text(encoding="utf-8"))
        return list(record["extras"]) if record["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(stamp: Path, key: str, extras: list) -> None:
    """Records a finished installation; written to a temporary name first, so a stamp is never half there."""
    part = stamp.with_name(stamp.name + ".part")
    part.write_text(json.dumps({"key": key, "extras": sorted(extras)}), encoding="utf-8")
    os.replace(str(part), str(stamp))


def runs(command: list) -> bool:
    """True when the command can be started and succeeds."""
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def make_environment(folder: Path, system_packages: bool) -> None:
    """Makes a virtual environment in `folder`, or mends one left unfinished; Failure says what is in the way."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise Failure(f"{folder} is there but is no Python environment; move it away or set PROMISE_VENV.")
    if find_spec("ensurepip") is None:
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        raise Failure(
            "this Python cannot make environments (it lacks ensurepip). "
            f"On Debian and Ubuntu install it with: sudo apt-get install {package} (or python3-venv)."
        )
    say(f"making an environment in {folder}")
    command = [sys.executable, "-m", "venv", str(folder)]
    if system_packages:
        command.append("--system-site-packages")
    if (folder / STAMP).is_file():  # ours, and its Python is gone or broken: start over
        command.append("--clear")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        raise Failure("could not make the environment {}: {}".format(folder, " ".join(done.stdout.split())))


def pip_install(python: Path, arguments: list, remedy: str) -> None:
    """Runs pip quietly in the environment; pip's own words stay on the screen when it fails."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    if subprocess.call(command + arguments, stdout=sys.stderr) != 0:
        raise Failure(f"pip could not install {arguments[-1]} (its message is above). {remedy}")


def install(folder: Path, requirement: str, extras: list) -> None:
    """Installs PyTorch, then this checkout (editable); what an interrupted run finished is not fetched again."""
    python = environment_python(folder)
    if not runs([str(python), "-m", "pip", "--version"]):
        make_environment(folder, system_packages=not requirement)
    if requirement:
        say(f"installing {requirement} unless it is there: 0.2 GB, or 3 GB on Linux where it brings CUDA; some minutes")
        pip_install(python, [requirement], "Start again to go on; PROMISE_TORCH chooses another version or build.")
    elif not runs([str(python), "-c", "import torch"]):
        raise Failure(f"PROMISE_TORCH=system, but {python} finds no PyTorch; unset it, or install PyTorch there.")
    say("installing ProMISe and the other packages it needs, about 100 MB")
    names = "[{}]".format(",".join(sorted(extras))) if extras else ""
    pip_install(python, ["--editable", str(ROOT) + names], "Start again to go on.")


def ensure(folder: Path, variables: dict, extras: list) -> Path:
    """The interpreter of an environment that has ProMISe with at least these extras; installs only what is missing."""
    requirement = torch_requirement(variables)
    key = stamp_key(ROOT, requirement)
    python = environment_python(folder)
    present = installed_extras(folder / STAMP, key)
    if present is None or not set(extras) <= set(present) or not python.exists():
        wanted = sorted(set(extras) | set(present or []))
        install(folder, requirement, wanted)
        write_stamp(folder / STAMP, key, wanted)
        say("the environment is ready")
    return python


def ensure_for_tests(folder: Path, variables: dict) -> Path:
    """The interpreter of an environment for the tests, with Slicer's libraries and Qt where pip finds them."""
    try:
        return ensure(folder, variables, ["test", "mrml", "view", "browser"])
    except Failure as failure:
        say(f"{failure} Without slicer-core and PySide6-Essentials the tests of the Slicer module are skipped.")
        return ensure(folder, variables, ["test"])


def run_tests(python: Path, arguments: list) -> int:
    """Runs ruff, then pytest with `arguments`, both in the checkout; 0 when both pass."""
    lint = subprocess.call([str(python), "-m", "ruff", "check", "--quiet", "."], cwd=str(ROOT))
    screenless = dict(os.environ, QT_QPA_PLATFORM=os.environ.get("QT_QPA_PLATFORM", "offscreen"))
    tests = subprocess.call([str(python), "-m", "pytest"] + arguments, cwd=str(ROOT), env=screenless)
    if lint:
        say("ruff found faults, see above")
    return tests or lint


def run_core(python: Path, arguments: list) -> int:
    """Becomes `python -m ProMISeCore arguments`; on Windows waits for it, since exec would return to the prompt."""
    command = [str(python), "-m", "ProMISeCore"] + arguments
    if os.name == "nt":
        return subprocess.call(command)
    os.execv(command[0], command)


def main(arguments: list) -> int:
    """Exit code of the command; 2 for a Failure, as the command line of ProMISe does."""
    try:
        check_python(sys.version_info, sys.executable)
        if not arguments or arguments[0] in ("-h", "--help"):
            print(__doc__)
            return 0
        folder = environment_folder(os.environ)
        if arguments[0] == "test":
            return run_tests(ensure_for_tests(folder, os.environ), arguments[1:])
        extras = ["view"] if arguments[0] == "view" and not {"-h", "--help"} & set(arguments) else []
        return run_core(ensure(folder, os.environ, extras), arguments)
    except Failure as failure:
        say(str(failure))
        return 2
    except BrokenPipeError:  # the reader of the help has gone, as in `promise.py --help | head -3`
        return 0
    except OSError as error:
        say("{}: {}".format(error.filename or "system", error.strerror))
        return 2
    except KeyboardInterrupt:
        say("stopped; start again to go on")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
