// Checks against shadow memory: unwritten reads, races, and bytes of copies that are under way.
#include "shadow.h"

#include <algorithm>

#include "machine.h"

namespace sim {

GlobalShadow::GlobalShadow(GlobalShadow &&other) noexcept
    : cells(std::move(other.cells)), locks(std::exchange(other.locks, nullptr)) {}
GlobalShadow::~GlobalShadow() { delete[] locks; }

void SharedShadow::start_block(int byte_count, int warp_count) {
  if (bytes != byte_count || warps != warp_count || base > 1u << 25) {
    bytes = byte_count;
    warps = warp_count;
    cells.assign((static_cast<size_t>(bytes) >> shift) + 1, Cell{});
    reads.assign(cells.size() * warps, 0);
    product_reads.assign(reads.size(), 0);
    read_epochs.assign(reads.size(), 0);
    base = tick = 0;
    for (auto &row : times) row = Times{};
  } else {
    for (auto &cell : cells) cell.pending = cell.readers = 0;
  }
  base = std::max(base, tick);
  for (int i = 0; i < warp_count; i++)
    for (int j = 0; j < warp_count; j++) base = std::max(base, times[i].clocks[j]);
  for (int i = 0; i < warp_count; i++) {
    times[i] = Times{};
    std::fill_n(times[i].clocks, warp_count + 1, base);
    std::fill_n(times[i].product_clocks, warp_count, base);
    times[i].clocks[i] = times[i].product_clocks[i] = base + 1;
  }
  tick = base;
}

void SharedShadow::split() {
  const std::vector<Cell> coarse = std::move(cells);
  const std::vector<uint32_t> coarse_reads = std::move(reads);
  const std::vector<uint32_t> coarse_products = std::move(product_reads);
  const std::vector<uint16_t> coarse_epochs = std::move(read_epochs);
  shift--;
  cells.resize(2 * coarse.size());
  reads.resize(2 * coarse_reads.size());
  product_reads.resize(reads.size());
  read_epochs.resize(reads.size());
  for (size_t i = 0; i < cells.size(); i++) {
    cells[i] = coarse[i / 2];
    std::copy_n(&coarse_reads[i / 2 * warps], warps, &reads[i * warps]);
    std::copy_n(&coarse_products[i / 2 * warps], warps, &product_reads[i * warps]);
    std::copy_n(&coarse_epochs[i / 2 * warps], warps, &read_epochs[i * warps]);
  }
}

void Times::join(const Times &other) {
  for (int i = 0; i < kAgents; i++) {
    clocks[i] = std::max(clocks[i], other.clocks[i]);
    fenced_clocks[i] = std::max(fenced_clocks[i], other.fenced_clocks[i]);
  }
  for (int i = 0; i < kMaxWarps; i++) {
    fenced_epochs[i] = std::max(fenced_epochs[i], other.fenced_epochs[i]);
    product_clocks[i] = std::max(product_clocks[i], other.product_clocks[i]);
  }
}

void Times::fence(int warp, int count) {
  for (int i = 0; i < count; i++)
    if (i != warp) fenced_clocks[i] = std::max(fenced_clocks[i], clocks[i]);
  fenced_epochs[warp] = epoch++;
}

namespace {

struct Checker {
  Worker &worker;
  const Thread &thread;
  uint32_t site;
  Access access;
  int64_t offset;
  uint32_t size;
  bool reported = false;

  int warp() const { return thread.warp->index; }
  uint32_t lane() const { return static_cast<uint32_t>(thread.lane); }
  const Times &times() const { return worker.shadow.times[warp()]; }
  uint32_t clock() const { return times().clocks[warp()]; }

  void find(Kind kind, int32_t buffer, int64_t at, const Other &other) {
    if (!reported) report(worker, kind, thread, site, access, buffer, at, size, other);
    reported = true;  // one finding an access: the first byte tells the story
  }

  void find_pending(const Cell &cell, int64_t at) {
    find(Kind::InFlight, kShared, at, {cell.pending - 1, kNobody, cell.pending_site, kWrite});
  }

  void against_write(const Cell &cell, int64_t at) {
    if (cell.clock <= worker.shadow.base || (access == kAtomic && cell.atomic)) return;
    if (worker.shadow.before(cell.warp, cell.clock, cell.lane, warp(), lane())) return;
    find(Kind::Race, kShared, at, {writer(cell), kNobody, cell.site, kWrite});
  }

  // What copies in bulk keeps the warp that issued the copy in place of a lane.
  int writer(const Cell &cell) const {
    const bool bulk = cell.warp == worker.shadow.warps;
    return bulk ? cell.lane * kLanes : cell.warp * kLanes + cell.lane;
  }

  void against_products(const Cell &cell, int64_t at) {
    if (cell.readers)
      find(Kind::SourceOverwritten, kShared, at, {kNobody, kNobody, cell.read_site, kRead});
  }

