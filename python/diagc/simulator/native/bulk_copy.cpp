// cp.async.bulk.tensor: boxes of arrays that a tensor map describes, to shared memory.
//
// A copy lands when no thread can go on, with an odd seed earlier by chance; which of them is chance,
// too, with any seed but 0. Then its bytes count for its mbarrier.
// Until then nobody may touch its destination.
#include <algorithm>

#include "machine.h"

namespace sim {

namespace {

// In the order of `_DESCRIPTORS` in describe.py.
enum Fault : int64_t { kNoMap, kRank };

constexpr int64_t kAlignment = 128;  // of the destination
constexpr int64_t kSector = 32;

int64_t elements(const TensorMap &map) {
  int64_t count = 1;
  for (int i = 0; i < map.rank; i++) count *= map.box[i];
  return count;
}

// CU_TENSOR_MAP_SWIZZLE_*B: bits 4 and up of the address change by bits 7 and up.
int64_t swizzled(int64_t offset, int32_t line) {
  return offset ^ ((offset >> 7 & (line / 16 - 1)) << 4);
}

const TensorMap *find_map(const Worker &worker, uint64_t address) {
  const Launch &launch = *worker.machine->launch;
  const uint64_t number = address ^ kMapSpace;
  return number < static_cast<uint64_t>(launch.tensor_map_count) ? &launch.tensor_maps[number] : nullptr;
}

// Bytes of the element at a position of the array; null beyond its ends, which reads as 0.
const uint8_t *source_of(const Worker &worker, const TensorMap &map, const int64_t *position) {
  int64_t offset = 0;
  for (int i = 0; i < map.rank; i++) {
    if (position[i] < 0 || position[i] >= map.size[i]) return nullptr;
    offset += position[i] * map.stride[i];
  }
  return worker.machine->launch->buffers[map.buffer].data + offset;
}

template <class F>
void each_element(const BulkCopy &copy, F action) {
  const TensorMap &map = *copy.map;
  int64_t position[5] = {};
  for (int64_t number = 0; number < elements(map); number++) {
    int64_t rest = number;
    for (int i = 0; i < map.rank; i++) {
      position[i] = copy.at[i] + rest % map.box[i];
      rest /= map.box[i];
    }
    action(number, position);
  }
}

// An array that goes beyond its buffer is a fault of the map; it is looked for where it is used.
bool is_inside(Worker &worker, const BulkCopy &copy) {
  const TensorMap &map = *copy.map;
  const Buffer &buffer = worker.machine->launch->buffers[map.buffer];
  int64_t last = map.item;
  for (int i = 0; i < map.rank; i++) {
    const int64_t end = std::min<int64_t>(map.size[i], int64_t{copy.at[i]} + map.box[i]);
    if (end <= 0 || copy.at[i] >= map.size[i]) return true;  // nothing is read
    last += (end - 1) * map.stride[i];
  }
  if (last <= buffer.bytes) return true;
  report(worker, Kind::OutOfBounds, *copy.thread, copy.site, kRead, map.buffer, last - map.item, map.item);
  return false;
}

void fault(Worker &worker, const Thread &thread, uint32_t site, Fault what) {
  report(worker, Kind::Descriptor, thread, site, kRead, kNowhere, what, 0);
}

void land(Worker &worker, const BulkCopy &copy) {
  uint8_t *shared = worker.shared.data();
  const TensorMap &map = *copy.map;
  int64_t read = 0;
  each_element(copy, [&](int64_t number, const int64_t *position) {
    const uint8_t *from = source_of(worker, map, position);
    uint8_t *to = shared + swizzled(copy.destination + number * map.item, std::max(map.swizzle, 16));
    if (from)
      memcpy(to, from, map.item);
    else
      memset(to, 0, map.item);
    if (from) read += map.item;
  });
  worker.counters.global_read_bytes += read;
  worker.counters.global_read_sectors += (read + kSector - 1) / kSector;
  Times times{};
  times.clocks[worker.warp_count] = copy.tick;
  if (worker.machine->launch->checking)
    unlock_bulk(worker, *copy.thread, copy.destination, copy.bytes, copy.site, copy.tick);
  complete_bytes(worker, copy.mbarrier, copy.bytes, times);
}

void issue(Worker &worker, BulkCopy copy) {
  Thread &thread = *copy.thread;
  const uint64_t address = kSharedBase + copy.destination;
  Place place;
  if (!locate(worker, address, copy.bytes, place)) {
    report(worker, Kind::OutOfBounds, thread, copy.site, kWrite, place.buffer, place.offset, copy.bytes);
    return;
  }
  if (copy.destination % kAlignment) {
    report(worker, Kind::Misaligned, thread, copy.site, kWrite, kShared, copy.destination, kAlignment);
    return;
  }
  if (!is_inside(worker, copy)) return;
  if (worker.machine->launch->checking)
    lock_shared(worker, thread, copy.destination, copy.bytes, copy.site);
  worker.bulk_copies.push_back(copy);
}

void check_fence(Worker &worker, const Thread &thread, const Mbarrier &mbarrier, int64_t offset,
                 uint32_t site) {
  const Times &times = worker.shadow.times[thread.warp->index];
  if (times.is_fenced(mbarrier.warp, mbarrier.clock, mbarrier.epoch)) return;
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
    report(worker, Kind::InFlight, *copy.thread, copy.site, kSync, kShared, copy.destination,
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
  const TensorMap *map = find_map(worker, map_address);
  if (map == nullptr) return fault(worker, thread, site, kNoMap);
  if (static_cast<uint32_t>(map->rank) != rank) return fault(worker, thread, site, kRank);
  Mbarrier *found = find_mbarrier(worker, thread, mbarrier, site);
  if (found == nullptr) return;
  const auto barrier = static_cast<int64_t>(mbarrier - kSharedBase);
  if (worker.machine->launch->checking) check_fence(worker, thread, *found, barrier, site);
  BulkCopy copy{map, {}, static_cast<int64_t>(destination - kSharedBase), barrier,
                elements(*map) * map->item, site, ++worker.shadow.tick, &thread};
  for (uint32_t i = 0; i < rank; i++) copy.at[i] = static_cast<int32_t>(coordinates[i]);
  issue(worker, copy);
}
