// mbarrier objects: arrivals and bytes of copies complete a phase, waits ask for its parity.
//
// Arriving and waiting order memory as barriers do. A thread that has to wait is put aside; one that
// only asks (`try_wait`) is told "no" once, so that code which does not ask again is found.
#include <algorithm>

#include "machine.h"

namespace sim {

namespace {

// In the order of `_MBARRIER` in describe.py.
enum Misuse : int64_t { kUnknown, kTooMany, kInUse, kCountOfNone };

void misuse(Worker &worker, const Thread &thread, uint32_t site, int64_t offset, Misuse what,
            const Other &other = {}) {
  report(worker, Kind::Mbarrier, thread, site, kSync, kShared, offset, what, other);
}

Times &times_of(Worker &worker, const Thread &thread) {
  return worker.shadow.times[thread.warp->index];
}

bool is_over(const Mbarrier &mbarrier, uint32_t parity) {
  return (mbarrier.phase & 1) != (parity & 1);
}

void complete_phase(Mbarrier &mbarrier) {
  if (mbarrier.pending != 0 || mbarrier.bytes != 0) return;
  mbarrier.pending = mbarrier.expected;
  mbarrier.phase++;
  mbarrier.completed = mbarrier.gathering;
  mbarrier.gathering = Times{};
  for (auto &arrived : mbarrier.lanes) arrived = {};
  for (Thread *thread : mbarrier.waiting) wake_thread(*thread);
  mbarrier.waiting.clear();
}

// A lane arrives for itself. What other lanes of its warp have done since the warp met last is ordered
// when they have arrived, too; products are of the whole warp, and over for each of its lanes.
void gather(Worker &worker, const Thread &thread, Mbarrier &mbarrier) {
  const int warp = thread.warp->index;
  Times times = times_of(worker, thread);
  auto &arrived = mbarrier.lanes[warp];
  if (arrived.clock != times.clocks[warp]) arrived = {times.clocks[warp], 0};
  arrived.mask |= 1u << thread.lane;
  const bool for_others = thread.warp->touched & ~arrived.mask;
  times.clocks[warp] -= for_others;
  mbarrier.gathering.join(times);
  if (!for_others) advance_clock(worker, warp);
}

void arrive(Worker &worker, Thread &thread, Mbarrier &mbarrier, int64_t offset, int64_t count,
            uint32_t site) {
  if (count > mbarrier.pending) return misuse(worker, thread, site, offset, kTooMany);
  gather(worker, thread, mbarrier);
  mbarrier.pending -= count;
  complete_phase(mbarrier);
}

void wait(Worker &worker, Thread &thread, Mbarrier &mbarrier, uint32_t parity, uint32_t site) {
  while (!is_over(mbarrier, parity)) {
    thread.site = site;
    thread.warp->at_mbarrier |= 1u << thread.lane;
    mbarrier.waiting.push_back(&thread);
    block_thread(thread);
  }
  times_of(worker, thread).join(mbarrier.completed);
}

int64_t offset_of(uint64_t address) { return static_cast<int64_t>(address - kSharedBase); }

}  // namespace

void block_thread(Thread &thread) {
  thread.warp->ready &= ~(1u << thread.lane);
  give_way();
}

void wake_thread(Thread &thread) {
  thread.warp->at_mbarrier &= ~(1u << thread.lane);
  thread.warp->ready |= 1u << thread.lane;
}

// The object at an address; null, with a finding, where none was initialised before.
Mbarrier *find_mbarrier(Worker &worker, const Thread &thread, uint64_t address, uint32_t site) {
  auto found = worker.mbarriers.find(offset_of(address));
  if (found == worker.mbarriers.end()) {
    misuse(worker, thread, site, offset_of(address), kUnknown);
    return nullptr;
  }
  Mbarrier &mbarrier = found->second;
  const bool ordered = worker.shadow.before(mbarrier.warp, mbarrier.clock, mbarrier.lane,
                                            thread.warp->index, thread.lane);
  if (worker.machine->launch->checking && !ordered)
    report(worker, Kind::Race, thread, site, kAtomic, kShared, offset_of(address), 8,
           {mbarrier.warp * kLanes + mbarrier.lane, kNobody, mbarrier.site, kWrite});
  return &mbarrier;
}

// A copy that was issued knowing `times` has landed.
void complete_bytes(Worker &worker, int64_t offset, int64_t bytes, const Times &times) {
  auto found = worker.mbarriers.find(offset);
  if (found == worker.mbarriers.end()) return;  // invalidated meanwhile
  found->second.gathering.join(times);
  found->second.bytes -= bytes;
  complete_phase(found->second);
}

void report_mbarrier_stall(Worker &worker) {
  for (auto &[offset, mbarrier] : worker.mbarriers)
    for (Thread *thread : mbarrier.waiting)
      report(worker, Kind::Deadlock, *thread, thread->site, kSync, kShared, offset,
             mbarrier.pending << 32 | (mbarrier.bytes & 0xFFFFFFFF));
}

}  // namespace sim