  void against_proxy(const Cell &cell, int64_t at) {
    if (cell.clock <= worker.shadow.base || cell.warp == worker.shadow.warps) return;
    if (!times().is_fenced(cell.warp, cell.clock, cell.epoch))
      find(Kind::Fence, kShared, at, {writer(cell), kNobody, cell.site, kWrite});
  }

  void against_reads(const Cell &cell, int64_t at) {
    SharedShadow &shadow = worker.shadow;
    const uint32_t *reads = shadow.reads_at(at);
    for (int i = 0; i < shadow.warps; i++) {
      const uint32_t when = reads[i] >> 6, who = reads[i] & 63;
      if (when <= shadow.base || shadow.before(i, when, who, warp(), lane())) continue;
      const int reader = i * kLanes + (who == kSeveral ? 0 : static_cast<int>(who));
      find(Kind::Race, kShared, at, {reader, kNobody, cell.read_site, kRead});
    }
    const uint32_t *products = shadow.product_reads_at(at);
    for (int i = 0; i < shadow.warps; i++)
      if (products[i] > shadow.base && times().product_clocks[i] < products[i])
        find(Kind::Race, kShared, at, {i * kLanes, kNobody, cell.read_site, kRead});
  }

  // Reads of the generic proxy are ordered before a write of the other one by a fence alone: PTX ISA,
  // "proxy-preserved base causality order". CUTLASS fences before it releases what threads have read.
  void against_proxy_of_reads(const Cell &cell, int64_t at) {
    SharedShadow &shadow = worker.shadow;
    for (int i = 0; i < shadow.warps; i++) {
      const uint32_t when = shadow.reads_at(at)[i] >> 6, epoch = shadow.read_epochs_at(at)[i];
      if (when <= shadow.base || epoch == 0 || times().is_fenced(i, when, epoch)) continue;
      find(Kind::Fence, kShared, at, {i * kLanes, kNobody, cell.read_site, kRead});
    }
  }

  void note_read(Cell &cell, int64_t at, bool by_proxy) {
    uint32_t &read = worker.shadow.reads_at(at)[warp()];
    uint16_t &epoch = worker.shadow.read_epochs_at(at)[warp()];
    if (read >> 6 <= worker.shadow.base) epoch = 0;
    if (!by_proxy) epoch = static_cast<uint16_t>(times().epoch);
    const bool several = read >> 6 == clock() && (read & 63) != lane();
    read = clock() << 6 | (several ? kSeveral : lane());
    cell.read_site = site;
  }

  void note_write(Cell &cell) {
    cell.clock = clock();
    cell.warp = static_cast<uint8_t>(warp());
    cell.lane = static_cast<uint8_t>(lane());
    cell.atomic = access == kAtomic;
    cell.epoch = static_cast<uint16_t>(times().epoch);
    cell.site = site;
  }

