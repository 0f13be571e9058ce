"""The table of what streams or fuses: rows of plain torch code, measured by `algebra_table.py`."""