SIM_EXPORT void diagc_sim_mbarrier_init(uint64_t address, uint32_t count, uint32_t site) {
  using namespace sim;
  keep_step();
  Worker &worker = *self;
  Thread &thread = *worker.current;
  access(worker, thread, address, 8, 8, kWrite, site);
  const int64_t offset = offset_of(address);
  if (count == 0) return misuse(worker, thread, site, offset, kCountOfNone);
  auto found = worker.mbarriers.find(offset);
  if (found != worker.mbarriers.end() && !found->second.waiting.empty())
    return misuse(worker, thread, site, offset, kInUse);
  Mbarrier mbarrier{};
  mbarrier.expected = mbarrier.pending = count;
  mbarrier.site = site;
  mbarrier.warp = thread.warp->index;
  mbarrier.lane = thread.lane;
  mbarrier.clock = times_of(worker, thread).clocks[mbarrier.warp];
  mbarrier.epoch = times_of(worker, thread).epoch;
  worker.mbarriers[offset] = std::move(mbarrier);
}

SIM_EXPORT void diagc_sim_mbarrier_inval(uint64_t address, uint32_t site) {
  using namespace sim;
  keep_step();
  Worker &worker = *self;
  Mbarrier *mbarrier = find_mbarrier(worker, *worker.current, address, site);
  if (mbarrier == nullptr) return;
  if (!mbarrier->waiting.empty())
    return misuse(worker, *worker.current, site, offset_of(address), kInUse);
  worker.mbarriers.erase(offset_of(address));
}

// Expects `bytes` more of copies, then arrives `count` times; gives the phase as a token.
SIM_EXPORT uint64_t diagc_sim_mbarrier_arrive(uint64_t address, uint32_t count, uint32_t bytes,
                                              uint32_t site) {
  using namespace sim;
  keep_step();
  Worker &worker = *self;
  Mbarrier *mbarrier = find_mbarrier(worker, *worker.current, address, site);
  if (mbarrier == nullptr) return 0;
  const uint32_t phase = mbarrier->phase;
  mbarrier->bytes += bytes;
  if (count) arrive(worker, *worker.current, *mbarrier, offset_of(address), count, site);
  return phase;
}

SIM_EXPORT void diagc_sim_mbarrier_wait(uint64_t address, uint32_t parity, uint32_t site) {
  using namespace sim;
  keep_step();
  Worker &worker = *self;
  Mbarrier *mbarrier = find_mbarrier(worker, *worker.current, address, site);
  if (mbarrier != nullptr) wait(worker, *worker.current, *mbarrier, parity, site);
}

// Whether the phase is over. After one "no" the second call in a row waits, or loops would spin.
SIM_EXPORT uint32_t diagc_sim_mbarrier_try_wait(uint64_t address, uint32_t parity, uint32_t site) {
  using namespace sim;
  keep_step();
  Worker &worker = *self;
  Thread &thread = *worker.current;
  Mbarrier *mbarrier = find_mbarrier(worker, thread, address, site);
  if (mbarrier == nullptr) return 1;
  const bool again = thread.polled == address;
  thread.polled = 0;
  if (!is_over(*mbarrier, parity) && !again) {
    thread.polled = address;
    return 0;
  }
  wait(worker, thread, *mbarrier, parity, site);
  return 1;
}

// Copies that are ordered behind know what this thread knows to be initialised; of other memory nothing.
SIM_EXPORT void diagc_sim_mbarrier_fence(uint32_t) {
  using namespace sim;
  keep_step();
  Worker &worker = *self;
  const Thread &thread = *worker.current;
  for (auto &[offset, mbarrier] : worker.mbarriers)
    mbarrier.fenced |= worker.shadow.before(mbarrier.warp, mbarrier.clock, mbarrier.lane,
                                            thread.warp->index, thread.lane);
}

// Ends an epoch: what this warp has written or read, and knows others to have, is ordered before copies in
// bulk and asynchronous products behind the fence. A lane fences what it knows: that is its own, and what
// other lanes did where the warp has met since, or all of it when they have fenced, too.
SIM_EXPORT void diagc_sim_proxy_fence(uint32_t) {
  using namespace sim;
  keep_step();
  const Thread &thread = *self->current;
  Warp &warp = *thread.warp;
  Times &times = self->shadow.times[warp.index];
  if (warp.fence_clock != times.clocks[warp.index]) warp.fenced = 0;
  warp.fence_clock = times.clocks[warp.index];
  warp.fenced |= 1u << thread.lane;
  if (!(warp.touched & ~warp.fenced)) times.fence(warp.index, self->warp_count);
}
