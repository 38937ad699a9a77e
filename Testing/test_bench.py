"""The benchmark measures something everywhere, and says on what."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ProMISeCore import packs
from ProMISeCore.__main__ import main


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is not told there")
def test_quick_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", "--device", "cpu", "--json", str(tmp_path / "bench.json")]) == 0
    report = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    tiny = report["backbones"]["tiny"]
    assert tiny["weights"] in ("real", "random") and tiny["device"] == "cpu"
    assert min(tiny["prompt"], tiny["warm"], tiny["cold"]) > 0
    assert report["memory"]["shape"] == [8, 128, 128]
    assert report["memory"]["peak"] > (packs.EMBEDDED / "tiny.safetensors").stat().st_size, "it holds the backbone"
    assert report["epoch"]["seconds"] > 0
    assert report["machine"]["CPU"] and report["machine"]["torch"]
    assert "tiny" in capsys.readouterr().out
