"""Installing, settings and the installation check, in the test double."""

from __future__ import annotations

import numpy as np
import pytest


def test_nothing_is_installed_while_testing(opened, monkeypatch) -> None:
    from ProMISeSlicerLib import environment

    panel = opened(engine=None)
    monkeypatch.setattr(environment, "missing", lambda: list(environment.REQUIREMENTS[:1]))
    panel.click("segmentButton")
    assert "PyTorch (0.2 to 3 GB)" in panel.status and panel.widget.session is None


@pytest.mark.parametrize("agrees", [True, False])
@pytest.mark.parametrize("packaging", [True, False])
def test_what_is_missing_is_asked_for_once_with_sizes(opened, monkeypatch, agrees: bool, packaging: bool) -> None:
    import sys
    import types

    import slicer
    from ProMISeSlicerLib import environment

    asked, done = [], []
    panel = opened(engine=None)
    logic = type("PyTorchUtilsLogic", (), {"installTorch": lambda self, **how: done.append(("torch", how)) or True})
    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = logic
    installer = types.ModuleType("slicer.packaging")
    installer.load_requirements = lambda path: path
    installer.pip_ensure = lambda wanted, **how: done.append(("ensure", how["prompt_install"]))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    monkeypatch.setitem(sys.modules, "slicer.packaging", installer if packaging else None)
    monkeypatch.setattr(slicer, "packaging", installer, raising=False)
    if not packaging:
        monkeypatch.delattr(slicer, "packaging")
    monkeypatch.setattr(environment, "missing", lambda: list(environment.REQUIREMENTS))
    monkeypatch.setattr(slicer.app, "testingEnabled", lambda: False)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: asked.append(text) or agrees)
    monkeypatch.setattr(slicer.util, "pip_install", lambda line: done.append(("pip", line.split(">")[0])))
    panel.click("segmentButton")
    assert len(asked) == 1 and "PyTorch (0.2 to 3 GB)" in asked[0]
    names = [name for name, _ in done]
    assert names == ([] if not agrees else ["torch", "ensure"] if packaging else ["torch", "pip", "pip"])
    if agrees:
        assert done[0][1]["askConfirmation"] is False
    else:
        assert "Nothing was installed" in panel.status


def test_without_the_pytorch_extension_the_message_says_how_to_get_it(opened, monkeypatch) -> None:
    import slicer
    from ProMISeSlicerLib import environment

    panel = opened(engine=None)
    monkeypatch.setattr(environment, "missing", lambda: list(environment.REQUIREMENTS[:1]))
    monkeypatch.setattr(slicer.app, "testingEnabled", lambda: False)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    panel.click("segmentButton")
    assert "install it from the Extensions Manager" in panel.status


def test_settings_are_kept_for_this_machine_not_in_the_scene(panel, opened) -> None:
    from ProMISeSlicerLib import preferences

    panel.ui.deviceComboBox.setCurrentIndex(3)
    panel.ui.cacheLimitSpinBox.value = 2.5
    assert (preferences.device(), preferences.cacheLimit()) == ("cpu", 2.5e9)
    again = opened(volume=False)
    assert again.ui.deviceComboBox.currentText == "cpu" and again.ui.cacheLimitSpinBox.value == 2.5
    assert panel.widget.logic.getParameterNode().parameterNode.GetParameter("device") == ""


def test_cache_is_shown_and_cleared(panel) -> None:
    from ProMISeCore.cache import Cache

    Cache().put("0" * 64, {"embedding": np.ones((256, 4, 4), np.float16)})
    panel.ui.settingsCollapsibleButton.collapsed = False
    assert "1 slices" in panel.ui.cacheLabel.text
    panel.click("clearCacheButton")
    assert "0 slices" in panel.ui.cacheLabel.text and "1 cached slices removed" in panel.status


