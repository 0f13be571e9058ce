"""Runs textual pipelines that mix Python passes and MLIR's own.

MLIR's PassManager can neither find Python passes by name nor nest them, so the tree of the pipeline
is walked here and every pass is run on its own op: a Python pass by a call, one of MLIR's through a
PassManager of one pass (microseconds). So printing, dumping, timing and verification treat both
kinds alike.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from diagc.errors import DiagcError, InternalError, PassError, VerificationError
from diagc.mlir import ir, passmanager
from diagc.options import CompileOptions, current, use
from diagc.passes import find_pass, is_pass
from diagc.passes.base import ANY_OP, Pass
from diagc.passes.instrumentation import Dumper, Instrumentation, IrPrinter, Timer, print_op
from diagc.passes.pipeline_syntax import PassNode, parse_options, parse_pipeline, syntax_error
from diagc.passes.verification import verify_module_labels

__all__ = ["Pipeline"]


class Pipeline:
    """A checked pipeline, for example `builtin.module(func.func(derive-streams{limit=256},cse))`.

    Needs an ambient MLIR context. `options` (default: those in force) say what is printed, dumped,
    verified; passes see them through `diagc.options.current()`. After `run`, `timer` holds the
    times.

    Raises:
        DiagSyntaxError: the text is malformed, names an unknown pass or option, or nests a pass
            under an op that it does not run on; points into the text.
    """

    def __init__(self, text: str, options: CompileOptions | None = None) -> None:
        self.text = text
        self.options = options or current()
        self.timer = Timer()
        self.root = parse_pipeline(text)
        self._python: dict[PassNode, Pass] = {}
        self._check(self.root)
        self._check_printing()
        self._watchers: list[Instrumentation] = [IrPrinter(self.options)]
        if self.options.dump_dir is not None:
            self._watchers.append(Dumper(Path(self.options.dump_dir)))

    def run(self, module: ir.Module) -> None:
        """Run every pass on `module`, which is changed in place.

        Raises:
            DiagcError: a Python pass failed; carries a location.
            ir.MLIRError: one of MLIR's passes failed, or the module did not verify to begin with.
            InternalError: a Python pass crashed or left IR that does not verify.
        """
        original = module.operation.clone()
        try:
            with use(self.options):
                self._run_module(module)
        except InternalError as error:
            error.files.setdefault("input.mlir", print_op(original))
            error.files.setdefault("pipeline.txt", str(self.root))
            raise
        if self.options.timing:
            print(self.timer.report(), file=sys.stderr)

    # ---- checking ----------------------------------------------------------------------------

    def _check(self, parent: PassNode) -> None:
        for node in parent.children or ():
            if node.children is not None:
                self._check(node)
            elif is_pass(node.name):
                self._python[node] = self._make_pass(node, parent.name)
            else:
                self._check_mlir_pass(node, parent.name)

    def _make_pass(self, node: PassNode, anchor: str) -> Pass:
        pass_class = find_pass(node.name)
        if pass_class.anchor not in (anchor, ANY_OP) and anchor != ANY_OP:
            message = f"pass '{node.name}' runs on '{pass_class.anchor}', not on '{anchor}'"
            remedy = f"; nest it: {pass_class.anchor}({node.name})"
            raise syntax_error(self.text, node.position, message + remedy)
        try:
            return pass_class.from_options(parse_options(node.options or ""))
        except ValueError as error:
            raise syntax_error(self.text, node.position, str(error)) from None

    def _check_mlir_pass(self, node: PassNode, anchor: str) -> None:
        try:
            passmanager.PassManager(anchor).add(str(node))
        except ValueError as error:
            raise syntax_error(self.text, node.position, _mlir_reason(error)) from None

    def _check_printing(self) -> None:
        known = {node.name for node in _leaves(self.root)} | {"all"}
        for name in (*self.options.print_ir_before, *self.options.print_ir_after):
            if name not in known:
                raise PassError(
                    f"cannot print the IR around pass '{name}': the pipeline does not run it",
                    expected=f"one of {', '.join(sorted(known))}",
                )

    # ---- running -----------------------------------------------------------------------------

    def _run_module(self, module: ir.Module) -> None:
        for node in self.root.children or ():
            self._run_node(node, module.operation)
            if self.options.verify_each:
                _verify_labels_after(str(node), module)

    def _run_children(self, parent: PassNode, op: ir.Operation) -> None:
        for node in parent.children or ():
            self._run_node(node, op)

    def _run_node(self, node: PassNode, op: ir.Operation) -> None:
        if node.children is None:
            self._run_pass(node, op)
            return
        for child in _nested_ops(op, node.name):
            self._run_children(node, child)

    def _run_pass(self, node: PassNode, op: ir.Operation) -> None:
        python_pass = self._python.get(node)
        if python_pass is not None and not _has_body(op):
            return
        for watcher in self._watchers:
            watcher.before(node.name, op)
        if python_pass is not None:
            self._run_python_pass(python_pass, op)
        else:
            self._run_mlir_pass(node, op)
        for watcher in self._watchers:
            watcher.after(node.name, op)

    def _run_mlir_pass(self, node: PassNode, op: ir.Operation) -> None:
        with self.timer.run(node.name), op.context:
            manager = passmanager.PassManager(op.name)
            manager.enable_verifier(self.options.verify_each)
            manager.add(str(node))
            manager.run(op)

    def _run_python_pass(self, python_pass: Pass, op: ir.Operation) -> None:
        name = python_pass.name
        try:
            with self.timer.run(name), op.context, op.location:
                python_pass.run(op)
        except DiagcError as error:
            raise error.located(op.location) from error.__cause__
        except Exception as error:
            message = f"pass '{name}' crashed: {type(error).__name__}: {error}"
            raise InternalError(message, location=op.location) from error
        if self.options.verify_each:
            with self.timer.verify(name):
                _verify_after(name, op)


def _verify_after(name: str, op: ir.Operation) -> None:
    try:
        op.verify()
    except ir.MLIRError as error:
        first = error.error_diagnostics[0] if error.error_diagnostics else None
        message = str(error) if first is None else first.message
        location = op.location if first is None else first.location
        raise InternalError(
            f"pass '{name}' left IR that does not verify: {message}", location=location
        ) from error


def _verify_labels_after(name: str, module: ir.Module) -> None:
    try:
        verify_module_labels(module)
    except VerificationError as error:
        message = f"'{name}' left IR that does not verify: {error.message}"
        raise InternalError(message, location=error.location) from error


def _mlir_reason(error: ValueError) -> str:
    """Take the one telling line out of the complaint of MLIR's pipeline parser."""
    first = str(error).strip().splitlines()[0]
    return re.sub(r"^(MLIR Textual PassPipeline Parser:\d+:\d+: error|<[\w-]+>): ", "", first)


def _leaves(node: PassNode) -> Iterator[PassNode]:
    if node.children is None:
        yield node
    for child in node.children or ():
        yield from _leaves(child)


def _has_body(op: ir.Operation) -> bool:
    return any(len(region.blocks) for region in op.regions)


def _nested_ops(op: ir.Operation, name: str) -> list[ir.Operation]:
    """Ops right under `op` that a nested pipeline anchored on `name` runs on.

    A list, not a generator: passes add and remove ops of the block.
    """
    ops = (child.operation for region in op.regions for block in region for child in block)
    return [child for child in ops if name == child.name or (name == ANY_OP and _has_body(child))]