  void check(Cell &cell, int64_t at, bool by_proxy = false) {
    if (cell.pending) return find_pending(cell, at);
    if (access != kWrite && cell.clock <= worker.shadow.base)
      find(Kind::UnwrittenRead, kShared, at, {});
    against_write(cell, at);
    if (access != kRead) against_products(cell, at);
    if (access != kRead) against_reads(cell, at);
    if (access == kRead && by_proxy) cell.read_site = site;  // noted when it is over
    if (access == kRead && !by_proxy) note_read(cell, at, false);
    if (access != kRead) note_write(cell);
  }
};

}  // namespace

void check_shared(Worker &worker, const Thread &thread, int64_t offset, uint32_t size, Access access,
                  uint32_t site) {
  Checker checker{worker, thread, site, access, offset, size};
  thread.warp->touched |= 1u << thread.lane;
  worker.shadow.each_cell(offset, size, [&](Cell &cell, int64_t at) { checker.check(cell, at); });
}

void lock_shared(Worker &worker, const Thread &thread, int64_t offset, uint32_t size, uint32_t site) {
  Checker checker{worker, thread, site, kWrite, offset, size};
  worker.shadow.each_cell(offset, size, [&](Cell &cell, int64_t at) {
    if (cell.pending) checker.find_pending(cell, at);
    checker.against_products(cell, at);
    checker.against_write(cell, at);
    checker.against_reads(cell, at);
    cell.pending = static_cast<uint16_t>(thread.index + 1);
    cell.pending_site = site;
  });
}

void lock_bulk(Worker &worker, const Thread &thread, int64_t offset, uint32_t size, uint32_t site) {
  lock_shared(worker, thread, offset, size, site);
  Checker checker{worker, thread, site, kWrite, offset, size};
  worker.shadow.each_cell(offset, size, [&](Cell &cell, int64_t at) {
    checker.against_proxy(cell, at);
    checker.against_proxy_of_reads(cell, at);
  });
}

void unlock_shared(Worker &worker, const Thread &thread, int64_t offset, uint32_t size, uint32_t site) {
  Checker checker{worker, thread, site, kWrite, offset, size};
  worker.shadow.each_cell(offset, size, [&](Cell &cell, int64_t) {
    cell.pending = 0;
    checker.note_write(cell);
  });
}

void unlock_bulk(Worker &worker, const Thread &thread, int64_t offset, uint32_t size, uint32_t site,
                 uint32_t tick) {
  worker.shadow.each_cell(offset, size, [&](Cell &cell, int64_t) {
    cell.pending = 0;
    cell.clock = tick;
    cell.warp = static_cast<uint8_t>(worker.shadow.warps);
    cell.lane = static_cast<uint8_t>(thread.warp->index);
    cell.atomic = 0;
    cell.site = site;
  });
}

void lock_async_read(Worker &worker, const Thread &thread, int64_t offset, uint32_t size,
                     uint32_t site) {
  Checker checker{worker, thread, site, kRead, offset, size};
  worker.shadow.each_cell(offset, size, [&](Cell &cell, int64_t at) {
    checker.check(cell, at, true);
    checker.against_proxy(cell, at);
    cell.readers++;
  });
}

void release_product_read(Worker &worker, int warp, int64_t offset, uint32_t size) {
  const uint32_t clock = worker.shadow.times[warp].clocks[warp];
  worker.shadow.each_cell(offset, size, [&](Cell &cell, int64_t at) {
    if (cell.readers) cell.readers--;
    worker.shadow.product_reads_at(at)[warp] = clock;
  });
}

void end_async_read(Worker &worker, const Thread &thread, int64_t offset, uint32_t size, uint32_t site) {
  Checker checker{worker, thread, site, kRead, offset, size};
  worker.shadow.each_cell(offset, size, [&](Cell &cell, int64_t at) {
    if (cell.readers) cell.readers--;
    checker.note_read(cell, at, true);
  });
}

namespace {

class Hold {  // of one element's shadow, among workers
 public:
  Hold(GlobalShadow &shadow, int64_t index) : flag_(shadow.locks[index & 255]) {
    while (flag_.test_and_set(std::memory_order_acquire)) {
    }
  }
  ~Hold() { flag_.clear(std::memory_order_release); }

 private:
  std::atomic_flag &flag_;
};

struct GlobalChecker : Checker {
  int32_t buffer;

  bool ordered(const Last &last) const {
    if (last.block < 0) return true;
    if (last.block != worker.block || last.several_blocks) return false;
    return worker.shadow.before(last.warp, last.clock, last.lane, warp(), lane());
  }

  void against(const Last &last, Access kind, int64_t at) {
    if (ordered(last) || (access == kAtomic && last.atomic)) return;
    find(Kind::Race, buffer, at, {last.warp * kLanes + last.lane, last.block, last.site, kind});
  }

  void note(Last &last) {
    const bool others = last.block >= 0 && last.block != worker.block;
    last.several_blocks |= others && access == kRead;
    last.block = worker.block;
    last.clock = clock();
    last.site = site;
    last.warp = static_cast<uint8_t>(warp());
    last.lane = static_cast<uint8_t>(lane());
    last.atomic = access == kAtomic;
  }

  void check(GlobalCell &cell, int64_t at) {
    against(cell.write, kWrite, at);
    if (access != kRead) against(cell.read, kRead, at);
    if (access != kRead && cell.pending_reads)
      find(Kind::SourceOverwritten, buffer, at,
           {cell.pending_thread, kNobody, cell.pending_site, kRead});
    note(access == kRead ? cell.read : cell.write);
  }
};

}  // namespace

void check_global(Worker &worker, const Thread &thread, int32_t buffer, int64_t offset, uint32_t size,
                  Access access, uint32_t site) {
  GlobalShadow &shadow = worker.machine->shadows[buffer];
  const int64_t item = worker.machine->launch->buffers[buffer].item;
  GlobalChecker checker{{worker, thread, site, access, offset, size}, buffer};
  for (int64_t i = offset / item; i <= (offset + size - 1) / item; i++) {
    Hold hold(shadow, i);
    checker.check(shadow.cells[i], i * item);
  }
}

void lock_source(Worker &worker, const Thread &thread, int32_t buffer, int64_t offset, uint32_t size,
                 uint32_t site, int change) {
  GlobalShadow &shadow = worker.machine->shadows[buffer];
  const int64_t item = worker.machine->launch->buffers[buffer].item;
  for (int64_t i = offset / item; i <= (offset + size - 1) / item; i++) {
    Hold hold(shadow, i);
    GlobalCell &cell = shadow.cells[i];
    cell.pending_reads = static_cast<uint16_t>(cell.pending_reads + change);
    cell.pending_site = site;
    cell.pending_thread = static_cast<uint16_t>(thread.index);
  }
}

}  // namespace sim
