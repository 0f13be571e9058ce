// cp.async.bulk.tensor: boxes of arrays that a tensor map describes, to shared memory.
//
// A copy lands when no thread can go on, with an odd seed earlier by chance; which of them is chance,
// too, with any seed but 0. Then its bytes count for its mbarrier.
// Until then nobody may touch its destination.
#include <algorithm>

#include "boxes.h"

namespace sim {

namespace {

void land(Worker &worker, const BulkCopy &copy) {
  uint8_t *shared = worker.shared.data();
  const TensorMap &map = *copy.map;
  const Buffer &buffer = worker.machine->launch->buffers[map.buffer];
  int64_t read = 0;
  each_element(copy, [&](int64_t place, int64_t offset) {
    if (offset < 0) {
      memset(shared + place, 0, map.item);
      return;
    }
    memcpy(shared + place, buffer.data + offset, map.item);
    read += map.item;
  });
  worker.counters.global_read_bytes += read;
  worker.counters.global_read_sectors += (read + kSector - 1) / kSector;
  Times times{};
  times.clocks[worker.warp_count] = copy.tick;
  if (worker.machine->launch->checking)
    unlock_bulk(worker, *copy.thread, copy.shared, copy.bytes, copy.site, copy.tick);
  complete_bytes(worker, copy.mbarrier, copy.bytes, times);
}

void issue(Worker &worker, BulkCopy copy) {
  Thread &thread = *copy.thread;
  if (!is_placed(worker, copy, kWrite) || !is_inside(worker, copy, kRead)) return;
  if (worker.machine->launch->checking)
    lock_bulk(worker, thread, copy.shared, copy.bytes, copy.site);
  worker.bulk_copies.push_back(copy);
}

void check_fence(Worker &worker, const Thread &thread, const Mbarrier &mbarrier, int64_t offset,
                 uint32_t site) {
  const Times &times = worker.shadow.times[thread.warp->index];
  if (mbarrier.fenced || times.is_fenced(mbarrier.warp, mbarrier.clock, mbarrier.epoch)) return;
  report(worker, Kind::Fence, thread, site, kAtomic, kShared, offset, 8,
         {mbarrier.warp * kLanes + mbarrier.lane, kNobody, mbarrier.site, kWrite});
}

}  // namespace

bool land_bulk_copy(Worker &worker) {
  auto &copies = worker.bulk_copies;
  if (copies.empty()) return false;
  const bool by_chance = worker.machine->launch->seed != 0;
  const auto number = static_cast<ptrdiff_t>(by_chance ? next_random(worker) % copies.size() : 0);
  const BulkCopy copy = copies[number];
  copies.erase(copies.begin() + number);
  land(worker, copy);
  return true;
}

void report_late_copies(Worker &worker) {
  for (const BulkCopy &copy : worker.bulk_copies)
    report(worker, Kind::InFlight, *copy.thread, copy.site, kSync, kShared, copy.shared,
           copy.bytes, {copy.thread->index, kNobody, copy.site, kWrite});
  worker.bulk_copies.clear();
}

}  // namespace sim

// `coordinates` are i32 in slots of 8 bytes, the innermost dimension first.
SIM_EXPORT void diagc_sim_bulk_load(uint64_t destination, uint64_t mbarrier, uint64_t map_address,
                                    const uint64_t *coordinates, uint32_t rank, uint32_t site) {
  using namespace sim;
  keep_step();
  Worker &worker = *self;
  Thread &thread = *worker.current;
  BulkCopy copy{};
  if (!describe_box(worker, map_address, coordinates, rank, destination, site, copy)) return;
  Mbarrier *found = find_mbarrier(worker, thread, mbarrier, site);
  if (found == nullptr) return;
  const auto barrier = static_cast<int64_t>(mbarrier - kSharedBase);
  if (worker.machine->launch->checking) check_fence(worker, thread, *found, barrier, site);
  copy.mbarrier = barrier;
  copy.tick = ++worker.shadow.tick;
  issue(worker, copy);
}
