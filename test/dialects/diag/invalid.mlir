// One case for every rule of the dialect. test/python/dialects/test_verifier_rules.py checks that
// no rule is missing here.

// RUN: diagc opt %s --split-input-file --verify-diagnostics

// ---- wires ----------------------------------------------------------------------------------------

func.func @a_scalar_is_no_wire(%a: f32, %b: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{'diag.contract' op expected a wire (a ranked tensor with axis labels), found f32}}
  %0 = "diag.contract"(%a, %b) {over = ["d"]} : (f32, tensor<8xf32, ["d"]>) -> tensor<f32, []>
  return
}

// -----

func.func @wires_have_labels(%a: tensor<8xf32>, %b: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{'diag.contract' op type tensor<8xf32> has no axis labels: expected an encoding such as ["q", "d"]}}
  %0 = "diag.contract"(%a, %b) {over = ["d"]} : (tensor<8xf32>, tensor<8xf32, ["d"]>) -> tensor<f32, []>
  return
}

// -----

func.func @one_label_an_axis(%a: tensor<4x8xf32, ["q"]>, %b: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{'diag.contract' op type tensor<4x8xf32, ["q"]> has 2 axes but 1 labels}}
  %0 = "diag.contract"(%a, %b) {over = ["d"]} : (tensor<4x8xf32, ["q"]>, tensor<8xf32, ["d"]>) -> tensor<4xf32, ["q"]>
  return
}

// -----

func.func @labels_are_distinct(%a: tensor<8x8xf32, ["d", "d"]>, %b: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{'diag.contract' op label "d" stands twice in type tensor<8x8xf32, ["d", "d"]>}}
  %0 = "diag.contract"(%a, %b) {over = ["d"]} : (tensor<8x8xf32, ["d", "d"]>, tensor<8xf32, ["d"]>) -> tensor<f32, []>
  return
}

// -----

func.func @labels_are_strings(%a: tensor<4x8xf32, ["q", 1]>) {
  // expected-error@+1 {{'diag.reduce' op expected an array of strings such as ["q", "d"], found ["q", 1]}}
  %0 = "diag.reduce"(%a) {over = ["q"], kind = "add"} : (tensor<4x8xf32, ["q", 1]>) -> tensor<8xf32, ["d"]>
  return
}

// -----

func.func @one_label_one_size_in_an_op(%a: tensor<4x8xf32, ["q", "d"]>, %b: tensor<5x8xf32, ["q", "d"]>) {
  // expected-error@+1 {{'diag.contract' op axis "q" has size 4 in one operand and 5 in another}}
  %0 = "diag.contract"(%a, %b) {over = ["d"]} : (tensor<4x8xf32, ["q", "d"]>, tensor<5x8xf32, ["q", "d"]>) -> tensor<4xf32, ["q"]>
  return
}

// -----

func.func @one_label_one_size_in_a_function(%a: tensor<4xf32, ["q"]>, %b: tensor<5x8xf32, ["q", "d"]>) {
  // expected-error@-1 {{axis "q" has size 5 here but size 4 elsewhere in the function; use diag.relabel to name a different axis}}
  return
}

// ---- contract -------------------------------------------------------------------------------------

// -----

func.func @contracted_axis_is_in_both_operands(%a: tensor<4x8xf32, ["q", "d"]>, %b: tensor<6xf32, ["x"]>) {
  // expected-error@+1 {{'diag.contract' op axis "d" is missing in the right operand (tensor<6xf32, ["x"]>)}}
  %0 = "diag.contract"(%a, %b) {over = ["d"]} : (tensor<4x8xf32, ["q", "d"]>, tensor<6xf32, ["x"]>) -> tensor<4x6xf32, ["q", "x"]>
  return
}

// -----

func.func @contracted_axes_are_distinct(%a: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{'diag.contract' op label "d" stands twice in 'over'}}
  %0 = "diag.contract"(%a, %a) {over = ["d", "d"]} : (tensor<8xf32, ["d"]>, tensor<8xf32, ["d"]>) -> tensor<f32, []>
  return
}

// -----

func.func @over_is_a_list(%a: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{expected base attribute 'builtin.array' but got 'builtin.string'}}
  %0 = "diag.contract"(%a, %a) {over = "d"} : (tensor<8xf32, ["d"]>, tensor<8xf32, ["d"]>) -> tensor<f32, []>
  return
}

// -----

func.func @over_is_given(%a: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{'diag.contract' op attribute "over" is expected but not provided}}
  %0 = "diag.contract"(%a, %a) : (tensor<8xf32, ["d"]>, tensor<8xf32, ["d"]>) -> tensor<f32, []>
  return
}

// -----

func.func @contraction_of_floats(%a: tensor<8xi32, ["d"]>, %b: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{'diag.contract' op the left operand must hold floats, found tensor<8xi32, ["d"]>}}
  %0 = "diag.contract"(%a, %b) {over = ["d"]} : (tensor<8xi32, ["d"]>, tensor<8xf32, ["d"]>) -> tensor<f32, []>
  return
}

