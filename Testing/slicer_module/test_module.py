"""The module's files against each other, without Slicer, Qt or torch; and how the module loads, in the test double."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "ProMISeSlicer"
LIBRARY = MODULE / "ProMISeSlicerLib"
MAIN = MODULE / "ProMISeSlicer.py"
SOURCES = [MAIN, *sorted(LIBRARY.glob("*.py"))]
PANEL = ElementTree.parse(MODULE / "Resources" / "UI" / "ProMISeSlicer.ui").getroot()
WIDGETS = {widget.get("name"): widget for widget in PANEL.iter("widget")}
#: Widget classes of the panel that are not Qt's, with their properties, read from the C++ headers of CTK and Slicer.
FOREIGN = {
    "ctkCollapsibleButton": "text collapsed collapsedHeight flat contentsFrameShape",
    "ctkDirectoryButton": "directory caption text icon options acceptMode elideMode",
    "qMRMLWidget": "",
    "qMRMLNodeComboBox": "currentNodeID nodeTypes showHidden showChildNodeTypes hideChildNodeTypes baseName "
    "noneEnabled addEnabled removeEnabled editEnabled renameEnabled selectNodeUponCreation noneDisplay",
}
QWIDGET = "toolTip enabled visible geometry minimumSize maximumSize font"


def cmake_list(name: str) -> set[str]:
    listing = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8").replace("${MODULE_NAME}", "ProMISeSlicer")
    return set(re.search(rf"set\({name}\s([^)]*)\)", listing).group(1).split())


def properties(widget: ElementTree.Element) -> dict[str, str]:
    return {entry.get("name"): "".join(entry.itertext()).strip() for entry in widget.findall("property")}


def parameters() -> dict[str, str]:
    """Members of the parameter node, with their annotations."""
    found = next(n for n in ast.walk(ast.parse(MAIN.read_text())) if getattr(n, "name", "").endswith("ParameterNode"))
    return {n.target.id: ast.unparse(n.annotation) for n in found.body if isinstance(n, ast.AnnAssign)}


def file_scope_imports(path: Path) -> set[str]:
    nodes = [n for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, (ast.Import, ast.ImportFrom))]
    names = [name.name for n in nodes if isinstance(n, ast.Import) for name in n.names]
    names += [n.module for n in nodes if isinstance(n, ast.ImportFrom) and not n.level]
    return {name.split(".")[0] for name in names}


def test_cmake_lists_every_file() -> None:
    assert cmake_list("MODULE_PYTHON_SCRIPTS") == {path.relative_to(MODULE).as_posix() for path in SOURCES}
    resources = [path for path in (MODULE / "Resources").rglob("*") if path.is_file()]
    assert cmake_list("MODULE_PYTHON_RESOURCES") == {path.relative_to(MODULE).as_posix() for path in resources}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_loading_a_file_loads_nothing_heavy(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) | {"__future__", "slicer", "vtk", "qt", "ctk", "numpy"}
    assert file_scope_imports(path) <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_only_the_environment_names_the_core(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = [getattr(node, "module", None) or node.names[0].name for node in nodes]
    assert not [name for name in names if name.startswith(("ProMISeCore", "segment_anything"))]
    if path.stem != "upkeep":  # the installation check, on request
        assert not [name for name in names if name.split(".")[0] == "torch"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_isinstance_on_widgets(path: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    checked = [ast.unparse(n.args[1]) for n in calls if ast.unparse(n.func) == "isinstance"]
    assert not [name for name in checked if re.match(r"qt\.|ctk\.|slicer\.q", name)]


def test_the_main_file_only_wires() -> None:
    tree = ast.parse(MAIN.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert len(MAIN.read_text(encoding="utf-8").splitlines()) <= 450
    assert not [f.name for f in functions if f.end_lineno - f.lineno > 25]
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert {"ProMISeSlicer" + part for part in ("", "ParameterNode", "Widget", "Logic", "Test")} <= classes


def test_names_in_the_panel_are_unique() -> None:
    names = [element.get("name") for element in PANEL.iter() if element.tag in ("widget", "layout", "spacer")]
    assert len(names) == len(set(names))


def test_panel_uses_known_classes_and_properties() -> None:
    for name, widget in WIDGETS.items():
        kind = widget.get("class")
        if kind in FOREIGN:
            unknown = set(properties(widget)) - set(f"{FOREIGN[kind]} {QWIDGET} SlicerParameterName".split())
            assert not unknown, f"{name}: {kind} has no {unknown}"
        else:
            assert kind.startswith("Q")


def test_parameter_names_of_the_panel_exist() -> None:
    bound = {properties(w)["SlicerParameterName"] for w in WIDGETS.values() if "SlicerParameterName" in properties(w)}
    assert bound == {"inputVolume", "slices", "segmentation", "propagateCount", "propagateDirection"}
    assert bound <= set(parameters())


def test_every_control_has_a_tooltip() -> None:
    others = ("QLabel", "qMRMLWidget", "ctkCollapsibleButton")
    controls = [name for name, widget in WIDGETS.items() if widget.get("class") not in others]
    assert [name for name in controls if not properties(WIDGETS[name]).get("toolTip")] == []


def test_objects_used_in_the_code_are_in_the_panel() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    used = set(re.findall(r"\bui\.(\w+)", code))
    buttons = set(re.findall(r'"(\w+)"', re.search(r"_BUTTONS = \(([^)]*)\)", code).group(1)))
    assert used | {name + "Button" for name in buttons} <= set(WIDGETS)
    assert {n for n, w in WIDGETS.items() if w.get("class") == "QPushButton"} <= used | {b + "Button" for b in buttons}


def test_mrml_widgets_get_the_scene() -> None:
    receivers = {c.findtext("receiver") for c in PANEL.iter("connection") if "mrmlSceneChanged" in c.findtext("signal")}
    assert receivers == {name for name, w in WIDGETS.items() if w.get("class") == "qMRMLNodeComboBox"}


def test_requirements_have_lower_bounds_and_no_torch() -> None:
    lines = (MODULE / "Resources" / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted and all(re.fullmatch(r"[\w-]+>=[\d.]+", line) for line in wanted)
    assert not [line for line in wanted if line.startswith(("torch", "numpy", "SimpleITK", "scipy"))]


def test_icon_is_the_extensions() -> None:
    assert (MODULE / "Resources/Icons/ProMISeSlicer.png").read_bytes() == (ROOT / "ProMISeSlicer.png").read_bytes()


def test_no_test_folder_is_called_slicer() -> None:
    """The wheel slicer-core takes any folder `slicer` on the path without __init__.py for a part of itself."""
    assert not (ROOT / "Testing" / "slicer").exists()


# In the test double


def test_module_tells_what_it_is_and_registers_its_sample_data(module) -> None:
    import slicer
    from SampleData import SampleDataLogic

    parent = type("Parent", (), {"path": str(MAIN)})()
    module.ProMISeSlicer(parent)
    assert (parent.title, parent.categories) == ("ProMISe", ["Segmentation"])
    assert "Research use only" in parent.helpText
    SampleDataLogic.sources.clear()
    slicer.app.fire("startupCompleted()")
    phantom, head = SampleDataLogic.sources
    assert Path(phantom["thumbnailFileName"]).is_file()
    (node,) = phantom["customDownloader"](None)
    assert node.GetImageData().GetDimensions() == (256, 216, 10)
    algorithm, _, digest = head["checksums"].partition(":")
    assert algorithm == "SHA256" and re.fullmatch("[0-9a-f]{64}", digest) and head["uris"].endswith(digest)


def test_the_sample_from_the_network_is_slicers_own(module) -> None:
    """Address and SHA-256 as in Slicer's sources."""
    from ProMISeSlicerLib import samples

    source = Path(os.environ.get("SLICER_SRC", ""), "Modules", "Scripted", "SampleData", "SampleData.py")
    if not os.environ.get("SLICER_SRC") or not source.is_file():
        pytest.skip("SLICER_SRC does not name a checkout of Slicer's sources with its module Sample Data")
    import slicer

    text = source.read_text(encoding="utf-8")
    entry = text[text.index('("MRHead"') :].split("),", 1)[0]
    assert f"SHA256:{samples.HEAD_SHA256}" in entry
    assert samples.HEAD_URL == slicer.util.TESTING_DATA_URL + "SHA256/" + samples.HEAD_SHA256


