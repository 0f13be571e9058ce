"""Front ends: text, Python and torch programs become diag IR."""
