"""What is wrong with a .diag text is said where it is wrong, with expected, found and remedy."""

import re

import pytest

from diagc.context import make_context
from diagc.errors import DiagcError, DiagSyntaxError, VerificationError
from diagc.frontend.text import parse

HEADER = """axis q, x, d = 64, e = 32, n = 10, m = 5
diagram f(Q: q d, K: x d, V: x e, N: n, M: q x i1) {
  """

# statement -> column in line 3, words that the message holds
STATEMENTS: dict[str, tuple[int, str]] = {
    # words
    "S = 0x10": (7, "malformed number; write 2, 0.5 or 1e-6"),
    "S = Q $ K": (9, "unexpected character '$'"),
    "S = 99999999999999999999 + Q": (7, "number out of range, found '99999999999999999999'"),
    "S = Q . K": (12, "expected 'over', found the end of the line; a contraction is"),
    "S = Q . K over": (17, "expected an axis name, found the end of the line"),
    "S = Q < K < V": (13, "expected one comparison, found '<'; join comparisons with 'and'"),
    "S = Q S = Q": (9, "expected the end of the statement, found 'S'"),
    "S = Q)": (8, "expected the end of the statement, found ')'"),
    "over = Q": (3, "expected a statement, found 'over'; this word is reserved"),
    "S = over": (7, "expected an expression, found 'over'"),
    "S = where": (12, "the function is where(condition, a, b)"),
    "S = softmax(Q) along d along d": (26, "'along' stands twice"),
    "S = softmax(Q) along d eps x": (30, "expected a number after 'eps', found 'x'"),
    "S = " + "(" * 101 + "Q" + ")" * 101: (107, "expression of more than 100 levels"),
    "S = " + "+".join(["Q"] * 102): (206, "name a part of it in an assignment of its own"),
    # names
    "S = Q . Kk over d": (11, "unknown name 'Kk', expected one of Q, K, V, N, M, q, x"),
    "S = Q . K over dd": (18, "unknown axis 'dd'"),
    "S: q z = Q": (
        8,
        "unknown axis 'z', expected one of q, x, d, e, n, m; declare it with 'axis z'",
    ),
    "S = softmx(Q) along d": (7, "unknown normaliser 'softmx', expected one of l1, l2"),
    "S = softmx(Q) along x": (7, "did you mean 'softmax'?"),
    "S = sqrtt(Q)": (7, "unknown function 'sqrtt'; did you mean 'sqrt'?"),
    "S = median(Q) over d": (7, "unknown reduction 'median', expected one of sum, prod, max"),
    "S = exp(Q) over d": (14, "expected the end of the statement, found 'over'"),
    "S = Q . K over d acc i3": (24, "unknown element type 'i3'"),
    "Q = K": (3, "'Q' is assigned already; choose another name"),
    "q = K": (3, "'q' is an axis; choose another name"),
    "S = map { Q = K; Q }": (13, "'Q' is assigned already"),
    "S = map { a = b; b = a; a }": (17, "unknown name 'b'"),
    "S = map { a = zz; Q }": (17, "unknown name 'zz'"),
    # calls
    "S = softmax(Q)": (7, "'softmax' needs 'along'; write softmax(X) along x"),
    "S = sum(Q)": (7, "'sum' needs 'over'; write sum(X) over x"),
    "S = l2(Q) along d as m": (21, "'l2' takes no 'as'"),
    "S = exp(Q, K)": (7, "wrong number of arguments for 'exp', expected 1, found 2"),
    "S = max(Q, 1, 2)": (7, "wrong number of arguments for 'max', expected 2, found 3"),
    "S = concat(Q, K) along q as x": (20, "wrong number of axes for 'concat'"),
    "S = pad(N, 1) along n as m": (7, "malformed 'pad', expected pad(A, low, high, value)"),
    "T = [1]": (7, "a table needs a declared type"),
    # labels
    "S = Q . K over x": (
        18,
        'contracted axis "x" is missing in the left operand, expected one of q d',
    ),
    "S = Q . V over d": (
        18,
        'contracted axis "d" is missing in the right operand, expected one of x e',
    ),
    "S = Q . K over d d": (20, "axis 'd' stands twice"),
    "S = sum(Q) over x": (19, 'reduced axis "x" is missing in the operand, expected one of q d'),
    "S = l2(Q) along x": (19, 'normalised axis "x" is missing in the operand'),
    "S = Q[x -> m]": (9, 'renamed axis "x" is missing in the operand'),
    "S = Q[x = m]": (9, 'indexed axis "x" is missing in the operand'),
    "S = concat(Q, K) along x q as n": (26, 'joined axis "x" is missing in the left operand'),
    "S = softmax(Q) along d where (N > 1)": (7, 'axis "n" is missing in the operand that'),
    "S: q = Q": (10, "axis \"d\" of the value is missing in the declared type of 'S'"),
    "S: q = Q * 2": (12, 'axis "d" of an operand is missing in the result'),
    # sizes
    "S = Q[d -> e]": (14, "expected 'axis e = 64', found 'axis e = 32'"),
    "S = Q[d -> x]": (14, "expected 'axis x = 64', found 'axis x'; an axis without a size"),
    "S = N[n = 2 * m + 2]": (8, 'positions 2..10 leave source axis "n" of size 10'),
    "S = pad(N, 1, 2) along n as m": (31, "expected 'axis m = 13', found 'axis m = 5'"),
    "S = concat(Q, K) along q x as n": (33, "expected 'axis n', found 'axis n = 10'"),
    "S = pad(N, -1, 2) along n as m": (7, "padding must not be negative, found -1 and 2"),
    "T: m = [1, 2]": (10, "expected a list with the number of rows of its axis, found 2 rows"),
    "T: q = [1]": (10, "expected a list with the declared size of its axis"),
    "T: m = [1, 2, 3, 4, Q]": (
        23,
        "the table does not have the shape of its type, expected a number",
    ),
    # positions
    "S = N[n = m * m]": (15, "a position is affine: no product of two axes"),
    "S = N[n = m / 0]": (15, "a position is divided by a positive number only"),
    "S = N[n = Q]": (13, "unknown axis 'Q'"),
    "S = N[n = exp(m)]": (13, "expected numbers, axis names and + - * / %"),
    "S = N[n = 0.5]": (13, "a position is a whole number, found 0.5"),
    # element types
    "S = Q + M": (9, "'+' meets i1 and f32; convert the i1 or use where(c, a, b)"),
    "S = -M": (7, "'neg' takes numbers, found i1"),
    "S = M < M": (9, "'<' takes numbers, found i1"),
    "S = where(Q, 1, 2)": (7, "'where' takes a condition (i1), found f32"),
    "S = not 1": (7, "'not' takes a condition (i1), found a number"),
    "S = M . M over q": (9, "the left operand of a contraction must hold floats, found i1"),
    "S = Q . K over d acc i32": (9, "'acc' must be f32 or f64, found i32"),
    "S = any(Q) over d": (7, "reduction 'or' is not defined on f32"),
    "S = sum(M) over q": (7, "reduction 'add' is not defined on i1"),
    "S = softmax(M) along x": (7, "operand and result must hold floats"),
    "S = softmax(Q) along d where Q": (7, "'keep' must hold i1"),
    "S = i1(Q)": (7, "f32 does not convert to i1; compare it with 0"),
    "S = i8(300)": (10, "300 is not a value of type i8"),
    "T: m i8 = [0.5, 1, 2, 3, 4]": (14, "0.5 is not a value of type i8"),
    "S = 1 / 0 + Q": (9, "division by zero in a constant expression"),
}


