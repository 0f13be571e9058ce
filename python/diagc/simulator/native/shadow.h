// Shadow memory: who wrote and read each byte last, at which time of its warp's clock.
//
// Clocks go on from block to block of a worker, so nothing has to be cleared: whatever stands at or
// below `base`, the clock at the start of the block, is of an earlier block.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "interface.h"

namespace sim {

struct Worker;
struct Thread;

constexpr uint32_t kSeveral = 63;  // "lane" of several lanes that read at the same time

// Shared memory: one for each byte.
struct Cell {
  uint32_t clock = 0;
  uint8_t warp = 0, lane = 0, atomic = 0;
  uint8_t unused = 0;
  uint32_t site = 0;
  uint32_t pending_site = 0;
  uint16_t pending = 0;  // thread + 1 whose asynchronous copy is on its way here
  uint16_t unused2 = 0;
  uint32_t read_site = 0;
};

struct SharedShadow {
  std::vector<Cell> cells;
  std::vector<uint32_t> reads;  // of each byte and warp: clock << 6 | lane
  int warps = 0;
  uint32_t base = 0;
  uint32_t clocks[32][32] = {};

  void start_block(int bytes, int warp_count);
  bool before(int warp, uint32_t clock, uint32_t lane, int now_warp, uint32_t now_lane) const {
    if (warp == now_warp) return clock < clocks[warp][warp] || lane == now_lane;
    return clocks[now_warp][warp] >= clock;
  }
};

// Global memory: one for each element of a buffer that the kernel may write.
struct Last {
  int32_t block = -1;
  uint32_t clock = 0;
  uint32_t site = 0;
  uint8_t warp = 0, lane = 0, atomic = 0, several_blocks = 0;
};

struct GlobalCell {
  Last write, read;
  uint32_t pending_site = 0;
  uint16_t pending_reads = 0;  // asynchronous copies on their way from here
  uint16_t pending_thread = 0;
};

struct GlobalShadow {
  std::vector<GlobalCell> cells;
  std::atomic_flag *locks = nullptr;
  GlobalShadow() = default;
  GlobalShadow(GlobalShadow &&other) noexcept;
  ~GlobalShadow();
};

void check_shared(Worker &worker, const Thread &thread, int64_t offset, uint32_t size, Access access,
                  uint32_t site);
void check_global(Worker &worker, const Thread &thread, int32_t buffer, int64_t offset, uint32_t size,
                  Access access, uint32_t site);

// An asynchronous copy begins: nobody may touch `offset`, size` of shared memory until it is over.
void lock_shared(Worker &worker, const Thread &thread, int64_t offset, uint32_t size, uint32_t site);
void unlock_shared(Worker &worker, const Thread &thread, int64_t offset, uint32_t size, uint32_t site);
// ... and nobody may write its source.
void lock_source(Worker &worker, const Thread &thread, int32_t buffer, int64_t offset, uint32_t size,
                 uint32_t site, int change);

}  // namespace sim
