"""Turn an entry function, with kernels formed, into the steps that the run time performs.

Ops of the entry are calls of kernels and of the host framework, contractions and maps left to the
library, and ops that move or make data. A reduction, normalisation or stream that no kernel took is
an error of ours on a target that has code for it.
"""

from diagc.host_program.translator import translate_entry

__all__ = ["translate_entry"]
