"""The tool in a browser: real MRML and Slicer's own views on a server of one's own, drawn there, shown in a page."""
