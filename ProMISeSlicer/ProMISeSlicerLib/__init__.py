"""The Qt-free part of ProMISeSlicer: MRML geometry, prompts, the session, its worker. Importing it loads no torch."""