def refused(text: str) -> DiagcError:
    with pytest.raises((DiagSyntaxError, VerificationError)) as caught:
        parse(text, "wrong.diag")
    return caught.value


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda text: text[:40])
def test_a_wrong_statement_is_explained(statement: str) -> None:
    column, words = STATEMENTS[statement]
    error = refused(f"{HEADER}{statement}\n  return Q\n}}\n")
    assert str(error.location) == f"wrong.diag:3:{column}", error.render()
    assert words in error.summary
    message, line, caret = error.render().split("\n")[:3]
    assert message.startswith(f"wrong.diag:3:{column}: error: ")
    cut = column - 1 - caret.index("^")  # of long lines only the part around the caret is shown
    assert cut == 0 or len(statement) > 160
    assert f"  {statement}"[cut:].startswith(line)
    assert caret.strip() == "^"


FILES: dict[str, tuple[str, str]] = {
    "foo": ("1:1", "expected 'axis' or 'diagram', found 'foo'"),
    "axis q = ": ("1:10", "expected a size, such as 64, found the end of the file; leave '=' out"),
    "axis q = 99999999999": ("1:10", "out of range, expected at most 2147483647"),
    "axis q = 0.5": ("1:10", "expected a size, such as 64, found '0.5'"),
    "axis f32": ("1:6", "expected an axis name, found 'f32'; this word is reserved"),
    "diagram": ("1:8", "expected the name of the diagram, found the end of the file"),
    "diagram f(Q) {}": ("1:12", "expected ':', found ')'; a parameter is 'name: axes dtype'"),
    "diagram f(Q: q) { return Q }": ("1:14", "unknown axis 'q'; declare it with 'axis q'"),
    "axis q diagram f(Q: q q) { return Q }": ("1:23", "axis 'q' stands twice"),
    "axis q diagram f(Q: q, Q: q) { return Q }": ("1:24", "'Q' is assigned already"),
    "axis q diagram f(Q: q) { }": ("1:26", "expected 'return', found '}'; diagram 'f' returns one"),
    "axis q diagram f(Q: q) { return }": ("1:33", "expected an expression, found '}'"),
    "axis q\ndiagram f(Q: q) {\n return Q": ("3:10", "expected '}', found the end of the file"),
    "axis q\ndiagram f(Q: q) {\n return Q\n S = Q }": ("4:2", "'return' is the last statement"),
    "axis q diagram f(Q: q) -> q, q { return Q }": ("1:34", "expected 2, found 1"),
    "axis q diagram f(Q: q) { return Q }\ndiagram f(Q: q) { return Q }": (
        "2:9",
        "there is a diagram 'f' already",
    ),
    "axis q diagram f(Q: q) { S = (Q\n return S }": (
        "2:2",
        "expected ')', found 'return'; to close the parenthesis at wrong.diag:1:30",
    ),
}


@pytest.mark.parametrize("text", FILES)
def test_a_wrong_file_is_explained(text: str) -> None:
    place, words = FILES[text]
    error = refused(text)
    assert str(error.location) == f"wrong.diag:{place}", error.render()
    assert words in error.summary


def test_a_context_that_hands_diagnostics_to_handlers_loses_none() -> None:
    context = make_context()
    context.emit_error_diagnostics = True
    text = "axis q\ndiagram f(M: q i1) {\n  return softmax(M) along q\n}\n"
    with pytest.raises(VerificationError, match=r"wrong\.diag:3:10: .* must hold floats"):
        parse(text, "wrong.diag", context)


def test_an_error_of_a_later_stage_points_into_the_text() -> None:
    from diagc.dialects import diag

    module = parse("axis q\ndiagram f(Q: q) {\n  S = exp(Q)\n  return S\n}\n", "later.diag")
    (function,) = diag.functions(module)
    op = diag.function_body(function).operations[0]
    error = VerificationError("not so", location=op.location)
    assert re.match(r"later.diag:3:7: error: not so", error.render())
