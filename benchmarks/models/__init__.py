"""Rows of the table of models, measured by `model_table.py`."""
