// Shadow memory: who wrote and read each byte last, at which time of its warp's clock.
//
// Clocks go on from block to block of a worker, so nothing has to be cleared: whatever stands at or
// below `base`, the clock at the start of the block, is of an earlier block.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "interface.h"

namespace sim {

struct Worker;
struct Thread;

constexpr int kMaxWarps = 32;
constexpr int kAgents = kMaxWarps + 1;  // warps, and what copies in bulk, which is number `warp_count`

constexpr uint32_t kSeveral = 63;  // "lane" of several lanes that read at the same time

// What a warp knows of all others: up to which time their writes are ordered before, and up to where
// these are visible to the asynchronous proxy besides: by a fence of another warp that knew them, up
// to a time, or by one of the writer, whose epochs end with its fences.
struct Times {
  uint32_t clocks[kAgents] = {}, fenced_clocks[kAgents] = {}, fenced_epochs[kMaxWarps] = {};
  uint32_t product_clocks[kMaxWarps] = {};  // up to which their products are over: of whole warps
  uint32_t epoch = 1;  // of the warp itself; nobody else takes it over
  void join(const Times &other);
  void fence(int warp, int count);
  bool is_fenced(int warp, uint32_t clock, uint32_t at_epoch) const {
    return fenced_clocks[warp] >= clock || fenced_epochs[warp] >= at_epoch;
  }
};

// Shared memory: one for as many bytes as no access so far has cut.
struct Cell {
  uint32_t clock = 0;
  uint8_t warp = 0, lane = 0, atomic = 0;
  uint8_t readers = 0;  // asynchronous products that still read it
  uint32_t site = 0;
  uint32_t pending_site = 0;
  uint16_t pending = 0;  // thread + 1 whose asynchronous copy is on its way here
  uint16_t epoch = 0;    // of the warp that wrote it
  uint32_t read_site = 0;
};

struct SharedShadow {
  std::vector<Cell> cells;
  std::vector<uint32_t> reads;  // of each cell and warp: clock << 6 | lane
  std::vector<uint32_t> product_reads;  // the same: clock of the wait for the last product that read it
  std::vector<uint16_t> read_epochs;  // the same, of reads by threads: epoch of the warp, 0 if there is none
  int bytes = 0, warps = 0;
  int shift = 4;  // log2 of a cell's bytes
  uint32_t base = 0;
  Times times[kMaxWarps];
  uint32_t tick = 0;  // of what copies in bulk: each copy has its own

  void start_block(int byte_count, int warp_count);
  void split();  // cells of half the size
  // `action(cell, offset)` for all cells of an access, which are whole ones from now on.
  template <class F>
  void each_cell(int64_t offset, uint32_t size, F action) {
    while ((static_cast<uint64_t>(offset) | size) & ((1u << shift) - 1)) split();
    const int64_t end = (offset + size) >> shift;
    for (int64_t i = offset >> shift; i < end; i++) action(cells[i], i << shift);
  }
  uint32_t *reads_at(int64_t offset) { return &reads[static_cast<size_t>(offset >> shift) * warps]; }
  uint32_t *product_reads_at(int64_t offset) {
    return &product_reads[static_cast<size_t>(offset >> shift) * warps];
  }
  uint16_t *read_epochs_at(int64_t offset) {
    return &read_epochs[static_cast<size_t>(offset >> shift) * warps];
  }
  bool before(int warp, uint32_t clock, uint32_t lane, int now_warp, uint32_t now_lane) const {
    if (warp == now_warp) return clock < times[warp].clocks[warp] || lane == now_lane;
    return times[now_warp].clocks[warp] >= clock;
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
// The same by what copies in bulk, which writes at `tick`: what threads have written or read there must
// have gone through a fence of the proxy, or it may come behind the copy.
void lock_bulk(Worker &worker, const Thread &thread, int64_t offset, uint32_t size, uint32_t site);
void unlock_bulk(Worker &worker, const Thread &thread, int64_t offset, uint32_t size, uint32_t site,
                 uint32_t tick);
// An asynchronous product of the thread's warp, or a store in bulk, reads: as any read, and what threads
// have written must have gone through a fence of the proxy; nobody may write it until it is released.
void lock_async_read(Worker &worker, const Thread &thread, int64_t offset, uint32_t size,
                     uint32_t site);
void release_product_read(Worker &worker, int warp, int64_t offset, uint32_t size);
// A store's thread has waited: who writes there must come behind that.
void end_async_read(Worker &worker, const Thread &thread, int64_t offset, uint32_t size, uint32_t site);
// ... and nobody may write its source.
void lock_source(Worker &worker, const Thread &thread, int32_t buffer, int64_t offset, uint32_t size,
                 uint32_t site, int change);

}  // namespace sim
