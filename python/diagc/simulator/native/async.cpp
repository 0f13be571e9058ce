// cp.async: bytes arrive when the wait that orders them completes, not before.
#include <algorithm>

#include "machine.h"

namespace sim {

namespace {

void issue(Worker &worker, Thread &thread, const AsyncCopy &copy) {
  Place to, from{};
  if (!locate(worker, copy.destination, copy.bytes, to) || to.buffer != kShared) {
    report(worker, Kind::OutOfBounds, thread, copy.site, kWrite, to.buffer, to.offset, copy.bytes);
    return;
  }
  if (copy.source_bytes && (!locate(worker, copy.source, copy.source_bytes, from) || from.buffer < 0)) {
    report(worker, Kind::OutOfBounds, thread, copy.site, kRead, from.buffer, from.offset,
           copy.source_bytes);
    return;
  }
  const uint64_t low = copy.bytes - 1;
  const bool to_aligned = !(copy.destination & low), from_aligned = !(copy.source & low);
  if (!to_aligned || (copy.source_bytes && !from_aligned)) {
    const Place &bad = to_aligned ? from : to;
    report(worker, Kind::Misaligned, thread, copy.site, to_aligned ? kRead : kWrite, bad.buffer,
           bad.offset, copy.bytes);
    return;
  }
  if (worker.machine->launch->checking) {
    count_access(worker, thread, to, copy.bytes, kWrite, copy.site);
    lock_shared(worker, thread, to.offset, copy.bytes, copy.site);
    if (copy.source_bytes) {
      access(worker, thread, copy.source, copy.source_bytes, 1, kRead, copy.site);
      if (worker.machine->launch->buffers[from.buffer].writable)
        lock_source(worker, thread, from.buffer, from.offset, copy.source_bytes, copy.site, 1);
    }
  }
  thread.copies.push_back(copy);
}

void commit(Worker &worker, const Thread &thread, const AsyncCopy &copy) {
  Place to, from;
  locate(worker, copy.destination, copy.bytes, to);
  memset(to.data, 0, copy.bytes);
  if (copy.source_bytes && locate(worker, copy.source, copy.source_bytes, from))
    memcpy(to.data, from.data, copy.source_bytes);
  if (!worker.machine->launch->checking) return;
  unlock_shared(worker, thread, to.offset, copy.bytes, copy.site);
  if (copy.source_bytes && worker.machine->launch->buffers[from.buffer].writable)
    lock_source(worker, thread, from.buffer, from.offset, copy.source_bytes, copy.site, -1);
}

}  // namespace

void finish_copies(Worker &worker, Thread &thread, uint32_t allowed) {
  const auto due = [&](const AsyncCopy &copy) { return copy.group + allowed < thread.groups; };
  auto &copies = thread.copies;
  size_t count = 0;
  while (count < copies.size() && due(copies[count])) commit(worker, thread, copies[count++]);
  copies.erase(copies.begin(), copies.begin() + static_cast<ptrdiff_t>(count));
}

}  // namespace sim

SIM_EXPORT void diagc_sim_cp_async(uint64_t destination, uint64_t source, uint32_t bytes,
                                   uint32_t source_bytes, uint32_t site) {
  using namespace sim;
  keep_step();
  Thread &thread = *self->current;
  if (source_bytes > bytes)  // has no meaning: PTX ISA, cp.async, src-size
    report(*self, Kind::CopySize, thread, site, kRead, kNowhere, bytes, source_bytes);
  issue(*self, thread,
        {destination, source, bytes, std::min(bytes, source_bytes), site, thread.groups});
}

SIM_EXPORT void diagc_sim_cp_async_commit(uint32_t) { sim::self->current->groups++; }

SIM_EXPORT void diagc_sim_cp_async_wait(uint32_t allowed, uint32_t) {
  sim::finish_copies(*sim::self, *sim::self->current, allowed);
}

SIM_EXPORT void diagc_sim_cp_async_wait_all(uint32_t) {
  sim::self->current->groups++;
  sim::finish_copies(*sim::self, *sim::self->current, 0);
}
