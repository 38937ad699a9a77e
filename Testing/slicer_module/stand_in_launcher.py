"""Stands in for PythonSlicer, a launcher: starts Python with what it was given, hands stdin and stdout on, waits.

python stand_in_launcher.py ARGUMENTS OF PYTHON …
"""

import subprocess
import sys

sys.exit(subprocess.run([sys.executable, *sys.argv[1:]]).returncode)
