// What may be wrong with a box before it is on its way.
#include "boxes.h"

namespace sim {

namespace {

// In the order of `_DESCRIPTORS` in describe.py.
enum Fault : int64_t { kNoMap, kRank };

constexpr int64_t kAlignment = 128;  // in shared memory

const TensorMap *find_map(const Worker &worker, uint64_t address) {
  const Launch &launch = *worker.machine->launch;
  const uint64_t number = address ^ kMapSpace;
  return number < static_cast<uint64_t>(launch.tensor_map_count) ? &launch.tensor_maps[number] : nullptr;
}

bool fault(Worker &worker, uint32_t site, Fault what) {
  report(worker, Kind::Descriptor, *worker.current, site, kRead, kNowhere, what, 0);
  return false;
}

}  // namespace

bool describe_box(Worker &worker, uint64_t map_address, const uint64_t *coordinates, uint32_t rank,
                  uint64_t shared, uint32_t site, Box &box) {
  const TensorMap *map = find_map(worker, map_address);
  if (map == nullptr) return fault(worker, site, kNoMap);
  if (static_cast<uint32_t>(map->rank) != rank) return fault(worker, site, kRank);
  box.map = map;
  box.bytes = map->item;
  for (uint32_t i = 0; i < rank; i++) {
    box.at[i] = static_cast<int32_t>(coordinates[i]);
    box.bytes *= map->box[i];
  }
  box.shared = static_cast<int64_t>(shared - kSharedBase);
  box.site = site;
  box.thread = worker.current;
  return true;
}

bool is_placed(Worker &worker, const Box &box, Access kind) {
  Place place;
  if (!locate(worker, kSharedBase + box.shared, box.bytes, place)) {
    report(worker, Kind::OutOfBounds, *box.thread, box.site, kind, place.buffer, place.offset, box.bytes);
    return false;
  }
  if (box.shared % kAlignment == 0) return true;
  report(worker, Kind::Misaligned, *box.thread, box.site, kind, kShared, box.shared, kAlignment);
  return false;
}

bool is_inside(Worker &worker, const Box &box, Access kind) {
  const TensorMap &map = *box.map;
  const Buffer &buffer = worker.machine->launch->buffers[map.buffer];
  int64_t last = map.item;
  for (int i = 0; i < map.rank; i++) {
    const int64_t end = std::min<int64_t>(map.size[i], int64_t{box.at[i]} + map.box[i]);
    if (end <= 0 || box.at[i] >= map.size[i]) return true;  // nothing is moved
    last += (end - 1) * map.stride[i];
  }
  if (last <= buffer.bytes) return true;
  report(worker, Kind::OutOfBounds, *box.thread, box.site, kind, map.buffer, last - map.item, map.item);
  return false;
}

}  // namespace sim
