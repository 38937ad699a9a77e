"""Who imports whom: lower tiers know nothing of higher ones, and nothing loads torch before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "ProMISeCore"

#: Usable before torch is installed; then networks, assembly, use, and the doors.
TIERS = {
    number: names.split()
    for number, names in enumerate([
        """__init__ errors bounds volumes reading damage dicom packs manifest backbones downloading cache corpus exports
        phantom markups contact_sheet bitmap_font nrrd terminology whole_file pairs detached palette terminal allocator
        lock versions truth survey survey_report modality commands windows failures cards learned settings
        progress doubt slice_result at_last wish case caveats colours exclusion
        held_out estimate base licences slices budget rows
        stopwatch""",
        """segment_anything_parts checkpoint frame sam tiny_vit tiny apm ips presence refiner scores devices masks
        simulate bit_masks augment fast_decoder fast_vit fast_tiny_vit
        corrections given""",
        "promise reference encoder",
        """embedder answers between segmenter smoothing dataset train training refining material decoding
        target_loss draw pretrain measures ratios cost_curves case_encoder base_pack kept draft start snapshot outcome
        new_version teaching published unet""",
        "__main__ segment evaluate inventory bench teach rank bench_teach",
    ])
}  # fmt: skip
TIER = {name: tier for tier, names in TIERS.items() for name in names}
STANDARD = set(sys.stdlib_module_names) | {"__future__"}
ALLOWED = {0: {"numpy", "scipy", "SimpleITK", "safetensors", "tqdm"}}
ALLOWED[1] = ALLOWED[0] | {"torch", "segment_anything"}
OPTIONAL = {"unet": {"monai"}}  # the extra "experiments", imported inside functions
FILES = sorted(CORE.glob("*.py"))


def imports(path: Path, lazily: bool) -> set[str]:
    """Modules imported by a file, ours as `ProMISeCore.<name>`; with those inside functions if `lazily`."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _statements(tree, lazily):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "ProMISeCore" + (f".{node.module}" if node.module else "") if node.level else node.module
            ours = {f"ProMISeCore.{alias.name}" for alias in node.names if (CORE / f"{alias.name}.py").exists()}
            found |= ours if module == "ProMISeCore" and ours else {module}
    return found


def _statements(node: ast.AST, lazily: bool):
    """What runs when the file is imported, and with `lazily` also later; not what is for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not lazily:
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _statements(child, lazily)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_has_a_tier(path: Path) -> None:
    assert path.stem in TIER, f"{path.name}: add it to a tier in this test"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_imports_its_tier_and_below(path: Path) -> None:
    tier = TIER[path.stem]
    for module in imports(path, lazily=path.stem != "__init__"):
        top, _, name = module.partition(".")
        if top == "ProMISeCore":
            assert not name or TIER[name.split(".")[0]] <= tier, f"{path.name} (tier {tier}) imports {module}"
        else:
            allowed = STANDARD | ALLOWED[min(tier, 1)] | OPTIONAL.get(path.stem, set())
            assert top in allowed, f"{path.name} (tier {tier}) imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_core_knows_no_gui(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path, lazily=True)} & {"slicer", "qt", "ctk", "vtk"}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_no_torch() -> None:
    assert run("import ProMISeCore, sys; print('torch' in sys.modules, 'SimpleITK' in sys.modules)") == "False False"


def test_tier_0_and_the_help_work_without_torch() -> None:
    present = [name for name in TIERS[0] if (CORE / f"{name}.py").exists() and name != "__init__"]
    code = f"""
import sys
sys.modules["torch"] = None  # as if it were not installed
import importlib
for name in {present!r}:
    importlib.import_module("ProMISeCore." + name)
from ProMISeCore.__main__ import main
for argv in (["--help"], ["segment", "--help"], ["packs"], ["cache"]):
    try:
        main(argv)
    except SystemExit as stop:
        assert stop.code == 0, (argv, stop.code)
print("fine")
"""
    assert run(code).endswith("fine")


def test_importing_loads_no_torchvision() -> None:
    code = "import sys; sys.modules['torchvision'] = None\nimport ProMISeCore.sam, ProMISeCore.segmenter; print('fine')"
    assert run(code) == "fine"