// -----

func.func @sums_are_kept_in_f32_or_f64(%a: tensor<8xbf16, ["d"]>) {
  // expected-error@+1 {{'diag.contract' op 'acc' must be f32 or f64, found bf16}}
  %0 = "diag.contract"(%a, %a) {over = ["d"], acc = bf16} : (tensor<8xbf16, ["d"]>, tensor<8xbf16, ["d"]>) -> tensor<bf16, []>
  return
}

// -----

func.func @optional_attributes_have_their_kind(%a: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{'diag.contract' op attribute 'acc' must be a TypeAttr, found "f32"}}
  %0 = "diag.contract"(%a, %a) {over = ["d"], acc = "f32"} : (tensor<8xf32, ["d"]>, tensor<8xf32, ["d"]>) -> tensor<f32, []>
  return
}

// -----

func.func @result_has_the_free_axes(%a: tensor<4x8xf32, ["q", "d"]>, %b: tensor<6x8xf32, ["x", "d"]>) {
  // expected-error@+1 {{'diag.contract' op result type tensor<4xf32, ["q"]> has axes ['q'], expected ['q', 'x']}}
  %0 = "diag.contract"(%a, %b) {over = ["d"]} : (tensor<4x8xf32, ["q", "d"]>, tensor<6x8xf32, ["x", "d"]>) -> tensor<4xf32, ["q"]>
  return
}

// -----

func.func @result_has_the_sizes_of_the_operands(%a: tensor<4x8xf32, ["q", "d"]>, %b: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{'diag.contract' op result axis "q" has size ?, expected 4}}
  %0 = "diag.contract"(%a, %b) {over = ["d"]} : (tensor<4x8xf32, ["q", "d"]>, tensor<8xf32, ["d"]>) -> tensor<?xf32, ["q"]>
  return
}

// ---- reduce ---------------------------------------------------------------------------------------

// -----

func.func @reductions_are_in_the_table(%a: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{'diag.reduce' op unknown reduction 'median'; expected one of add, mul, max, min, or, and}}
  %0 = "diag.reduce"(%a) {over = ["d"], kind = "median"} : (tensor<8xf32, ["d"]>) -> tensor<f32, []>
  return
}

// -----

func.func @logical_reductions_take_no_floats(%a: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{'diag.reduce' op reduction 'or' is not defined on f32}}
  %0 = "diag.reduce"(%a) {over = ["d"], kind = "or"} : (tensor<8xf32, ["d"]>) -> tensor<f32, []>
  return
}

// -----

func.func @sums_take_no_conditions(%a: tensor<8xi1, ["d"]>) {
  // expected-error@+1 {{'diag.reduce' op reduction 'add' is not defined on i1}}
  %0 = "diag.reduce"(%a) {over = ["d"], kind = "add"} : (tensor<8xi1, ["d"]>) -> tensor<i1, []>
  return
}

// -----

func.func @reductions_keep_the_element_type(%a: tensor<8xbf16, ["d"]>) {
  // expected-error@+1 {{'diag.reduce' op result element type f32, expected bf16}}
  %0 = "diag.reduce"(%a) {over = ["d"], kind = "add"} : (tensor<8xbf16, ["d"]>) -> tensor<f32, []>
  return
}

// -----

func.func @reduced_axis_is_in_the_operand(%a: tensor<8xf32, ["d"]>) {
  // expected-error@+1 {{'diag.reduce' op axis "x" is missing in the operand (tensor<8xf32, ["d"]>)}}
  %0 = "diag.reduce"(%a) {over = ["x"], kind = "add"} : (tensor<8xf32, ["d"]>) -> tensor<8xf32, ["d"]>
  return
}

// ---- normalize ------------------------------------------------------------------------------------

// -----

func.func @normalisers_are_registered(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.normalize' op unknown normaliser 'sofmax'; expected one of softmax, l2, l1, relu-sum, sigmoid, none, rms, layer}}
  %0 = "diag.normalize"(%a) {along = ["x"], kind = "sofmax"} : (tensor<8xf32, ["x"]>) -> tensor<8xf32, ["x"]>
  return
}

// -----

func.func @a_normaliser_runs_along_an_axis(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.normalize' op 'along' must name at least one axis}}
  %0 = "diag.normalize"(%a) {along = [], kind = "softmax"} : (tensor<8xf32, ["x"]>) -> tensor<8xf32, ["x"]>
  return
}

// -----

func.func @normalised_axis_is_in_the_operand(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.normalize' op axis "q" is missing in the operand (tensor<8xf32, ["x"]>)}}
  %0 = "diag.normalize"(%a) {along = ["q"], kind = "softmax"} : (tensor<8xf32, ["x"]>) -> tensor<8xf32, ["x"]>
  return
}

