"""What the subcommands of `diagc` do; each is imported when it is called for."""
