// Collectives of a warp, barriers of a block, and what they order (vector clocks, one entry a warp).
#include <algorithm>

#include "machine.h"

namespace sim {

namespace {

uint32_t lanes_at(const Warp &warp, uint32_t site, uint32_t mask) {
  uint32_t group = 0;
  each_lane(warp.collecting, [&](int lane) {
    if (warp.sites[lane] == site && warp.masks[lane] == mask) group |= 1u << lane;
  });
  return group;
}

uint32_t arrive(Warp &warp, int lane, uint32_t site, uint32_t mask) {
  warp.collecting |= 1u << lane;
  warp.sites[lane] = site;
  warp.masks[lane] = mask;
  const bool same = warp.group && warp.group_site == site && warp.group_mask == mask;
  warp.group = same ? warp.group | 1u << lane : lanes_at(warp, site, mask);
  warp.group_site = site;
  warp.group_mask = mask;
  return warp.group;
}

}  // namespace

// Waits until every lane of `mask` is at this instruction; the last one executes it for all.
void collective(uint32_t mask, uint32_t site, void *argument, Execute execute) {
  Worker &worker = *self;
  Thread &thread = *worker.current;
  Warp &warp = *thread.warp;
  const uint32_t me = 1u << thread.lane;
  mask &= warp.exists;
  if (!(mask & me)) {
    report(worker, Kind::InactiveLane, thread, site, kSync, kNowhere, 0, 0);
    abort_block();
  }
  thread.site = site;
  warp.arguments[thread.lane] = argument;
  if (arrive(warp, thread.lane, site, mask) == mask) {
    warp.collecting &= ~mask;
    warp.group = 0;
    warp.ready &= ~mask;
    flush_counts(worker, warp);
    warp.ready |= execute(worker, warp, mask, warp.arguments);
  } else {
    warp.ready &= ~me;
  }
  if (!(warp.ready & me)) give_way();
}

void advance_clock(Worker &worker, int warp) {
  Times &times = worker.shadow.times[warp];
  times.product_clocks[warp] = ++times.clocks[warp];
  worker.warps[warp].touched = 0;
}

namespace {

void complete(Worker &worker, Barrier &barrier) {
  for (int i = 0; i < worker.warp_count; i++) {
    if (!barrier.waiting[i]) continue;
    worker.shadow.times[i].join(barrier.times);
    advance_clock(worker, i);
    worker.warps[i].ready |= barrier.waiting[i];
  }
  barrier = Barrier{};
}

struct Arrival {
  int id, expected;
  uint32_t site;
  bool waits;
};

void arrive_at_barrier(Worker &worker, Warp &warp, uint32_t lanes, const Arrival &arrival) {
  Barrier &barrier = worker.barriers[arrival.id & (kBarriers - 1)];
  Thread &thread = thread_of(warp, __builtin_ctz(lanes));
  if (barrier.came[warp.index] & lanes) {
    report(worker, Kind::BarrierCount, thread, arrival.site, kSync, kNowhere, barrier.expected, 0,
           {kNobody, kNobody, barrier.site, kSync});
    abort_block();
  }
  if (barrier.arrived && barrier.expected != arrival.expected) {
    report(worker, Kind::BarrierCount, thread, arrival.site, kSync, kNowhere, barrier.expected,
           arrival.expected, {kNobody, kNobody, barrier.site, kSync});
    abort_block();
  }
  barrier.expected = arrival.expected;
  barrier.site = arrival.site;
  barrier.thread = thread.index;
  barrier.came[warp.index] |= lanes;
  barrier.arrived += __builtin_popcount(lanes);
  barrier.times.join(worker.shadow.times[warp.index]);
  if (arrival.waits)
    barrier.waiting[warp.index] |= lanes;
  else
    advance_clock(worker, warp.index);
  if (barrier.arrived > barrier.expected) {
    report(worker, Kind::BarrierCount, thread, arrival.site, kSync, kNowhere, barrier.expected,
           barrier.arrived);
    abort_block();
  }
  if (barrier.arrived == barrier.expected) complete(worker, barrier);
}

// All lanes of the warp arrive together; those that wait go on when the barrier completes.
uint32_t execute_barrier(Worker &worker, Warp &warp, uint32_t mask, void **arguments) {
  const auto &arrival = *static_cast<Arrival *>(arguments[__builtin_ctz(mask)]);
  uint32_t before = warp.ready;
  arrive_at_barrier(worker, warp, mask, arrival);
  return arrival.waits ? warp.ready & ~before & mask : mask;
}

uint32_t execute_syncwarp(Worker &worker, Warp &warp, uint32_t mask, void **) {
  advance_clock(worker, warp.index);
  return mask;
}

void barrier(int id, int expected, uint32_t site, bool waits, bool aligned) {
  Worker &worker = *self;
  if (expected <= 0) expected = worker.machine->launch->threads;
  Arrival arrival{id, expected, site, waits};
  if (aligned) return collective(~0u, site, &arrival, execute_barrier);
  Thread &thread = *worker.current;
  Warp &warp = *thread.warp;
  const uint32_t me = 1u << thread.lane;
  thread.site = site;
  if (waits) warp.ready &= ~me;
  arrive_at_barrier(worker, warp, me, arrival);
  if (!(warp.ready & me)) give_way();
}

}  // namespace

namespace {

// Threads that have returned may be missing where a barrier wants more than those that are left.
void report_waiting(Worker &worker, const Barrier &barrier, const Thread *exited) {
  const int left = worker.machine->launch->threads - worker.returned;
  const int64_t missing = int64_t{barrier.arrived} << 32 | static_cast<uint32_t>(barrier.expected);
  for (int i = 0; i < worker.warp_count; i++)
    each_lane(barrier.waiting[i], [&](int lane) {
      const Thread &thread = thread_of(worker.warps[i], lane);
      if (exited && barrier.expected > left)
        report(worker, Kind::Divergent, thread, thread.site, kSync, kNowhere, 0, 0,
               {exited->index, kExited, UINT32_MAX, kSync});
      else
        report(worker, Kind::Deadlock, thread, thread.site, kSync, kNowhere,
               &barrier - worker.barriers, missing);
    });
}

}  // namespace

// The block ends: whoever has arrived at a barrier without waiting there was in vain.
void report_half_barriers(Worker &worker) {
  for (const Barrier &barrier : worker.barriers)
    if (barrier.arrived)
      report(worker, Kind::BarrierCount, *worker.threads[barrier.thread], barrier.site, kSync, kShared,
             barrier.expected, barrier.arrived);
}

// Nothing can run: say who waits where. A collective that lacks lanes is divergence, as is a barrier
// that waits for threads that have returned; anything else is deadlock.
void report_stall(Worker &worker) {
  bool divergent = false;
  for (int i = 0; i < worker.warp_count; i++) {
    Warp &warp = worker.warps[i];
    each_lane(warp.collecting, [&](int lane) {
      const uint32_t missing = warp.masks[lane] & ~lanes_at(warp, warp.sites[lane], warp.masks[lane]);
      if (!missing) return;
      Thread &absent = thread_of(warp, __builtin_ctz(missing));
      divergent = true;
      report(worker, Kind::Divergent, thread_of(warp, lane), warp.sites[lane], kSync, kNowhere, 0, 0,
             {absent.index, absent.done ? kExited : kNobody, absent.done ? UINT32_MAX : absent.site,
              kSync});
    });
  }
  const Thread *exited = nullptr;
  for (Thread *thread : worker.threads)
    if (thread->done && !exited) exited = thread;
  if (divergent) return;
  for (const Barrier &barrier : worker.barriers) report_waiting(worker, barrier, exited);
  report_mbarrier_stall(worker);
}

}  // namespace sim

SIM_EXPORT void diagc_sim_barrier(int32_t id, int32_t expected, uint32_t mode, uint32_t site) {
  sim::barrier(id, expected, site, (mode & 1) != 0, (mode & 2) != 0);
}

SIM_EXPORT void diagc_sim_syncwarp(uint32_t mask, uint32_t site) {
  sim::collective(mask, site, nullptr, sim::execute_syncwarp);
}