// -----

func.func @normalisers_take_floats(%a: tensor<8xi32, ["x"]>) {
  // expected-error@+1 {{'diag.normalize' op operand and result must hold floats, found tensor<8xi32, ["x"]> and tensor<8xi32, ["x"]>}}
  %0 = "diag.normalize"(%a) {along = ["x"], kind = "l2"} : (tensor<8xi32, ["x"]>) -> tensor<8xi32, ["x"]>
  return
}

// -----

func.func @a_mask_is_boolean(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.normalize' op 'keep' must hold i1, found tensor<8xf32, ["x"]>}}
  %0 = "diag.normalize"(%a, %a) {along = ["x"], kind = "l2"} : (tensor<8xf32, ["x"]>, tensor<8xf32, ["x"]>) -> tensor<8xf32, ["x"]>
  return
}

// -----

func.func @a_mask_has_no_further_axes(%a: tensor<8xf32, ["x"]>, %keep: tensor<4x8xi1, ["q", "x"]>) {
  // expected-error@+1 {{'diag.normalize' op axis "q" is missing in the operand that 'keep' excludes from (tensor<8xf32, ["x"]>)}}
  %0 = "diag.normalize"(%a, %keep) {along = ["x"], kind = "l2"} : (tensor<8xf32, ["x"]>, tensor<4x8xi1, ["q", "x"]>) -> tensor<8xf32, ["x"]>
  return
}

// -----

func.func @softmax_has_no_parameters(%a: tensor<4x8xf32, ["q", "x"]>, %p: tensor<4xf32, ["q"]>) {
  // expected-error@+1 {{'diag.normalize_with' op normaliser 'softmax' has no parameters; found 1}}
  %0 = "diag.normalize_with"(%a, %p) {along = ["x"], kind = "softmax", operandSegmentSizes = array<i32: 1, 0, 1>} : (tensor<4x8xf32, ["q", "x"]>, tensor<4xf32, ["q"]>) -> tensor<4x8xf32, ["q", "x"]>
  return
}

// -----

func.func @parameters_are_floats(%a: tensor<4x8xf32, ["q", "x"]>, %p: tensor<4xi32, ["q"]>) {
  // expected-error@+1 {{'diag.normalize_with' op parameters must hold floats, found tensor<4xi32, ["q"]>}}
  %0 = "diag.normalize_with"(%a, %p) {along = ["x"], kind = "softmax", operandSegmentSizes = array<i32: 1, 0, 1>} : (tensor<4x8xf32, ["q", "x"]>, tensor<4xi32, ["q"]>) -> tensor<4x8xf32, ["q", "x"]>
  return
}

// -----

func.func @parameters_do_not_vary_along_rows(%a: tensor<4x8xf32, ["q", "x"]>, %p: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.normalize_with' op a parameter has the normalised axis "x"}}
  %0 = "diag.normalize_with"(%a, %p) {along = ["x"], kind = "softmax", operandSegmentSizes = array<i32: 1, 0, 1>} : (tensor<4x8xf32, ["q", "x"]>, tensor<8xf32, ["x"]>) -> tensor<4x8xf32, ["q", "x"]>
  return
}

// -----

func.func @epsilon_is_not_negative(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.normalize' op 'eps' must not be negative, found -1.0}}
  %0 = "diag.normalize"(%a) {along = ["x"], kind = "rms", eps = -1.0} : (tensor<8xf32, ["x"]>) -> tensor<8xf32, ["x"]>
  return
}

// -----

func.func @epsilon_stands_inside_or_outside_the_root(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.normalize' op 'eps_place' must be inside or outside, found below}}
  %0 = "diag.normalize"(%a) {along = ["x"], kind = "rms", eps = 1.0, eps_place = "below"} : (tensor<8xf32, ["x"]>) -> tensor<8xf32, ["x"]>
  return
}

// ---- relabel, reindex -----------------------------------------------------------------------------

// -----

func.func @relabel_says_from(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.relabel' op attribute 'from' is expected but not provided}}
  %0 = "diag.relabel"(%a) {to = ["q"]} : (tensor<8xf32, ["x"]>) -> tensor<8xf32, ["q"]>
  return
}

// -----

func.func @each_label_has_one_new_name(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.relabel' op 'from' has 1 labels but 'to' has 2}}
  %0 = "diag.relabel"(%a) {from = ["x"], to = ["q", "d"]} : (tensor<8xf32, ["x"]>) -> tensor<8xf32, ["q"]>
  return
}

// -----

func.func @a_renamed_axis_is_in_the_operand(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.relabel' op axis "y" is missing in the operand (tensor<8xf32, ["x"]>)}}
  %0 = "diag.relabel"(%a) {from = ["y"], to = ["q"]} : (tensor<8xf32, ["x"]>) -> tensor<8xf32, ["q"]>
  return
}

// -----

