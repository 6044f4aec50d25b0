"""The binding to the native core: lowering of segments to its instructions, encoding, calls."""
