// State of a simulated launch: workers (threads of the host), the block each runs, its warps and threads.
#pragma once

#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include "fiber.h"
#include "interface.h"
#include "shadow.h"

namespace sim {

constexpr int kLanes = 32;
constexpr int kBarriers = 16;
constexpr size_t kStackBytes = 1 << 20;  // reserved; the host's code keeps every value on it
constexpr size_t kScratchBytes = 1024;  // the widest access, _WIDEST in rewrite.py

// Simulated addresses. Shared memory lies below 4 GiB, because kernels cut its addresses to 32 bits;
// buffers lie where no address of the host can be.
constexpr uint64_t kSharedBase = 0x10000000;
constexpr uint64_t kSharedWindow = 0x01000000;  // addresses this near to shared memory were meant for it
constexpr uint64_t kMapSpace = uint64_t{1} << 63;  // | number of a tensor map
constexpr uint64_t kBufferSpace = uint64_t{1} << 62;
constexpr int kBufferShift = 44;

struct Machine;
struct Warp;

struct AsyncCopy {
  uint64_t destination, source;
  uint32_t bytes, source_bytes;
  uint32_t site;
  uint32_t group;
};

// The sums of an asynchronous product, kept until the wait that the kernel ties them to.
struct Accumulators {
  uint32_t number;  // in the tags that stand for the values
  uint32_t group;   // of the warp
  bool over;        // waited for: whoever uses the tag now has not taken what the wait gave
  std::vector<float> values;
};

// Shared memory that products of a warp still read.
struct ProductRead {
  uint32_t group;
  int64_t offset;
  int32_t bytes;
};

struct Thread {
  Fiber fiber;
  Warp *warp;
  int index, lane;
  uint32_t site;  // of what it waits for
  bool done;
  int64_t steps;
  uint8_t *stack;
  std::vector<AsyncCopy> copies;  // issued and not waited for, oldest first
  uint32_t groups, store_groups;  // committed so far
  uint64_t polled;                // mbarrier that was asked for without success just before, else 0
  std::vector<Accumulators> accumulators;  // whose products are not waited for
  uint32_t product_count;
  alignas(64) uint8_t scratch[kScratchBytes];
};

struct Warp {
  int index;
  uint32_t exists, ready, collecting, at_mbarrier;
  uint32_t group_site, group_mask, group;  // the collective that lanes arrived at last
  uint32_t sites[kLanes], masks[kLanes];
  void *arguments[kLanes];
  uint32_t touched;  // lanes that have read or written shared memory since the warp's clock went on
  uint32_t fenced, fence_clock;  // lanes that have fenced the proxy at this time of the warp's clock
  uint32_t products, product_groups;  // issued, committed
  bool product_fence;                 // since the last wait for products
  std::vector<ProductRead> product_reads;
};

struct Barrier {
  int expected, arrived;
  uint32_t site;                                 // of the last arrival, by `thread`
  int thread;
  uint32_t came[kMaxWarps], waiting[kMaxWarps];  // lanes; those that came by `arrive` do not wait
  Times times;
};

// An mbarrier object; phases count from 0, the one with parity p is over when (phase & 1) != p.
struct Mbarrier {
  int64_t expected, pending, bytes;
  uint32_t phase;
  uint32_t site;        // of its initialisation, by `warp` at `clock`
  int warp, lane;
  uint32_t clock, epoch;
  bool fenced;          // by fence.mbarrier_init, which is for this alone
  Times gathering, completed;  // what the phase under way and the last one order
  struct {
    uint32_t clock, mask;
  } lanes[kMaxWarps];  // that have arrived at a warp's clock, in the phase under way
  std::vector<Thread *> waiting;
};

// A box of an array that moves by a tensor map.
struct Box {
  const TensorMap *map;
  int32_t at[5];
  int64_t shared;  // offset in shared memory
  int64_t bytes;
  uint32_t site;
  Thread *thread;
};

// To shared memory: it has not landed.
struct BulkCopy : Box {
  int64_t mbarrier;
  uint32_t tick;
};

// From shared memory: its thread has not waited for it.
struct BulkStore : Box {
  uint32_t group;
  bool landed;
};

// Accesses of one instruction by the lanes of a warp, gathered until a lane comes there again.
struct Gathered {
  uint32_t mask;
  uint32_t bytes;
  int32_t access;
  bool shared, listed;
  uint64_t addresses[kLanes];
};

constexpr int kBanks = 32, kMostWords = 256;
using BankWords = std::array<std::array<uint64_t, kMostWords>, kBanks>;  // distinct ones, by bank

struct Worker {
  Machine *machine;
  Fiber scheduler;
  Thread *current;
  Warp *running;    // whose lanes take turns
  int first, turn;  // lane that began, and how many had their turn
  int warp_count;
  std::vector<std::unique_ptr<Thread>> pool;
  std::vector<Thread *> threads;
  Warp warps[kMaxWarps];
  Barrier barriers[kBarriers];
  std::map<int64_t, Mbarrier> mbarriers;  // by offset in shared memory
  std::vector<BulkCopy> bulk_copies;      // oldest first
  std::vector<BulkStore> bulk_stores;
  std::vector<uint8_t> shared;
  SharedShadow shadow;
  int block, coordinates[3];
  uint64_t random;
  bool aborted;
  int returned;  // threads
  Counters counters;
  std::vector<int64_t> runs;
  std::vector<std::unique_ptr<Gathered>> gathered;
  std::vector<uint32_t> open[kMaxWarps];  // keys of `gathered` that wait for lanes
  BankWords words;                        // scratch memory of count.cpp
};

struct FindingKey {
  int32_t kind, site, other_site;
  bool operator<(const FindingKey &o) const {
    return std::tie(kind, site, other_site) < std::tie(o.kind, o.site, o.other_site);
  }
};

struct Machine {
  Launch *launch;
  std::atomic<int> next_block;
  std::mutex mutex;
  std::map<FindingKey, Finding> findings;
  std::vector<GlobalShadow> shadows;
};

extern thread_local Worker *self;

struct Place {
  uint8_t *data;
  int32_t buffer;
  int64_t offset;
};

struct Other {
  int thread = kNobody, block = kNobody;
  uint32_t site = UINT32_MAX;
  int access = kSync;
};

// machine.cpp
void give_way();                 // to the next lane, or back to the scheduler
void keep_step();                // before an access, where accesses are counted
[[noreturn]] void abort_block();  // from a fiber: the block ends here
uint64_t next_random(Worker &worker);

// findings.cpp
void report(Worker &worker, Kind kind, const Thread &thread, uint32_t site, Access access,
            int32_t buffer, int64_t offset, int64_t size, const Other &other = {});

// memory.cpp
bool locate(const Worker &worker, uint64_t address, int64_t size, Place &place);
uint8_t *access(Worker &worker, Thread &thread, uint64_t address, uint32_t size, uint32_t align,
                Access kind, uint32_t site);

// count.cpp
void count_access(Worker &worker, const Thread &thread, const Place &place, uint32_t size, Access kind,
                  uint32_t site);
void flush_counts(Worker &worker, const Warp &warp);

// async.cpp
void finish_copies(Worker &worker, Thread &thread, uint32_t allowed);  // but the newest `allowed` groups

// sync.cpp
using Execute = uint32_t (*)(Worker &, Warp &, uint32_t mask, void **arguments);  // lanes that go on
void collective(uint32_t mask, uint32_t site, void *argument, Execute execute);
void advance_clock(Worker &worker, int warp);
void block_thread(Thread &thread);  // until wake_thread
void report_half_barriers(Worker &worker);

// mbarrier.cpp
void complete_bytes(Worker &worker, int64_t mbarrier, int64_t bytes, const Times &times);
void wake_thread(Thread &thread);
Mbarrier *find_mbarrier(Worker &worker, const Thread &thread, uint64_t address, uint32_t site);
void report_mbarrier_stall(Worker &worker);

// bulk_copy.cpp
bool land_bulk_copy(Worker &worker);  // one that is under way, if there is one
void report_late_copies(Worker &worker);

// bulk_store.cpp
void land_bulk_store(Worker &worker);
void report_late_stores(Worker &worker);

// product.cpp
constexpr uint32_t kTag = 0x7FE00000, kTagMask = 0xFFE00000;
void whole_warp(uint32_t site, void *argument, Execute execute);
void report_stall(Worker &worker);

inline Thread &thread_of(Warp &warp, int lane) {
  return *self->threads[static_cast<size_t>(warp.index * kLanes + lane)];
}

template <class F>
void each_lane(uint32_t mask, F action) {
  for (; mask; mask &= mask - 1) action(__builtin_ctz(mask));
}

}  // namespace sim

#define SIM_EXPORT extern "C" __attribute__((visibility("default")))
