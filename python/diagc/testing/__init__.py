"""What the tests of diagc, and of passes written elsewhere, are run with."""