func.func @new_names_do_not_clash(%a: tensor<8x8xf32, ["x", "d"]>) {
  // expected-error@+1 {{'diag.relabel' op label "d" stands twice in 'result labels'}}
  %0 = "diag.relabel"(%a) {from = ["x"], to = ["d"]} : (tensor<8x8xf32, ["x", "d"]>) -> tensor<8x8xf32, ["q", "d"]>
  return
}

// -----

func.func @relabel_keeps_the_element_type(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.relabel' op result element type f64, expected f32}}
  %0 = "diag.relabel"(%a) {from = ["x"], to = ["q"]} : (tensor<8xf32, ["x"]>) -> tensor<8xf64, ["q"]>
  return
}

// -----

func.func @positions_have_no_symbols(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.reindex' op 'map' must have no symbols, found (d0)[s0] -> (d0 + s0)}}
  %0 = "diag.reindex"(%a) {map = affine_map<(d0)[s0] -> (d0 + s0)>} : (tensor<8xf32, ["x"]>) -> tensor<4xf32, ["q"]>
  return
}

// -----

func.func @positions_go_from_result_to_source(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.reindex' op 'map' must go from 1 result axes to 1 source axes, found (d0, d1) -> (d0)}}
  %0 = "diag.reindex"(%a) {map = affine_map<(d0, d1) -> (d0)>} : (tensor<8xf32, ["x"]>) -> tensor<8xf32, ["q"]>
  return
}

// -----

func.func @positions_stay_in_the_source(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.reindex' op positions 1..9 leave source axis "x" of size 8}}
  %0 = "diag.reindex"(%a) {map = affine_map<(d0) -> (2 * d0 + 1)>} : (tensor<8xf32, ["x"]>) -> tensor<5xf32, ["q"]>
  return
}

// -----

func.func @positions_are_divided_by_positive_numbers(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.reindex' op 'map' divides by what is no positive number: d0 floordiv 0}}
  %0 = "diag.reindex"(%a) {map = affine_map<(d0) -> (d0 floordiv 0)>} : (tensor<8xf32, ["x"]>) -> tensor<5xf32, ["q"]>
  return
}

// -----

func.func @reindex_keeps_the_element_type(%a: tensor<8xf32, ["x"]>) {
  // expected-error@+1 {{'diag.reindex' op result element type f16, expected f32}}
  %0 = "diag.reindex"(%a) {map = affine_map<(d0) -> (d0)>} : (tensor<8xf32, ["x"]>) -> tensor<8xf16, ["x"]>
  return
}

// ---- index, constant ------------------------------------------------------------------------------

// -----

func.func @positions_lie_along_one_axis() {
  // expected-error@+1 {{'diag.index' op result type tensor<4xindex, ["q"]> must have the one axis "x"}}
  %0 = "diag.index"() {axis = "x"} : () -> tensor<4xindex, ["q"]>
  return
}

// -----

func.func @positions_are_of_type_index() {
  // expected-error@+1 {{'diag.index' op result elements must be index, found tensor<4xi64, ["x"]>}}
  %0 = "diag.index"() {axis = "x"} : () -> tensor<4xi64, ["x"]>
  return
}

// -----

func.func @a_constant_has_a_value() {
  // expected-error@+1 {{'diag.constant' op attribute 'value' is expected but not provided}}
  %0 = "diag.constant"() : () -> tensor<2xf32, ["k"]>
  return
}

// -----

func.func @a_constant_holds_a_tensor() {
  // expected-error@+1 {{'diag.constant' op value must be a dense tensor, found vector<2xf32>}}
  %0 = "diag.constant"() {value = dense<0.0> : vector<2xf32>} : () -> tensor<2xf32, ["k"]>
  return
}

// -----

func.func @a_constant_has_static_sizes() {
  // expected-error@+1 {{'diag.constant' op a constant has static sizes, found tensor<?xf32, ["k"]>}}
  %0 = "diag.constant"() {value = dense<0.0> : tensor<2xf32>} : () -> tensor<?xf32, ["k"]>
  return
}

// -----

func.func @a_constant_has_the_shape_of_its_value() {
  // expected-error@+1 {{'diag.constant' op value has shape [2], expected that of tensor<3xf32, ["k"]>}}
  %0 = "diag.constant"() {value = dense<0.0> : tensor<2xf32>} : () -> tensor<3xf32, ["k"]>
  return
}

// -----

func.func @a_constant_has_the_elements_of_its_value() {
  // expected-error@+1 {{'diag.constant' op value holds f64, expected f32}}
  %0 = "diag.constant"() {value = dense<0.0> : tensor<2xf64>} : () -> tensor<2xf32, ["k"]>
  return
}

// ---- concat, pad ----------------------------------------------------------------------------------

// -----

