"""Kernel regions on warpgroups, for sm_90a: copies by tensor maps, mbarriers, products of wgmma.

Everything that is not a copy or a product is lowered as on tiles (`targets.nvptx.tiles`): the sums
of wgmma lie in registers as those of mma do.
"""
