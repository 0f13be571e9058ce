// State of a simulated launch: workers (threads of the host), the block each runs, its warps and threads.
#pragma once

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
constexpr int kMaxWarps = 32;
constexpr int kBarriers = 16;
constexpr size_t kStackBytes = 1 << 20;  // reserved; the host's code keeps every value on it
constexpr size_t kScratchBytes = 1024;  // the widest access, _WIDEST in rewrite.py

// Simulated addresses. Shared memory lies below 4 GiB, because kernels cut its addresses to 32 bits;
// buffers lie where no address of the host can be.
constexpr uint64_t kSharedBase = 0x10000000;
constexpr uint64_t kSharedWindow = 0x01000000;  // addresses this near to shared memory were meant for it
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

struct Thread {
  Fiber fiber;
  Warp *warp;
  int index, lane;
  uint32_t site;  // of what it waits for
  bool done;
  int64_t steps;
  uint8_t *stack;
  std::vector<AsyncCopy> copies;  // issued and not waited for, oldest first
  uint32_t groups;                // committed so far
  alignas(64) uint8_t scratch[kScratchBytes];
};

struct Warp {
  int index;
  uint32_t exists, ready, collecting, at_barrier;
  uint32_t group_site, group_mask, group;  // the collective that lanes arrived at last
  uint32_t sites[kLanes], masks[kLanes];
  void *arguments[kLanes];
};

struct Barrier {
  int expected, arrived;
  uint32_t site;
  uint32_t waiting[kMaxWarps];
  uint32_t clock[kMaxWarps];
};

// Accesses of one instruction by the lanes of a warp, gathered until a lane comes there again.
struct Gathered {
  uint32_t mask;
  uint32_t bytes;
  int32_t access;
  bool shared, listed;
  uint64_t addresses[kLanes];
};

struct Worker {
  Machine *machine;
  Fiber scheduler;
  Thread *current;
  int warp_count;
  std::vector<std::unique_ptr<Thread>> pool;
  std::vector<Thread *> threads;
  Warp warps[kMaxWarps];
  Barrier barriers[kBarriers];
  std::vector<uint8_t> shared;
  SharedShadow shadow;
  int block, coordinates[3];
  uint64_t random;
  bool aborted;
  Counters counters;
  std::vector<int64_t> runs;
  std::vector<std::unique_ptr<Gathered>> gathered;
  std::vector<uint32_t> open[kMaxWarps];  // keys of `gathered` that wait for lanes
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
void give_way();                 // back to the scheduler
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