func.func @concat_joins_one_axis_of_each(%a: tensor<4xf32, ["p"]>, %b: tensor<5xf32, ["n"]>) {
  // expected-error@+1 {{'diag.concat' op 'axes' must name one axis of each operand, found ['p']}}
  %0 = "diag.concat"(%a, %b) {axes = ["p"], to = "x"} : (tensor<4xf32, ["p"]>, tensor<5xf32, ["n"]>) -> tensor<9xf32, ["x"]>
  return
}

// -----

func.func @concat_joins_axes_that_exist(%a: tensor<4xf32, ["p"]>, %b: tensor<5xf32, ["n"]>) {
  // expected-error@+1 {{'diag.concat' op axis "m" is missing in the right operand (tensor<5xf32, ["n"]>)}}
  %0 = "diag.concat"(%a, %b) {axes = ["p", "m"], to = "x"} : (tensor<4xf32, ["p"]>, tensor<5xf32, ["n"]>) -> tensor<9xf32, ["x"]>
  return
}

// -----

func.func @concat_operands_agree_in_other_axes(%a: tensor<4x8xf32, ["p", "d"]>, %b: tensor<5xf32, ["n"]>) {
  // expected-error@+1 {{'diag.concat' op operands differ in other axes: ['d'] and []}}
  %0 = "diag.concat"(%a, %b) {axes = ["p", "n"], to = "x"} : (tensor<4x8xf32, ["p", "d"]>, tensor<5xf32, ["n"]>) -> tensor<9x8xf32, ["x", "d"]>
  return
}

// -----

func.func @concat_makes_a_new_axis(%a: tensor<4x8xf32, ["p", "d"]>, %b: tensor<5x8xf32, ["n", "d"]>) {
  // expected-error@+1 {{'diag.concat' op result label "d" is already an axis of the operands}}
  %0 = "diag.concat"(%a, %b) {axes = ["p", "n"], to = "d"} : (tensor<4x8xf32, ["p", "d"]>, tensor<5x8xf32, ["n", "d"]>) -> tensor<9x8xf32, ["x", "d"]>
  return
}

// -----

func.func @concat_operands_hold_the_same_elements(%a: tensor<4xf32, ["p"]>, %b: tensor<5xf64, ["n"]>) {
  // expected-error@+1 {{'diag.concat' op operands hold f32 and f64, expected one element type}}
  %0 = "diag.concat"(%a, %b) {axes = ["p", "n"], to = "x"} : (tensor<4xf32, ["p"]>, tensor<5xf64, ["n"]>) -> tensor<9xf32, ["x"]>
  return
}

// -----

func.func @concat_sizes_add_up(%a: tensor<4xf32, ["p"]>, %b: tensor<5xf32, ["n"]>) {
  // expected-error@+1 {{'diag.concat' op result axis "x" has size 8, expected 9}}
  %0 = "diag.concat"(%a, %b) {axes = ["p", "n"], to = "x"} : (tensor<4xf32, ["p"]>, tensor<5xf32, ["n"]>) -> tensor<8xf32, ["x"]>
  return
}

// -----

func.func @pad_extends_an_axis_of_the_operand(%a: tensor<4xf32, ["p"]>) {
  // expected-error@+1 {{'diag.pad' op axis "q" is missing in the operand (tensor<4xf32, ["p"]>)}}
  %0 = "diag.pad"(%a) {axis = "q", to = "x", low = 1, high = 1, value = 0.0 : f32} : (tensor<4xf32, ["p"]>) -> tensor<6xf32, ["x"]>
  return
}

// -----

func.func @pad_makes_a_new_axis(%a: tensor<4xf32, ["p"]>) {
  // expected-error@+1 {{'diag.pad' op the padded axis needs a new label, found "p"}}
  %0 = "diag.pad"(%a) {axis = "p", to = "p", low = 1, high = 1, value = 0.0 : f32} : (tensor<4xf32, ["p"]>) -> tensor<6xf32, ["p"]>
  return
}

// -----

func.func @padding_is_not_negative(%a: tensor<4xf32, ["p"]>) {
  // expected-error@+1 {{'diag.pad' op padding must not be negative, found -1, 1}}
  %0 = "diag.pad"(%a) {axis = "p", to = "x", low = -1, high = 1, value = 0.0 : f32} : (tensor<4xf32, ["p"]>) -> tensor<4xf32, ["x"]>
  return
}

// -----

func.func @padding_has_a_value(%a: tensor<4xf32, ["p"]>) {
  // expected-error@+1 {{'diag.pad' op attribute 'value' is expected but not provided}}
  %0 = "diag.pad"(%a) {axis = "p", to = "x", low = 1, high = 1} : (tensor<4xf32, ["p"]>) -> tensor<6xf32, ["x"]>
  return
}

// -----

func.func @padding_is_a_number(%a: tensor<4xf32, ["p"]>) {
  // expected-error@+1 {{'diag.pad' op 'value' must be a number of type f32, found "zero"}}
  %0 = "diag.pad"(%a) {axis = "p", to = "x", low = 1, high = 1, value = "zero"} : (tensor<4xf32, ["p"]>) -> tensor<6xf32, ["x"]>
  return
}

