// Boxes of arrays that a tensor map describes, on their way to or from shared memory.
#pragma once

#include <algorithm>

#include "machine.h"

namespace sim {

constexpr int64_t kSector = 32;

// CU_TENSOR_MAP_SWIZZLE_*B: bits 4 and up of the address change by bits 7 and up.
inline int64_t swizzled(int64_t offset, int32_t line) {
  return offset ^ ((offset >> 7 & (line / 16 - 1)) << 4);
}

// Of the element at a position of the array, in bytes; -1 beyond its ends.
inline int64_t offset_in_array(const TensorMap &map, const int64_t *position) {
  int64_t offset = 0;
  for (int i = 0; i < map.rank; i++) {
    if (position[i] < 0 || position[i] >= map.size[i]) return -1;
    offset += position[i] * map.stride[i];
  }
  return offset;
}

// `action(place in shared memory, offset in the array)` for all elements.
template <class F>
void each_element(const Box &box, F action) {
  const TensorMap &map = *box.map;
  int64_t position[5] = {};
  for (int64_t number = 0; number < box.bytes / map.item; number++) {
    int64_t rest = number;
    for (int i = 0; i < map.rank; i++) {
      position[i] = box.at[i] + rest % map.box[i];
      rest /= map.box[i];
    }
    action(swizzled(box.shared + number * map.item, std::max(map.swizzle, 16)),
           offset_in_array(map, position));
  }
}

// All of a box from the operands of an instruction; false, with a finding, if they are wrong.
bool describe_box(Worker &worker, uint64_t map_address, const uint64_t *coordinates, uint32_t rank,
                  uint64_t shared, uint32_t site, Box &box);

// Whether it lies in shared memory, aligned; `kind` is what is done there. False with a finding.
bool is_placed(Worker &worker, const Box &box, Access kind);

// An array that goes beyond its buffer is a fault of the map; it is looked for where it is used.
bool is_inside(Worker &worker, const Box &box, Access kind);

}  // namespace sim
