"""The rig: vxtap and its peers under the same load. `run` and `draw` beside this directory are its commands."""
