// cp.async.bulk.tensor from shared memory: boxes of what threads have written, to an array.
//
// A store reads shared memory when its thread waits for it, with an odd seed earlier by chance. Until
// the wait is over nobody may write its source; what was written needs a fence of the proxy before.
// Positions beyond the ends of the array are left out.
#include <algorithm>

#include "boxes.h"

namespace sim {

namespace {

void land(Worker &worker, BulkStore &store) {
  const TensorMap &map = *store.map;
  const Buffer &buffer = worker.machine->launch->buffers[map.buffer];
  int64_t written = 0;
  each_element(store, [&](int64_t place, int64_t offset) {
    if (offset < 0) return;
    memcpy(buffer.data + offset, worker.shared.data() + place, map.item);
    if (buffer.written) __atomic_store_n(&buffer.written[offset / buffer.item], 1, __ATOMIC_RELAXED);
    written += map.item;
  });
  worker.counters.global_write_bytes += written;
  worker.counters.global_write_sectors += (written + kSector - 1) / kSector;
  store.landed = true;
}

void check(Worker &worker, const BulkStore &store) {
  const TensorMap &map = *store.map;
  lock_async_read(worker, *store.thread, store.shared, store.bytes, store.site);
  each_element(store, [&](int64_t, int64_t offset) {
    if (offset >= 0) check_global(worker, *store.thread, map.buffer, offset, map.item, kWrite, store.site);
  });
}

void issue(Worker &worker, const BulkStore &store) {
  if (!is_placed(worker, store, kRead) || !is_inside(worker, store, kWrite)) return;
  if (!worker.machine->launch->buffers[store.map->buffer].writable) {
    report(worker, Kind::ReadOnly, *store.thread, store.site, kWrite, store.map->buffer, 0, store.bytes);
    return;
  }
  if (worker.machine->launch->checking) check(worker, store);
  worker.bulk_stores.push_back(store);
}

void finish(Worker &worker, BulkStore &store) {
  if (!store.landed) land(worker, store);
  if (worker.machine->launch->checking)
    end_async_read(worker, *store.thread, store.shared, store.bytes, store.site);
}

}  // namespace

// One of those there are, by chance.
void land_bulk_store(Worker &worker) {
  auto &stores = worker.bulk_stores;
  BulkStore &store = stores[next_random(worker) % stores.size()];
  if (!store.landed) land(worker, store);
}

void report_late_stores(Worker &worker) {
  for (BulkStore &store : worker.bulk_stores) {
    report(worker, Kind::InFlight, *store.thread, store.site, kSync, kShared, store.shared, store.bytes,
           {store.thread->index, kNobody, store.site, kRead});
    if (!store.landed) land(worker, store);
  }
  worker.bulk_stores.clear();
}

}  // namespace sim

// `coordinates` are i32 in slots of 8 bytes, the innermost dimension first.
SIM_EXPORT void diagc_sim_bulk_store(uint64_t source, uint64_t map_address, const uint64_t *coordinates,
                                     uint32_t rank, uint32_t site) {
  using namespace sim;
  keep_step();
  Worker &worker = *self;
  BulkStore store{};
  if (!describe_box(worker, map_address, coordinates, rank, source, site, store)) return;
  store.group = worker.current->store_groups;
  issue(worker, store);
}

SIM_EXPORT void diagc_sim_bulk_commit(uint32_t) { sim::self->current->store_groups++; }

// Waits for all but the newest `allowed` groups of the thread; that they have read is all there is to
// wait for, as nothing reads results.
SIM_EXPORT void diagc_sim_bulk_wait(uint32_t allowed, uint32_t) {
  using namespace sim;
  keep_step();
  Worker &worker = *self;
  auto &stores = worker.bulk_stores;
  const auto due = [&](const BulkStore &store) {
    return store.thread == worker.current && store.group + allowed < worker.current->store_groups;
  };
  for (BulkStore &store : stores)
    if (due(store)) finish(worker, store);
  stores.erase(std::remove_if(stores.begin(), stores.end(), due), stores.end());
}
