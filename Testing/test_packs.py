"""Packs describe themselves, come back as they were, and are refused with a reason when anything is wrong."""

from __future__ import annotations

import copy
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_cases import limited

from ProMISeCore import packs
from ProMISeCore.errors import WeightsError
from ProMISeCore.packs import BackboneInfo, Manifest, TargetInfo

REFINER = {"width": 16, "patch": 1, "targets": ["left ventricle", "myocardium"]}
ENTRIES = {
    "format": 1,
    "name": "heart",
    "title": "Heart",
    "description": "two\nlines",
    "version": "1.0.0",
    "licence": "CC-BY-NC-SA-4.0",
    "modality": "MR",
    "backbone": {"name": "tiny", "fingerprint": "0123456789abcdef" * 4, "side": 512},
    "targets": [
        {
            "name": "left ventricle",
            "color": [0.8, 0.3, 0],
            "terminology": "",
            "apm": {"kind": "lite", "count": 2, "width": 64},
            "ips": {"kind": "pae", "hidden": 256},
            "presence": {"width": 64},
            "point_labels": [1, 0],
        },
        {
            "name": "myocardium",
            "color": [0.1, 0.9, 0.2],
            "terminology": "~SCT^1^a~",
            "apm": None,
            "ips": {"kind": "static"},
            "presence": None,
            "point_labels": [],
        },
    ],
    "orientation": "axial",
    "window": {"mode": "percentile", "low": 0.5, "high": 99.5},
    "channels": "neighbours",
    "padding": "corner",
    "threshold": 0.5,
    "presence_threshold": 0.4,
    "opening": 5,
    "largest_component": True,
    "exclusive": False,
    "intended_use": "Research",
    "training": {"data": "ACDC", "cases": 104, "licence": "?", "command": "promise train", "seconds": 600.5},
    "scores": [{"data": "ACDC val", "cases": 14, "target": "left ventricle", "dice": 0.9, "iou": 0.8}],
}
TENSORS = {
    "0.ips.shift": np.arange(6, dtype=np.float32).reshape(2, 3),
    "1.x": np.array([0.1, -2.5], np.float32),
}


@pytest.fixture
def entries() -> dict:
    return copy.deepcopy(ENTRIES)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    packs.save(tmp_path / "heart.safetensors", Manifest.of(ENTRIES), TENSORS)
    return tmp_path / "heart.safetensors"