def test_downloaded_models_are_removed_and_the_embedded_one_stays(panel, home) -> None:
    from ProMISeCore import backbones

    (home / "backbones").mkdir()
    file = home / "backbones" / backbones.TABLE["mobile_sam"].file
    file.write_bytes(b"\0" * 3_000_000)
    panel.ui.settingsCollapsibleButton.collapsed = False
    assert "mobile_sam.pt (3 MB)" in panel.ui.modelsLabel.text
    panel.click("removeModelsButton")
    assert not file.exists() and "3 MB freed" in panel.status and not panel.ui.removeModelsButton.enabled


@pytest.mark.parametrize("kind", ["pack", "backbone", "cache"])
def test_each_kind_of_file_may_lie_in_a_folder_of_its_own(panel, home, tmp_path, kind: str) -> None:
    from ProMISeSlicerLib import folders

    before = {each: folders.folder(each) for each in folders.KINDS}
    assert all(path.parent == home for path in before.values())
    getattr(panel.ui, f"{kind}FolderButton").directory = str(tmp_path / "elsewhere")
    after = {each: folders.folder(each) for each in folders.KINDS}
    assert after == before | {kind: tmp_path / "elsewhere"}
    panel.click("resetFoldersButton")
    assert {each: folders.folder(each) for each in folders.KINDS} == before
    assert getattr(panel.ui, f"{kind}FolderButton").directory == str(before[kind])


def test_packs_of_another_folder_replace_those_of_the_home_folder(panel, home, tmp_path) -> None:
    (tmp_path / "other").mkdir()
    (home / "packs" / "lung.safetensors").rename(tmp_path / "other" / "chest.safetensors")
    panel.ui.packFolderButton.directory = str(tmp_path / "other")
    names = [pack.path.stem for pack in panel.widget.choice.packs]
    assert "chest" in names and "fake" not in names and "heart" in names


def test_the_engine_gets_folders_device_and_limit(opened, tmp_path) -> None:
    panel = opened(engine=None)
    panel.ui.cacheFolderButton.directory = str(tmp_path / "cache")
    panel.ui.backboneFolderButton.directory = str(tmp_path / "backbones")
    panel.ui.deviceComboBox.setCurrentIndex(3)
    panel.ui.cacheLimitSpinBox.value = 2.0
    panel.choose("heart")
    engine = panel.widget.logic.makeEngine(panel.widget.choice.chosen())
    assert (engine.cacheFolder, engine.cacheBytes, engine.device) == (tmp_path / "cache", 2e9, "cpu")
    assert engine.backbone.name == "tiny.safetensors"  # the embedded one stays where it is


def test_a_backbone_is_downloaded_to_its_folder_and_verified(panel, tmp_path, monkeypatch) -> None:
    from dataclasses import replace

    from ProMISeSlicerLib import folders

    from ProMISeCore import backbones, downloading, errors

    def fetch(url, part, size, progress):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"PK\x03\x04 weights")
        progress(13, 13)

    monkeypatch.setattr(downloading, "fetch", fetch)
    folders.choose("backbone", str(tmp_path / "models"))
    with pytest.raises(errors.WeightsError):
        folders.download("mobile_sam", lambda done, total: None)
    assert folders.downloaded() == []
    known = replace(backbones.TABLE["mobile_sam"], size=None, sha256=None)
    monkeypatch.setitem(backbones.TABLE, "mobile_sam", known)
    folders.download("mobile_sam", lambda done, total: None)
    assert folders.downloaded() == [tmp_path / "models" / "mobile_sam.pt"]


def test_installation_check_says_how_to_mend(panel, monkeypatch) -> None:
    from ProMISeSlicerLib import environment

    monkeypatch.setattr(environment, "isThere", lambda name: name != "torch")
    panel.click("selfCheckButton")
    lines = panel.ui.selfCheckLabel.text.splitlines()
    assert lines[0].startswith("✓ ProMISeCore")
    assert any(line.startswith("✗ PyTorch is missing") and "PyTorch extension" in line for line in lines)
    assert any(line.startswith("✓ Packs:") and "fake" in line for line in lines)
