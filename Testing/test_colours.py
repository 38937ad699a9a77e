"""Targets keep the colours that people gave them, and are told apart."""

from __future__ import annotations

import SimpleITK as sitk
from small_cases import volume, write

from ProMISeCore import colours, pairs, truth
from ProMISeCore.case import Case

RED, GREEN = (1.0, 0.0, 0.0), (0.0, 0.62, 0.45)


def case(folder, *names: str) -> Case:
    voxels, mask = volume(0)
    write(folder, "c", voxels, {name: mask for name in names})
    (pair,) = pairs.find([str(folder)])
    return Case(pair)


def test_of_the_base_then_of_the_segment_then_a_free_one(tmp_path) -> None:
    found = colours.chosen(["a", "b", "c"], {"b": RED, "z": GREEN}, [case(tmp_path / "x", "a", "c")])
    assert found["c"] not in (RED, GREEN), "z stays in the pack"
    assert found == {"a": (1.0, 0.6, 0.2), "b": RED, "c": (0.34, 0.71, 0.91)}, "the segments are all of one colour"


def test_more_targets_than_colours_have_some_too(tmp_path) -> None:
    names = [str(number) for number in range(9)]
    found = colours.chosen(names, {}, [])
    assert len(found) == 9 and len(set(found.values())) == 6


def test_a_segmentation_says_its_colours_and_a_label_map_none(tmp_path) -> None:
    label = case(tmp_path / "x", "a", "b").pair.label
    assert truth.colours(label) == {"a": (1.0, 0.6, 0.2), "b": (1.0, 0.6, 0.2)}
    text = label.read_bytes()
    label.write_bytes(text.replace(b"Segment0_Color:=1 0.6 0.2", b"Segment0_Color:=1.5 0 0  "))
    assert truth.colours(label) == {"b": (1.0, 0.6, 0.2)}, "no colour"
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkUInt8), str(tmp_path / "y.nrrd"))
    assert truth.colours(tmp_path / "y.nrrd") == {}
