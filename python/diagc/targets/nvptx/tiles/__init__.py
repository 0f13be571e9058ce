"""Tensor-core lowering: kernel regions on tiles of rows, op by op, for sm_80 and later."""
