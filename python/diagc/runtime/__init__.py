"""What a compiled kernel needs to run: loader, cache, calling convention, launchers; no MLIR."""