// -----

func.func @padding_has_the_element_type(%a: tensor<4xf32, ["p"]>) {
  // expected-error@+1 {{'diag.pad' op 'value' must be a number of type f32, found 0.000000e+00 : f64}}
  %0 = "diag.pad"(%a) {axis = "p", to = "x", low = 1, high = 1, value = 0.0 : f64} : (tensor<4xf32, ["p"]>) -> tensor<6xf32, ["x"]>
  return
}

// ---- map ------------------------------------------------------------------------------------------

// -----

func.func @a_body_has_no_arguments() -> tensor<4xf32, ["q"]> {
  // expected-error@+1 {{'diag.map' op body must be one block without arguments}}
  %0 = "diag.map"() ({
  ^bb0(%a: f32):
    "diag.yield"(%a) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  return %0 : tensor<4xf32, ["q"]>
}

// -----

func.func @a_body_ends_with_its_yield(%a: tensor<4xf32, ["q"]>) {
  // expected-error@+1 {{'diag.map' op a region must end with its 'diag.yield' ops, one per result}}
  %0 = "diag.map"() ({
    %s = "diag.element"(%a) : (tensor<4xf32, ["q"]>) -> f32
    "diag.yield"(%s) : (f32) -> ()
    %t = math.exp %s : f32
  }) : () -> tensor<4xf32, ["q"]>
  return
}

// -----

func.func @a_body_yields_one_scalar(%a: tensor<4xf32, ["q"]>) {
  // expected-error@+1 {{'diag.map' op body must yield one scalar, found 2}}
  %0 = "diag.map"() ({
    %s = "diag.element"(%a) : (tensor<4xf32, ["q"]>) -> f32
    "diag.yield"(%s) : (f32) -> ()
    "diag.yield"(%s) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  return
}

// -----

func.func @a_body_yields_the_element_type(%a: tensor<4xf32, ["q"]>) {
  // expected-error@+1 {{'diag.map' op body yields f32, result is tensor<4xf64, ["q"]>}}
  %0 = "diag.map"() ({
    %s = "diag.element"(%a) : (tensor<4xf32, ["q"]>) -> f32
    "diag.yield"(%s) : (f32) -> ()
  }) : () -> tensor<4xf64, ["q"]>
  return
}

// -----

func.func @a_map_has_the_axes_of_what_it_reads(%a: tensor<4x8xf32, ["q", "d"]>) {
  %0 = "diag.map"() ({
    // expected-error@+1 {{'diag.map' op axis "d" of an element is missing in the result (tensor<4xf32, ["q"]>)}}
    %s = "diag.element"(%a) : (tensor<4x8xf32, ["q", "d"]>) -> f32
    "diag.yield"(%s) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  return
}

// -----

func.func @a_body_holds_arith_and_math(%a: tensor<4xf32, ["q"]>) {
  %0 = "diag.map"() ({
    // expected-error@+1 {{'diag.map' op 'diag.index' may not stand in a scalar body}}
    %i = "diag.index"() {axis = "q"} : () -> tensor<4xindex, ["q"]>
    %s = "diag.element"(%a) : (tensor<4xf32, ["q"]>) -> f32
    "diag.yield"(%s) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  return
}

// -----

func.func @a_body_reads_wires_by_element(%a: tensor<4xf32, ["q"]>) {
  %0 = "diag.map"() ({
    // expected-error@+1 {{'diag.map' op wires are read through 'diag.element'}}
    %t = arith.addf %a, %a : tensor<4xf32, ["q"]>
    %s = "diag.element"(%a) : (tensor<4xf32, ["q"]>) -> f32
    "diag.yield"(%s) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  return
}

// -----

func.func @a_body_holds_scalars() {
  %0 = "diag.map"() ({
    // expected-error@+1 {{'diag.map' op a body holds scalars, found tensor<4xf32>}}
    %t = arith.constant dense<0.0> : tensor<4xf32>
    %s = arith.constant 0.0 : f32
    "diag.yield"(%s) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  return
}

// -----

func.func @only_constants_come_from_outside(%a: f32) {
  %0 = "diag.map"() ({
    // expected-error@+1 {{'diag.map' op scalars from outside must be constants}}
    %s = math.exp %a : f32
    "diag.yield"(%s) : (f32) -> ()
  }) : () -> tensor<4xf32, ["q"]>
  return
}

// -----

func.func @an_element_stands_in_a_map(%a: tensor<4xf32, ["q"]>) {
  // expected-error@+1 {{'diag.element' op expects parent op 'diag.map'}}
  %s = "diag.element"(%a) : (tensor<4xf32, ["q"]>) -> f32
  return
}

// -----

func.func @an_element_has_the_element_type(%a: tensor<4xf32, ["q"]>) {
  %0 = "diag.map"() ({
    // expected-error@+1 {{'diag.element' op result type f64, expected f32}}
    %s = "diag.element"(%a) : (tensor<4xf32, ["q"]>) -> f64
    "diag.yield"(%s) : (f64) -> ()
  }) : () -> tensor<4xf64, ["q"]>
  return
}

// -----

func.func @a_yield_stands_in_a_map_or_a_stream(%a: tensor<4xf32, ["q"]>) {
  // expected-error@+1 {{'diag.yield' op expects parent op 'diag.map' or 'diag.stream'}}
  "diag.yield"(%a) : (tensor<4xf32, ["q"]>) -> ()
  return
}

// ---- stream ---------------------------------------------------------------------------------------

// -----

func.func @a_chunk_stands_in_a_stream(%v: tensor<?xf32, ["x"]>) {
  // expected-error@+1 {{'diag.chunk' op expects to stand inside 'diag.stream'}}
  %0 = "diag.chunk"(%v) : (tensor<?xf32, ["x"]>) -> tensor<?xf32, ["x"]>
  return
}

// -----

func.func @a_chunk_has_the_streamed_axis(%v: tensor<?xf32, ["q"]>, %z: tensor<f32, []>) {
  %0 = "diag.stream"() ({
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    // expected-error@+1 {{'diag.chunk' op axis "x" is missing in the operand (tensor<?xf32, ["q"]>)}}
    %c = "diag.chunk"(%v) : (tensor<?xf32, ["q"]>) -> tensor<?xf32, ["q"]>
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<f32, []>
  return
}

// -----

func.func @what_is_given_of_a_chunk_has_the_streamed_axis(%v: tensor<?xf32, ["x"]>, %z: tensor<f32, []>) {
  // expected-error@+1 {{'diag.stream' op axis "x" is missing in the result that is given chunk by chunk (tensor<f32, []>)}}
  %0, %1 = "diag.stream"() ({
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 1, 0, 0, 0, 0, 0, 0>} : () -> (tensor<f32, []>, tensor<f32, []>)
  return
}

// -----

func.func @a_body_gives_every_chunk(%v: tensor<?xf32, ["x"]>, %z: tensor<f32, []>) {
  // expected-error@+3 {{'diag.stream' op region 'body' yields (tensor<f32, []>), expected (tensor<f32, []>, tensor<?xf32, ["x"]>)}}
  %0, %1 = "diag.stream"() ({ "diag.yield"(%z) : (tensor<f32, []>) -> () }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 1, 0, 0, 0, 0, 0, 0>} : () -> (tensor<f32, []>, tensor<?xf32, ["x"]>)
  return
}

// -----

func.func @a_chunk_has_a_size_at_run_time(%v: tensor<6xf32, ["x"]>, %z: tensor<f32, []>) {
  %0 = "diag.stream"() ({
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    // expected-error@+1 {{'diag.chunk' op result axis "x" has size 6, expected ?}}
    %c = "diag.chunk"(%v) : (tensor<6xf32, ["x"]>) -> tensor<6xf32, ["x"]>
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<f32, []>
  return
}

// -----

func.func @a_chunk_is_of_a_wire_from_outside(%v: tensor<?xf32, ["x"]>, %z: tensor<f32, []>) {
  %0 = "diag.stream"() ({
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    %c = "diag.chunk"(%v) : (tensor<?xf32, ["x"]>) -> tensor<?xf32, ["x"]>
    // expected-error@+1 {{'diag.chunk' op the operand must come from outside the stream}}
    %d = "diag.chunk"(%c) : (tensor<?xf32, ["x"]>) -> tensor<?xf32, ["x"]>
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<f32, []>
  return
}

// -----

func.func @a_chunk_stands_in_the_body(%v: tensor<?xf32, ["x"]>, %z: tensor<f32, []>) {
  %0 = "diag.stream"() ({
    // expected-error@+1 {{'diag.stream' op 'diag.chunk' may only stand in the body}}
    %c = "diag.chunk"(%v) : (tensor<?xf32, ["x"]>) -> tensor<?xf32, ["x"]>
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<f32, []>
  return
}

// -----

func.func @positions_in_a_stream_are_chunks(%z: tensor<f32, []>) {
  %0 = "diag.stream"() ({
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    // expected-error@+1 {{'diag.stream' op 'diag.index' of the streamed axis "x" must stand outside and be read through 'diag.chunk'}}
    %i = "diag.index"() {axis = "x"} : () -> tensor<?xindex, ["x"]>
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<f32, []>
  return
}

// -----

func.func @streamed_wires_are_read_in_chunks(%v: tensor<?xf32, ["x"]>, %z: tensor<f32, []>) {
  %0 = "diag.stream"() ({
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    // expected-error@+1 {{'diag.stream' op outer wire with the streamed axis "x" must be read through 'diag.chunk'}}
    %b = "diag.reduce"(%v) {over = ["x"], kind = "add"} : (tensor<?xf32, ["x"]>) -> tensor<f32, []>
    "diag.yield"(%b) : (tensor<f32, []>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<f32, []>
  return
}

// -----

func.func @a_stream_has_a_body(%z: tensor<f32, []>) {
  // expected-error@+1 {{'diag.stream' op region 'body' must be one block, found 0}}
  %0 = "diag.stream"() ({
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  }, {
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<f32, []>
  return
}

// -----

func.func @a_state_does_not_have_the_streamed_axis(%z: tensor<?xf32, ["x"]>) {
  // expected-error@+1 {{'diag.stream' op state tensor<?xf32, ["x"]> carries the streamed axis "x"}}
  %0 = "diag.stream"() ({
    "diag.yield"(%z) : (tensor<?xf32, ["x"]>) -> ()
  }, {
  ^bb0(%a: tensor<?xf32, ["x"]>):
    "diag.yield"(%a) : (tensor<?xf32, ["x"]>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<?xf32, ["x"]>):
    "diag.yield"(%a) : (tensor<?xf32, ["x"]>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<?xf32, ["x"]>
  return
}

// -----

func.func @combine_takes_two_states(%z: tensor<f32, []>) {
  // expected-error@+1 {{'diag.stream' op region 'combine' takes (tensor<f32, []>), expected the state (tensor<f32, []>, tensor<f32, []>)}}
  %0 = "diag.stream"() ({
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<f32, []>
  return
}

// -----

func.func @the_body_yields_the_next_state(%z: tensor<f32, []>, %w: tensor<f64, []>) {
  %0 = "diag.stream"() ({
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    // expected-error@+1 {{'diag.stream' op region 'body' yields (tensor<f64, []>), expected (tensor<f32, []>)}}
    "diag.yield"(%w) : (tensor<f64, []>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<f32, []>
  return
}

// -----

func.func @the_condition_does_not_have_the_streamed_axis(%z: tensor<f32, []>, %where: tensor<?xi1, ["x"]>) {
  // expected-error@+1 {{'diag.stream' op 'where' must be an i1 wire without the streamed axis, found tensor<?xi1, ["x"]>}}
  %0 = "diag.stream"(%where) ({
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : (tensor<?xi1, ["x"]>) -> tensor<f32, []>
  return
}

// -----

func.func @properties_are_known(%z: tensor<f32, []>) {
  // expected-error@+1 {{'diag.stream' op unknown property 'fast'; expected monoid, commutative, ordered}}
  %0 = "diag.stream"() ({
    "diag.yield"(%z) : (tensor<f32, []>) -> ()
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }, {
  }, {
  ^bb0(%a: tensor<f32, []>):
    "diag.yield"(%a) : (tensor<f32, []>) -> ()
  }) {axis = "x", properties = ["fast"], resultSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0>} : () -> tensor<f32, []>
  return
}

// -----

func.func @sum_in_f8(%A: tensor<4x8xf8E4M3FN, ["q", "d"]>, %B: tensor<8x2xf32, ["d", "e"]>) {
  // expected-error @+1 {{the result must hold f16 or wider floats}}
  %S = "diag.contract"(%A, %B) {over = ["d"]} : (tensor<4x8xf8E4M3FN, ["q", "d"]>, tensor<8x2xf32, ["d", "e"]>) -> tensor<4x2xf8E4M3FN, ["q", "e"]>
  return
}

// -----

func.func @multiplied_in_another_type(%A: tensor<4x8xbf16, ["q", "d"]>, %B: tensor<8x2xf32, ["d", "e"]>) {
  // expected-error @+1 {{'mul' must be the type of an operand of f8, found f8E4M3FN}}
  %S = "diag.contract"(%A, %B) {mul = f8E4M3FN, over = ["d"]} : (tensor<4x8xbf16, ["q", "d"]>, tensor<8x2xf32, ["d", "e"]>) -> tensor<4x2xf32, ["q", "e"]>
  return
}

// -----

func.func @reduced_f8(%A: tensor<4x8xf8E4M3FN, ["q", "d"]>) {
  // expected-error @+1 {{reduction 'add' is not defined on f8E4M3FN; convert it to f32 before}}
  %S = "diag.reduce"(%A) {over = ["d"], kind = "add"} : (tensor<4x8xf8E4M3FN, ["q", "d"]>) -> tensor<4xf8E4M3FN, ["q"]>
  return
}

// -----

func.func @normalised_f8(%A: tensor<4x8xf8E4M3FN, ["q", "d"]>) {
  // expected-error @+1 {{f8E4M3FN is not normalised; convert it to f32 before}}
  %S = "diag.normalize"(%A) {along = ["d"], kind = "softmax"} : (tensor<4x8xf8E4M3FN, ["q", "d"]>) -> tensor<4x8xf8E4M3FN, ["q", "d"]>
  return
}