def test_sample_data_registers_in_slicer_5_10(module, monkeypatch) -> None:
    from SampleData import SampleDataLogic

    monkeypatch.delattr(SampleDataLogic, "registerCustomSampleDataCategory")
    monkeypatch.setattr(SampleDataLogic, "sources", [])
    monkeypatch.setattr(SampleDataLogic, "categories", {})
    module.registerSampleData()
    found = [(source["category"], source["sampleName"]) for source in SampleDataLogic.sources]
    assert found == [("ProMISe", "ProMISeHeartPhantom"), ("ProMISe", "MRHead")]
    assert SampleDataLogic.categories == {}


def test_opening_the_module_loads_no_torch(module) -> None:
    code = f"""
import sys, pathlib
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT)!r}]
import slicer_double, tempfile
with slicer_double.running(pathlib.Path({str(MAIN)!r}), pathlib.Path(tempfile.mkdtemp())) as loaded:
    widget = loaded.ProMISeSlicerWidget()
    assert not widget.run.timer.active
    print(sorted({{"torch", "segment_anything", "SimpleITK"}} & set(sys.modules)))
    widget.cleanup()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[]")


def test_self_tests_pass(module) -> None:
    """ProMISeSlicerTest, unchanged, as ctest runs it in Slicer."""
    import unittest

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(module.ProMISeSlicerTest)
    result = unittest.TestResult()
    suite.run(result)
    assert result.testsRun >= 3
    assert [trace for _, trace in result.errors + result.failures] == []


# The double itself refuses what PythonQt refuses


def test_the_double_is_strict(module) -> None:
    import qt
    import slicer

    button = qt.QPushButton("text")
    assert button.text == "text"
    with pytest.raises(TypeError):
        button.text()
    with pytest.raises(AttributeError):
        button.enable = False
    with pytest.raises(AttributeError):
        slicer.qMRMLNodeComboBox().currentNodeId = "x"
    with pytest.raises(RuntimeError):
        button.connect("clickd()", print)
    node = module.ProMISeSlicerLogic().getParameterNode()
    with pytest.raises((AttributeError, ValueError)):
        node.propagateCount = 1000


def test_qt_loses_no_references_to_none(module) -> None:
    """PySide6 6.12.0 lost one in every call, so that Python before 3.12 ended in the middle of some later test."""
    import sys

    import slicer

    before = sys.getrefcount(None)
    for _ in range(1000):
        slicer.app.processEvents()
    assert before - sys.getrefcount(None) < 100, "this PySide6 cannot be used: exclude its version in pyproject.toml"
