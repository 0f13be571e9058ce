// Every access of a kernel to memory: from simulated to real address, with bounds and alignment.
#include "machine.h"

#include <algorithm>

namespace sim {

namespace {

bool locate_shared(const Worker &worker, uint64_t address, int64_t size, Place &place) {
  place.buffer = kShared;
  place.offset = static_cast<int64_t>(address - kSharedBase);
  if (place.offset < 0 || place.offset + size > worker.machine->launch->shared_bytes) return false;
  place.data = const_cast<uint8_t *>(worker.shared.data()) + place.offset;
  return true;
}

bool locate_buffer(const Worker &worker, uint64_t address, int64_t size, Place &place) {
  const Launch &launch = *worker.machine->launch;
  const auto index = (address - kBufferSpace) >> kBufferShift;
  place.buffer = kNowhere;
  place.offset = static_cast<int64_t>(address);
  if (index >= static_cast<uint64_t>(launch.buffer_count)) return false;
  const Buffer &buffer = launch.buffers[index];
  place.buffer = static_cast<int32_t>(index);
  // the same place in its page as on the host, so that alignment is the user's
  const uint64_t base = kBufferSpace | index << kBufferShift | uint64_t{1} << (kBufferShift - 1) |
                        (reinterpret_cast<uint64_t>(buffer.data) & 4095);
  place.offset = static_cast<int64_t>(address - base);
  if (place.offset < 0 || place.offset + size > buffer.bytes) return false;
  place.data = buffer.data + place.offset;
  return true;
}

bool on_stack(const Thread &thread, uint64_t address, int64_t size) {
  const auto stack = reinterpret_cast<uint64_t>(thread.stack);
  return address >= stack && address + size <= stack + kStackBytes;
}

}  // namespace

bool locate(const Worker &worker, uint64_t address, int64_t size, Place &place) {
  if (address - (kSharedBase - kSharedWindow) < 2 * kSharedWindow)
    return locate_shared(worker, address, size, place);
  if (address >> 62 == 1) return locate_buffer(worker, address, size, place);
  place.buffer = kNowhere;
  place.offset = static_cast<int64_t>(address);
  return false;
}

namespace {

// After a finding the access goes to private memory: NaN for reads, and writes are lost.
uint8_t *divert(Thread &thread) {
  memset(thread.scratch, 0xff, kScratchBytes);
  return thread.scratch;
}

void mark_written(const Buffer &buffer, int64_t offset, int64_t size) {
  for (int64_t i = offset / buffer.item; i <= (offset + size - 1) / buffer.item; i++)
    __atomic_store_n(&buffer.written[i], 1, __ATOMIC_RELAXED);
}

// Whether a warp has written all of it is asked before the access, `written` is set by it.
bool is_written(const Buffer &buffer, int64_t offset, int64_t size) {
  bool all = true;
  for (int64_t i = offset / buffer.item; i <= (offset + size - 1) / buffer.item; i++)
    all &= __atomic_load_n(&buffer.written[i], __ATOMIC_RELAXED) != 0;
  return all;
}

bool check_buffer(Worker &worker, const Thread &thread, const Place &place, uint32_t size, Access kind,
                  uint32_t site) {
  const Launch &launch = *worker.machine->launch;
  const Buffer &buffer = launch.buffers[place.buffer];
  if (kind != kRead && !buffer.writable) {
    report(worker, Kind::ReadOnly, thread, site, kind, place.buffer, place.offset, size);
    return false;
  }
  if (launch.checking && buffer.writable)
    check_global(worker, thread, place.buffer, place.offset, size, kind, site);
  if (buffer.written == nullptr) return true;
  if (kind != kWrite && launch.checking && !is_written(buffer, place.offset, size))
    report(worker, Kind::UnwrittenRead, thread, site, kind, place.buffer, place.offset, size);
  if (kind != kRead) mark_written(buffer, place.offset, size);
  return true;
}

}  // namespace

uint8_t *access(Worker &worker, Thread &thread, uint64_t address, uint32_t size, uint32_t align,
                Access kind, uint32_t site) {
  Place place;
  if (!locate(worker, address, size, place)) {
    if (on_stack(thread, address, size)) return reinterpret_cast<uint8_t *>(address);
    report(worker, Kind::OutOfBounds, thread, site, kind, place.buffer, place.offset, size);
    return divert(thread);
  }
  if (address & (align - 1)) {
    report(worker, Kind::Misaligned, thread, site, kind, place.buffer, place.offset, align);
    return divert(thread);
  }
  if (worker.machine->launch->checking) {
    count_access(worker, thread, place, size, kind, site);
    if (place.buffer == kShared) check_shared(worker, thread, place.offset, size, kind, site);
  }
  if (place.buffer >= 0 && !check_buffer(worker, thread, place, size, kind, site)) return divert(thread);
  return place.data;
}

}  // namespace sim

// A load, store or atomic of the kernel; gives the real address.
SIM_EXPORT void *diagc_sim_access(uint64_t address, uint32_t size, uint32_t align, uint32_t kind,
                                  uint32_t site) {
  using namespace sim;
  keep_step();
  return access(*self, *self->current, address, size, align, static_cast<Access>(kind), site);
}
