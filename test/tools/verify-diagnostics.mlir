// RUN: diagc-opt %s --split-input-file --verify-diagnostics

func.func @same_line() {
  nonsense // expected-error {{custom op 'nonsense' is unknown}}
}

// -----

func.func @line_below() {
  // expected-error@below {{custom op 'nonsense' is unknown}}
  nonsense
}

// -----

func.func @two_lines_below() {
  // expected-error-re@+2 {{custom op 'non{{[a-z]+}}' is unknown}}

  nonsense
}

// -----

func.func @line_above(%a: i32) -> i64 {
  return %a : i32
  // expected-error@above {{type of return operand 0 ('i32') doesn't match function result type ('i64')}}
}
