// Each bad pipeline gives one message with a caret, and exit status 1.

// RUN: not diagc-opt %s --no-such-pass 2>&1 | filecheck %s --check-prefix=UNKNOWN
// RUN: not diagc-opt %s --pass-pipeline="func.func(cse" 2>&1 | filecheck %s --check-prefix=PAREN
// RUN: not diagc-opt %s --pass-pipeline="cse{a=1}" 2>&1 | filecheck %s --check-prefix=OPTION
// RUN: not diagc-opt %s --pass-pipeline="cse{a=1" 2>&1 | filecheck %s --check-prefix=BRACE
// RUN: not diagc-opt %s --cse --print-ir-after=canonicalize 2>&1 | filecheck %s --check-prefix=PRINT
// RUN: not diagc-opt %s.missing 2>&1 | filecheck %s --check-prefix=FILE
// RUN: not diagc-opt %S 2>&1 | filecheck %s --check-prefix=FOLDER

// UNKNOWN: pass pipeline:1:1: error: 'no-such-pass' does not refer to a registered pass
// UNKNOWN-NEXT: no-such-pass
// UNKNOWN-NEXT: {{^}}^

// PAREN: pass pipeline:1:14: error: expected ')'
// PAREN-NEXT: func.func(cse
// PAREN-NEXT: {{^             }}^

// OPTION: pass pipeline:1:1: error: no such option a

// BRACE: pass pipeline:1:4: error: missing '}'

// PRINT: error: cannot print the IR around pass 'canonicalize': the pipeline does not run it, expected one of all, cse

// FILE: error: cannot read {{.*}}.missing, found No such file or directory
// FOLDER: error: cannot read {{.*}}, found Is a directory
