// Traffic: bytes that lanes ask for, sectors of global memory and passes over the banks of shared memory.
#include <algorithm>
#include <array>

#include "machine.h"

namespace sim {

namespace {

constexpr int kSectorBytes = 32;
constexpr int kBankBytes = 4;

int64_t count_sectors(const Gathered &g) {
  std::array<uint64_t, kLanes * 32> sectors;
  size_t count = 0;
  each_lane(g.mask, [&](int lane) {
    const uint64_t last = (g.addresses[lane] + g.bytes - 1) / kSectorBytes;
    for (uint64_t s = g.addresses[lane] / kSectorBytes; s <= last && count < sectors.size(); s++)
      if (count == 0 || sectors[count - 1] != s) sectors[count++] = s;
  });
  if (!std::is_sorted(sectors.begin(), sectors.begin() + count))
    std::sort(sectors.begin(), sectors.begin() + count);
  return std::unique(sectors.begin(), sectors.begin() + count) - sectors.begin();
}

// Passes for lanes first..last: the most distinct words that any bank has to give.
int64_t count_passes(BankWords &words, const Gathered &g, int first, int last) {
  std::array<int, kBanks> load{};
  for (int lane = first; lane < last; lane++) {
    if (!(g.mask >> lane & 1)) continue;
    const uint64_t end = (g.addresses[lane] + g.bytes - 1) / kBankBytes;
    for (uint64_t a = g.addresses[lane] / kBankBytes; a <= end; a++) {
      auto &known = words[a % kBanks];
      int &count = load[a % kBanks];
      const auto stop = known.begin() + count;
      if (count < kMostWords && std::find(known.begin(), stop, a) == stop) known[count++] = a;
    }
  }
  return *std::max_element(load.begin(), load.end());
}

// A warp's access of 4 bytes a lane is one request, of 8 bytes two, of 16 bytes four.
void count_banks(Worker &worker, const Gathered &g) {
  const int requests = g.bytes > 8 ? 4 : g.bytes > 4 ? 2 : 1;
  const int lanes = kLanes / requests;
  for (int i = 0; i < requests; i++) {
    const int64_t passes = count_passes(worker.words, g, i * lanes, (i + 1) * lanes);
    worker.counters.shared_wavefronts += passes;
    worker.counters.bank_conflicts += std::max<int64_t>(passes - 1, 0);
  }
}

void flush(Worker &worker, Gathered &g) {
  Counters &counters = worker.counters;
  const int64_t bytes = int64_t{g.bytes} * __builtin_popcount(g.mask);
  counters.memory_instructions += (g.bytes + 15) / 16;  // the widest access of a lane is 16 bytes
  if (g.access == kAtomic) {
    counters.atomic_bytes += bytes;
  } else if (g.shared) {
    (g.access == kRead ? counters.shared_read_bytes : counters.shared_write_bytes) += bytes;
    count_banks(worker, g);
  } else {
    (g.access == kRead ? counters.global_read_bytes : counters.global_write_bytes) += bytes;
    (g.access == kRead ? counters.global_read_sectors : counters.global_write_sectors) +=
        count_sectors(g);
  }
  g.mask = 0;
}

}  // namespace

// Sectors are counted as if every buffer began at one, as buffers of a GPU do. The key is warp, site
// and side: an asynchronous copy reads and writes at the same site.
void count_access(Worker &worker, const Thread &thread, const Place &place, uint32_t size, Access kind,
                  uint32_t site) {
  const bool shared = place.buffer == kShared;
  const uint64_t address =
      shared ? place.offset : uint64_t(place.buffer) << kBufferShift | uint64_t(place.offset);
  const auto row = static_cast<uint32_t>(thread.warp->index * worker.machine->launch->site_count);
  const uint32_t key = (row + site) * 2 + shared;
  auto &slot = worker.gathered[key];
  if (!slot) slot = std::make_unique<Gathered>(Gathered{});
  Gathered &g = *slot;
  const bool other = g.mask && (g.access != kind || g.bytes != size);
  if (other || g.mask >> thread.lane & 1) flush(worker, g);
  g.bytes = size, g.access = kind, g.shared = shared;
  if (!g.listed) worker.open[thread.warp->index].push_back(key);
  g.listed = true;
  g.mask |= 1u << thread.lane;
  g.addresses[thread.lane] = address;
  if (g.mask == thread.warp->exists) flush(worker, g);
}

// What only some lanes have executed ends where the lanes meet again.
void flush_counts(Worker &worker, const Warp &warp) {
  auto &open = worker.open[warp.index];
  for (uint32_t key : open) {
    Gathered &g = *worker.gathered[key];
    if (g.mask) flush(worker, g);
    g.listed = false;
  }
  open.clear();
}

}  // namespace sim