def raw(path: Path, header: object, body: bytes = b"", length: int | None = None) -> Path:
    """A file of 8 bytes of length, a header and a body, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def described(**tensors: dict) -> dict:
    return {"__metadata__": {"promise": json.dumps(ENTRIES)}, **tensors}


def tensor(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


# What is written comes back


def test_manifest_and_tensors_come_back(pack: Path) -> None:
    read = packs.read(pack)
    assert read.manifest == Manifest.of(ENTRIES)
    assert json.loads(json.dumps(read.manifest.entries())) == ENTRIES
    assert read.shapes == {"0.ips.shift": (2, 3), "1.x": (2,)}
    found = packs.tensors(pack)
    assert found.keys() == TENSORS.keys()
    assert all(np.array_equal(found[key].numpy(), TENSORS[key]) for key in TENSORS)


def test_half_precision_is_stored_in_half_the_bytes_and_read_as_float32(tmp_path: Path) -> None:
    big = {"0.w": np.full(1000, 0.1, np.float32)}
    for half in (False, True):
        packs.save(tmp_path / f"{half}.safetensors", Manifest.of(ENTRIES), big, half=half)
    sizes = [(tmp_path / f"{half}.safetensors").stat().st_size for half in (False, True)]
    assert 1990 <= sizes[0] - sizes[1] <= 2010  # but for the header's padding
    found = packs.tensors(tmp_path / "True.safetensors")["0.w"]
    assert str(found.dtype) == "torch.float32" and abs(found[0].item() - 0.1) < 1e-4


def test_torch_tensors_of_any_precision_are_stored(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    given = {
        "a": torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True).T,
        "b": torch.zeros(3, dtype=torch.float64),
    }
    packs.save(tmp_path / "a.safetensors", Manifest.of(ENTRIES), given)
    assert packs.tensors(tmp_path / "a.safetensors")["a"].tolist() == [[1, 1], [1, 1]]


def test_manifest_written_in_python_has_sensible_rest(tmp_path: Path) -> None:
    manifest = Manifest(
        "a",
        BackboneInfo("tiny", "0" * 64, 256),
        [TargetInfo("t")],
        "CT",
        "axial",
        {"mode": "fixed", "low": 0, "high": 9},
    )
    packs.save(tmp_path / "a.safetensors", manifest, {})
    assert packs.read_manifest(tmp_path / "a.safetensors") == manifest.check()


def test_smoothing_may_be_missing_and_is_written_only_where_it_says_something(entries: dict, tmp_path: Path) -> None:
    assert Manifest.of(entries).smoothing_mm == 0
    assert Manifest.of(entries | {"smoothing_mm": 0}).entries() == entries
    packs.save(tmp_path / "a.safetensors", Manifest.of(entries | {"smoothing_mm": 1.5}), {})
    read = packs.read_manifest(tmp_path / "a.safetensors")
    assert read.smoothing_mm == 1.5 and read.entries() == entries | {"smoothing_mm": 1.5}


def test_reading_a_manifest_needs_no_torch(pack: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from ProMISeCore import packs; "
    code += f"print(packs.read({str(pack)!r}).shapes)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0 and "(2, 3)" in done.stdout, done.stderr


# Saving


def test_a_failed_save_leaves_what_was_there(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pack.read_bytes()

    def full(*arguments, **options) -> None:
        Path(arguments[1]).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(WeightsError, match="No space left"):
        packs.save(pack, Manifest.of(ENTRIES), TENSORS)
    assert pack.read_bytes() == before and list(pack.parent.iterdir()) == [pack]


@pytest.mark.parametrize(
    ("values", "half", "message"),
    [
        (np.array([1.0, np.nan]), False, "values not finite"),
        (np.array([1e5], np.float32), True, "beyond float16"),
        (np.array([1, 2]), False, "type int64"),
    ],
)
def test_numbers_that_would_not_come_back_are_not_saved(tmp_path: Path, values, half: bool, message: str) -> None:
    with pytest.raises(WeightsError, match=f"0.w .*{message}"):
        packs.save(tmp_path / "a.safetensors", Manifest.of(ENTRIES), {"0.w": values}, half=half)
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not end in .safetensors"):
        packs.save(tmp_path / "a.pt", Manifest.of(ENTRIES), TENSORS)


# Manifests


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_every_key_must_be_there(entries: dict, key: str) -> None:
    del entries[key]
    with pytest.raises(WeightsError, match=f"keys are missing: {key}"):
        Manifest.of(entries)


@pytest.mark.parametrize(
    "place", [(), ("backbone",), ("targets", 0), ("targets", 0, "apm"), ("training",), ("window",)]
)
def test_unknown_keys_are_refused_at_every_depth(entries: dict, place: tuple) -> None:
    inner = entries
    for step in place:
        inner = inner[step]
    inner["colour_of_the_sky"] = "blue"
    with pytest.raises(WeightsError, match="are unknown: 'colour_of_the_sky'"):
        Manifest.of(entries)


BAD = [
    (("format",), 0, "format is 0"),
    (("format",), "1", "format is '1'"),
    (("name",), "../evil", "name is '../evil'"),
    (("name",), "", "name is ''"),
    (("title",), 3, "title is 3"),
    (("title",), "\x1b[2J", "title is .*printable"),
    (("targets", 0, "name"), "left\nventricle", r"targets\[0\].name is .* in one line"),
    (("backbone", "name"), "a\nb", "backbone.name is .* in one line"),
    (("description",), "\ud800", "description is"),
    (("backbone",), None, "backbone is None, expected an object"),
    (("backbone", "fingerprint"), "abc", "backbone.fingerprint is 'abc', expected 64"),
    (("backbone", "side"), 500, "backbone.side is 500, expected a multiple of 16"),
    (("backbone", "side"), True, "backbone.side is True"),
    (("targets",), [], r"targets is \[\], expected a list of 1"),
    (("targets",), "left", "targets is 'left'"),
    (("targets", 1, "name"), "left ventricle", "targets is .'left ventricle'., expected a different name"),
    (("targets", 0, "color"), [0, 0, 2], r"targets\[0\].color is \[0, 0, 2\]"),
    (("targets", 0, "apm"), {"kind": "magic"}, r"targets\[0\].apm is .*lite or resnet or cross"),
    (("targets", 0, "apm"), {"kind": "resnet"}, r"keys of targets\[0\].apm are missing: count"),
    (("targets", 0, "apm", "count"), 10**6, r"targets\[0\].apm.count is 1000000"),
    (("targets", 0, "apm", "width"), 60, r"targets\[0\].apm.width is 60, expected a multiple of 8"),
    (("targets", 0, "apm", "kind"), ["lite"], r"targets\[0\].apm is"),
    (("targets", 0, "ips", "hidden"), 0, r"targets\[0\].ips.hidden is 0"),
    (("targets", 0, "presence", "width"), 2.5, r"targets\[0\].presence.width is 2.5"),
    (("refiners",), [REFINER | {"width": 12}], r"refiners\[0\].width is 12, expected a multiple of 8"),
    (("refiners",), [REFINER | {"width": 0}], r"refiners\[0\].width is 0, expected a whole number from 8"),
    (("refiners",), [REFINER | {"patch": 3}], r"refiners\[0\].patch is 3, expected 1 or 2"),
    (("refiners",), [REFINER | {"targets": []}], r"refiners\[0\].targets is \[\], expected names of targets"),
    (("refiners",), [REFINER | {"targets": ["x"]}], r"refiners\[0\].targets is \['x'\], expected names of targets"),
    (("refiners",), [REFINER, REFINER], r"refiners\[1\].targets is .*each in one refiner"),
    (("refiners",), [REFINER | {"targets": 2 * REFINER["targets"]}], r"refiners\[0\].targets is .*each in one refiner"),
    (("refiners",), [{}], r"keys of refiners\[0\] are missing: width, patch, targets"),
    (("refiners",), ["yes"], r"refiners\[0\] is 'yes', expected an object"),
    (("refiners",), "yes", r"refiners is 'yes', expected a list"),
    (("targets",), None, "targets is None, expected a list of 1"),
    (("targets", 0, "point_labels"), [1], r"targets\[0\].point_labels is \[1\], expected 2 times"),
    (("targets", 0, "point_labels"), [1, 2], r"targets\[0\].point_labels"),
    (("targets", 1, "point_labels"), [1], r"targets\[1\].point_labels is \[1\], expected 0 times"),
    (("orientation",), "oblique", "orientation is 'oblique', expected axial or sagittal or coronal or image"),
    (("window",), {"mode": "auto"}, "window is .* percentile, fixed or bytes"),
    (("window", "low"), 99.9, "window is .*low < high"),
    (("window", "high"), 101, "from 0 to 100"),
    (("channels",), 3, "channels is 3"),
    (("padding",), "none", "padding is 'none'"),
    (("threshold",), 1, "threshold is 1, expected a number between 0 and 1"),
    (("threshold",), "0.5", "threshold is '0.5'"),
    (("presence_threshold",), -1, "presence_threshold is -1"),
    (("opening",), 2.0, "opening is 2.0"),
    (("smoothing_mm",), -0.5, "smoothing_mm is -0.5, expected a number from 0 to 10"),
    (("smoothing_mm",), 10.5, "smoothing_mm is 10.5, expected a number from 0 to 10"),
    (("smoothing_mm",), True, "smoothing_mm is True, expected a number"),
    (("smoothing_mm",), "1 mm", "smoothing_mm is '1 mm', expected a number"),
    (("smoothing_mm",), float("nan"), "smoothing_mm is nan, expected a number"),
    (("exclusive",), 1, "exclusive is 1, expected true or false"),
    (("overlaps",), "ab", "overlaps is 'ab', expected a list"),
    (("overlaps",), [["a", "b"]], "overlaps is .* expected none where exclusive is false"),
    (("overlaps",), [["heart", "heart"]], r"overlaps\[0\] is .* expected names of two targets"),
    (("overlaps",), [["heart", 3]], r"overlaps\[0\] is .* expected names of two targets"),
    (("training", "cases"), -1, "training.cases is -1"),
    (("training", "seconds"), 10**400, "training.seconds is"),
    (("scores",), {}, "scores is {}, expected a list"),
    (("scores", 0, "dice"), 1.5, r"scores\[0\].dice is 1.5"),
]


@pytest.mark.parametrize(
    ("place", "value", "message"), BAD, ids=[f"{place[-1]}-{n}" for n, (place, _, _) in enumerate(BAD)]
)
def test_every_value_is_checked(entries: dict, place: tuple, value: object, message: str) -> None:
    inner = entries
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(WeightsError, match=message):
        Manifest.of(entries)


def test_all_problems_are_in_one_message(entries: dict) -> None:
    entries["padding"], entries["opening"], entries["targets"][0]["color"] = "x", -3, "red"
    with pytest.raises(WeightsError) as caught:
        Manifest.of(entries, "my.safetensors")
    text = str(caught.value)
    assert text.startswith("my.safetensors cannot be used: ") and "\n" not in text
    assert "padding is 'x'" in text and "opening is -3" in text and "targets[0].color is 'red'" in text


def test_a_newer_format_asks_for_an_update_even_with_unknown_keys(entries: dict) -> None:
    entries |= {"format": 2, "new_key": 1}
    with pytest.raises(WeightsError, match="format 2, this version knows 1: update promise-slicer"):
        Manifest.of(entries)


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_a_manifest_is_an_object(value: object) -> None:
    with pytest.raises(WeightsError, match="expected an object"):
        Manifest.of(value)


# Hostile, damaged and foreign files

HOSTILE = {
    "header-longer-than-file": (lambda p: raw(p, described(), length=10**5), "cut off within its header"),
    "header-of-exabytes": (lambda p: raw(p, described(), length=2**62), "header would take"),
    "header-above-the-cap": (lambda p: raw(p, b" " * (2**20 + 1)), "header would take 1,048,577 bytes"),
    "header-not-json": (lambda p: raw(p, b"{]"), "not readable JSON"),
    "header-not-text": (lambda p: raw(p, b"\xff\xfe\x00{"), "not readable JSON"),
    "header-a-list": (lambda p: raw(p, [1]), "no JSON object"),
    "header-deep": (lambda p: raw(p, b"[" * 200_000), "not readable JSON"),
    "header-long-number": (lambda p: raw(p, {"a": tensor(shape=[10**200])}), "wrongly"),
    "header-with-nan": (lambda p: raw(p, b'{"a": NaN}'), "NaN is no number"),
    "key-twice": (lambda p: raw(p, b'{"a": 1, "a": 2}'), "a key occurs twice"),
    "entry-not-object": (lambda p: raw(p, described(a=[1])), "'a' wrongly"),
    "entry-with-more": (lambda p: raw(p, described(a=tensor() | {"x": 1}), bytes(4)), "'a' wrongly"),
    "negative-shape": (lambda p: raw(p, described(a=tensor(shape=[-1])), bytes(4)), "'a' wrongly"),
    "true-as-shape": (lambda p: raw(p, described(a=tensor(shape=[True])), bytes(4)), "'a' wrongly"),
    "shape-of-nine": (lambda p: raw(p, described(a=tensor(shape=[1] * 9)), bytes(4)), "'a' wrongly"),
    "offsets-backwards": (lambda p: raw(p, described(a=tensor(offsets=[4, 0])), bytes(4)), "'a' wrongly"),
    "dtype-a-number": (lambda p: raw(p, described(a=tensor(dtype=32)), bytes(4)), "'a' wrongly"),
    "dtype-other": (lambda p: raw(p, described(a=tensor("I64", [1], [0, 8])), bytes(8)), "type I64, not F16 or F32"),
    "dtype-unknown": (lambda p: raw(p, described(a=tensor("PICKLE")), bytes(4)), "type PICKLE"),
    "size-differs": (lambda p: raw(p, described(a=tensor(shape=[2])), bytes(4)), "4 bytes for 2 numbers"),
    "overlap": (
        lambda p: raw(p, described(a=tensor(), b=tensor(shape=[2], offsets=[0, 8])), bytes(8)), "overlap or leave gaps"
    ),
    "gap": (lambda p: raw(p, described(a=tensor(offsets=[4, 8])), bytes(8)), "overlap or leave gaps"),
    "cut-off": (lambda p: raw(p, described(a=tensor()), bytes(3)), "cut off: 3 bytes of numbers, expected 4"),
    "more-behind": (lambda p: raw(p, described(a=tensor()), bytes(5)), "longer than its header says"),
    "no-manifest": (lambda p: raw(p, {"a": tensor()}, bytes(4)), "holds no manifest; expected one made by promise"),
    "metadata-a-list": (lambda p: raw(p, {"__metadata__": ["promise"]}), "holds no manifest"),
    "manifest-a-number": (lambda p: raw(p, {"__metadata__": {"promise": 3}}), "holds no manifest"),
    "manifest-not-json": (lambda p: raw(p, {"__metadata__": {"promise": "x"}}), "manifest of .* is not readable JSON"),
    "manifest-empty": (lambda p: raw(p, {"__metadata__": {"promise": "{}"}}), "keys are missing: name, backbone"),
    "backbone": (
        lambda p: raw(p, {"image_encoder.a": tensor()}, bytes(4)), "looks like a backbone: give it to --backbone"
    ),
    "checkpoint": (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(100)), "PyTorch checkpoint, no pack; promise import"),
    "pickle": (lambda p: p.write_bytes(b"\x80\x02}q\x00." + bytes(9)), "PyTorch checkpoint"),
    "picture": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50)), "header would take"),
    "empty": (lambda p: p.write_bytes(b""), r"is empty \(0 bytes\)"),
    "five-bytes": (lambda p: p.write_bytes(b"12345"), "cut off"),
    "zeros": (lambda p: p.write_bytes(bytes(64)), "not readable JSON"),
    "folder": (lambda p: p.mkdir(), "is not a file"),
    "missing": (lambda p: None, "there is no file"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("reader", [packs.read_manifest, packs.tensors])
def test_bad_files_are_refused_with_a_reason(tmp_path: Path, name: str, reader) -> None:
    make, message = HOSTILE[name]
    path = tmp_path / "bad.safetensors"
    make(path)
    with pytest.raises(WeightsError, match=message) as caught:
        reader(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_a_file_above_the_cap_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "big.safetensors"
    with path.open("wb") as file:
        file.truncate(packs.LARGEST_FILE + 1)  # sparse
    with pytest.raises(WeightsError, match="packs have at most 2,000,000,000"):
        packs.read(path)


def test_every_truncation_of_a_pack_is_refused(pack: Path) -> None:
    whole = pack.read_bytes()
    for length in range(0, len(whole), 7):
        pack.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            packs.read(pack)


def test_values_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    path = raw(tmp_path / "a.safetensors", described(a=tensor()), struct.pack("<f", float("nan")))
    assert packs.read(path).shapes == {"a": (1,)}
    with pytest.raises(WeightsError, match="not numbers, in a"):
        packs.tensors(path)


def test_a_disk_that_fills_up_is_an_error_that_says_so(tmp_path: Path) -> None:
    with limited("RLIMIT_FSIZE", 1000), pytest.raises(WeightsError, match=r"a\.safetensors cannot be written: .*large"):
        packs.save(tmp_path / "a.safetensors", Manifest.of(ENTRIES), {"a": np.ones(5000, np.float32)})
    assert not list(tmp_path.iterdir())


# Finding


def test_packs_are_found_by_path_and_by_name(pack: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "EMBEDDED", home / "embedded")
    assert packs.find(pack) == packs.find(str(pack)) == pack
    with pytest.raises(WeightsError, match="no pack or file 'heart'; installed are: none"):
        packs.find("heart")
    for folder, name in ((home / "embedded", "heart"), (home / "embedded", "polyp"), (packs.folder(), "heart")):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.safetensors").write_bytes(pack.read_bytes())
    (home / "embedded" / "tiny.safetensors").write_bytes(b"a backbone")
    assert packs.folder() == home / "packs"
    assert packs.find("heart") == packs.find("heart.safetensors") == home / "packs" / "heart.safetensors"
    assert packs.find("polyp") == home / "embedded" / "polyp.safetensors"
    assert [found.path for found in packs.installed()] == [packs.find("heart"), packs.find("polyp")]
    with pytest.raises(WeightsError, match="installed are: heart, polyp$"):
        packs.find("liver")


def test_what_a_kill_has_left_half_written_is_no_pack(pack: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "EMBEDDED", home / "embedded")
    packs.folder().mkdir()
    for name in ("heart", ".promise-u3x_8a"):
        (packs.folder() / f"{name}.safetensors").write_bytes(pack.read_bytes())
    assert [found.path.name for found in packs.installed()] == ["heart.safetensors"]
    with pytest.raises(WeightsError, match="installed are: heart$"):
        packs.find("liver")
