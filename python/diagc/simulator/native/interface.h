// What Python and the run time hand each other; diagc/simulator/native.py declares the same structs.
#pragma once

#include <cstdint>

namespace sim {

// In the order of `KINDS` in findings.py.
enum class Kind : int32_t {
  OutOfBounds,
  Misaligned,
  UnwrittenRead,
  Race,
  InFlight,
  SourceOverwritten,
  ReadOnly,
  Divergent,
  Deadlock,
  BarrierCount,
  Endless,
  InactiveLane,
  DivisionByZero,
  CopySize,
  Accumulator,
  Fence,
  Mbarrier,
  Descriptor,
};

enum Access : int32_t { kRead, kWrite, kAtomic, kSync };

constexpr int kNobody = -1;        // no second thread, block or site
constexpr int kExited = -2;        // the second thread has returned
constexpr int32_t kShared = -1;    // "buffer" of findings in shared memory
constexpr int32_t kNowhere = -2;   // address in no buffer

struct Finding {
  int32_t kind, access, site, other_site;
  int32_t block[3];
  int32_t thread, other_thread, other_access;
  int32_t other_block;  // linear index, or kNobody when it is the same block
  int32_t buffer;
  int64_t offset;
  int64_t size;
  int64_t count;
};

struct Buffer {
  uint8_t *data;
  int64_t bytes;
  int64_t item;       // bytes of an element: the granularity of `written`
  uint8_t *written;   // a byte for each element, or null where all of it is initialised
  int32_t writable;
  int32_t unused;
};

// What cuTensorMapEncodeTiled makes; the innermost dimension comes first.
struct TensorMap {
  int32_t buffer;
  int32_t rank;
  int32_t item;     // bytes of an element
  int32_t swizzle;  // bytes of a line that is swizzled: 0, 32, 64 or 128
  int64_t size[5];
  int64_t stride[5];  // in bytes
  int32_t box[5];
  int32_t unused;
};

struct Counters {
  int64_t global_read_bytes, global_write_bytes;      // what the lanes asked for
  int64_t global_read_sectors, global_write_sectors;  // distinct 32-byte sectors of a warp's access
  int64_t shared_read_bytes, shared_write_bytes;
  int64_t shared_wavefronts, bank_conflicts;  // passes over the banks; those that conflicts add
  int64_t atomic_bytes;
  int64_t memory_instructions;  // of a warp
};

struct Launch {
  void (*entry)(const uint64_t *arguments);
  const uint64_t *arguments;
  int32_t grid[3];
  int32_t threads;
  int32_t shared_bytes;
  int32_t buffer_count;
  const Buffer *buffers;
  const TensorMap *tensor_maps;
  int32_t tensor_map_count;
  int32_t site_count;
  int32_t basic_block_count;
  int32_t checking;
  int32_t seed;
  int32_t workers;
  int32_t finding_limit;
  int32_t environment;  // the special register envreg0
  int64_t step_limit;  // basic blocks that one thread may run
  // results
  Finding *findings;
  int32_t finding_count;
  int32_t unused;
  int64_t *basic_block_runs;
  Counters counters;
};

}  // namespace sim
