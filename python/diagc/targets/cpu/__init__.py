"""The CPU target: vector code for this machine, its threads, its calling convention."""
