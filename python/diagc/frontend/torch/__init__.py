"""Front end for PyTorch: functions and modules become diag modules."""

from diagc.frontend.torch.extern import ExternCall
from diagc.frontend.torch.importer import (
    Constant,
    ImportedProgram,
    Outputs,
    Parameter,
    Result,
    UserInput,
    import_program,
    import_torch,
)
from diagc.frontend.torch.raiser import Note

__all__ = [
    "Constant",
    "ExternCall",
    "ImportedProgram",
    "Note",
    "Outputs",
    "Parameter",
    "Result",
    "UserInput",
    "import_program",
    "import_torch",
]
