"""Segment Editor's masking, as far as it concerns a session's segments: which pixels of a slice may change."""

from __future__ import annotations

import numpy as np
import slicer

from .segments import Segments
from .source import Source

_Node = slicer.vtkMRMLSegmentationNode
_INSIDE = (_Node.EditAllowedInsideAllSegments, _Node.EditAllowedInsideVisibleSegments)
_OUTSIDE = (_Node.EditAllowedOutsideAllSegments, _Node.EditAllowedOutsideVisibleSegments)
_VISIBLE = (_Node.EditAllowedInsideVisibleSegments, _Node.EditAllowedOutsideVisibleSegments)


class EditorMasking:
    """What the user has set in Segment Editor's "Masking" for this segmentation; nothing is masked without it."""

    def __init__(self, segments: Segments, source: Source) -> None:
        self._segments, self._source = segments, source

    def applied(self, segmentId: str, n: int, mask: np.ndarray) -> np.ndarray:
        """`mask` (H, W) where slice n of the segment may be changed, elsewhere what is there."""
        allowed = self._allowed(segmentId, n)
        return mask if allowed is None else np.where(allowed, mask, self._segments.read(segmentId, n))

    def _allowed(self, segmentId: str, n: int) -> np.ndarray | None:
        editor = self._editor()
        if editor is None:
            return None
        allowed = self._bySegments(editor, segmentId, n)
        if editor.GetSourceVolumeIntensityMask() and editor.GetSourceVolumeNode() is self._source.node:
            low, high = editor.GetSourceVolumeIntensityMaskRange()
            values = self._source.slices[n]
            inRange = (values >= low) & (values <= high)
            inRange = inRange.all(axis=-1) if inRange.ndim == 3 else inRange
            allowed = inRange if allowed is None else allowed & inRange
        return allowed

    def _bySegments(self, editor, segmentId: str, n: int) -> np.ndarray | None:
        mode, node = editor.GetMaskMode(), self._segments.node
        known = list(node.GetSegmentation().GetSegmentIDs())
        if mode == _Node.EditAllowedInsideSingleSegment:
            ids, inside = [id_ for id_ in known if id_ == editor.GetMaskSegmentID()], True
        elif mode in (*_INSIDE, *_OUTSIDE):
            inside = mode in _INSIDE
            ids = [id_ for id_ in known if inside or id_ != segmentId]
            display = node.GetDisplayNode()
            if mode in _VISIBLE and display is not None:
                ids = [id_ for id_ in ids if display.GetSegmentVisibility(id_)]
        else:
            return None
        union = np.zeros(self._source.grid.shape[1:], bool)
        for id_ in ids:
            union |= self._segments.read(id_, n)
        return union if inside else ~union

    def _editor(self):
        """The Segment Editor's parameters for this segmentation, or None."""
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentEditorNode"):
            if node.GetSegmentationNode() is self._segments.node:
                return node
        return None
