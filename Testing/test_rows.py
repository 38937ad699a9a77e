"""Arrays in files that are open only while they are read, and several as if they were one."""

from __future__ import annotations

import numpy as np
import pytest

from ProMISeCore.rows import Filed, Rows


def test_a_filed_array_is_the_mapped_one_also_where_that_is_written_to_later(tmp_path) -> None:
    mapped = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float16, (3, 2))
    mapped[:] = [[1, 2], [3, 4], [5, 6]]
    filed = Filed(mapped)
    assert (len(filed), filed.shape, filed.dtype) == (3, (3, 2), np.float16)
    assert filed[1].tolist() == [3, 4] and filed[np.array([2, 0])].tolist() == [[5, 6], [1, 2]]
    mapped[1] = 9
    assert filed[:].tolist() == [[1, 2], [9, 9], [5, 6]] and not isinstance(filed[:], np.memmap)


def test_a_part_of_a_map_is_refused_as_another_would_be_read(tmp_path) -> None:
    mapped = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (4, 3))
    turned = np.lib.format.open_memmap(tmp_path / "b.npy", "w+", np.uint8, (4, 3), fortran_order=True)
    for part in (mapped[1:3], turned):
        with pytest.raises(ValueError, match="whole file"):
            Filed(part)


def test_rows_of_several_arrays_are_read_one_by_one_and_all_at_once(tmp_path) -> None:
    mapped = np.lib.format.open_memmap(tmp_path / "b.npy", "w+", bool, (2, 1))
    mapped[1] = True
    rows = Rows([np.zeros((1, 1), bool), Filed(mapped), np.ones((2, 1), bool)])
    assert rows[np.array([4, 1, 2])].ravel().tolist() == [True, False, True]
    assert rows.whole().ravel().tolist() == [False, False, True, True, True] and rows.whole().dtype == bool
