// Launches: workers take blocks of the grid, a scheduler runs the fibers of a block.
#include "machine.h"

#include <sys/mman.h>

#include <algorithm>
#include <exception>
#include <thread>

namespace sim {

thread_local Worker *self = nullptr;

uint64_t next_random(Worker &worker) {  // xorshift64*
  uint64_t x = worker.random;
  x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
  return (worker.random = x) * 0x2545F4914F6CDD1DULL;
}

namespace {

// The next ready lane of the warp that runs; null when each had its turn.
Thread *next_lane(Worker &worker) {
  if (worker.aborted) return nullptr;
  const uint64_t twice = uint64_t{worker.running->ready} << 32 | worker.running->ready;
  const uint64_t left = (twice >> worker.first & 0xFFFFFFFF) >> worker.turn << worker.turn;
  if (left == 0) return nullptr;
  const int place = __builtin_ctzll(left);
  worker.turn = place + 1;
  return &thread_of(*worker.running, (place + worker.first) % kLanes);
}

}  // namespace

void give_way() {
  Worker &worker = *self;
  Fiber &from = worker.current->fiber;
  Thread *next = next_lane(worker);
  if (next == nullptr) return switch_fiber(from, worker.scheduler);
  worker.current = next;
  switch_fiber(from, next->fiber);
}

// The lanes of a warp take turns, one access each, so that those that a GPU would make together are
// counted together.
void keep_step() {
  if (self->machine->launch->checking) give_way();
}

void abort_block() {
  self->aborted = true;
  give_way();
  std::terminate();  // an aborted block is never resumed
}

namespace {

constexpr int kColours = 64;
constexpr size_t kColourBytes = 4096 + 64;  // a page and a line

void report_late(Worker &worker) {
  report_late_copies(worker);
  report_late_stores(worker);
  report_half_barriers(worker);
}

void thread_main() {
  Worker &worker = *self;
  worker.machine->launch->entry(worker.machine->launch->arguments);
  Thread &thread = *worker.current;
  thread.done = true;
  thread.warp->ready &= ~(1u << thread.lane);
  if (++worker.returned == worker.machine->launch->threads) report_late(worker);
  give_way();
  std::terminate();  // a finished thread is never resumed
}

// The lowest page of a stack stays closed, so that an overflow is a crash at its place.
uint8_t *map_stack() {
  void *memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  mprotect(memory, 4096, PROT_NONE);
  return static_cast<uint8_t *>(memory);
}

bool make_threads(Worker &worker, int count) {
  for (int i = 0; i < count; i++) {
    auto thread = std::make_unique<Thread>();
    thread->stack = map_stack();
    if (thread->stack == nullptr) return false;
    worker.threads.push_back(thread.get());
    worker.pool.push_back(std::move(thread));
  }
  return true;
}

void reset_thread(Worker &worker, Thread &thread, int index) {
  thread.index = index;
  thread.lane = index % kLanes;
  thread.warp = &worker.warps[index / kLanes];
  thread.site = UINT32_MAX;
  thread.done = false;
  thread.steps = 0;
  thread.groups = thread.store_groups = 0;
  thread.copies.clear();
  thread.polled = 0;
  thread.accumulators.clear();
  thread.product_count = 0;
  memset(thread.scratch, 0xff, kScratchBytes);
  // equal places of all stacks would share few lines of the caches and entries of the TLB
  const size_t shifted = static_cast<size_t>(index % kColours) * kColourBytes;
  prepare_fiber(thread.fiber, thread.stack, kStackBytes - shifted, thread_main);
}

void start_block(Worker &worker, int block) {
  const Launch &launch = *worker.machine->launch;
  worker.block = block;
  worker.coordinates[0] = block % launch.grid[0];
  worker.coordinates[1] = block / launch.grid[0] % launch.grid[1];
  worker.coordinates[2] = block / launch.grid[0] / launch.grid[1];
  worker.aborted = false;
  worker.returned = 0;
  worker.random = 0x9E3779B97F4A7C15ULL * (1 + launch.seed) + 0xD1B54A32D192ED03ULL * block;
  next_random(worker);
  memset(worker.shared.data(), 0xff, worker.shared.size());  // NaN: unwritten memory shows in results
  for (int i = 0; i < worker.warp_count; i++) {
    int lanes = std::min(kLanes, launch.threads - i * kLanes);
    Warp &warp = worker.warps[i];
    warp = Warp{};
    warp.index = i;
    warp.exists = warp.ready = lanes == kLanes ? ~0u : (1u << lanes) - 1;
  }
  for (auto &barrier : worker.barriers) barrier = Barrier{};
  worker.mbarriers.clear();
  worker.bulk_copies.clear();
  worker.bulk_stores.clear();
  for (int i = 0; i < launch.threads; i++) reset_thread(worker, *worker.threads[i], i);
  worker.shadow.start_block(launch.checking ? launch.shared_bytes : 0, worker.warp_count);
}

// Each ready lane once; seeds other than 0 turn the order.
void run_lanes(Worker &worker, Warp &warp, int first) {
  worker.running = &warp;
  worker.first = first;
  worker.turn = 0;
  Thread *thread = next_lane(worker);
  if (thread == nullptr) return;
  worker.current = thread;
  switch_fiber(worker.scheduler, thread->fiber);
}

// Seed 0 runs a warp until it waits for others, so that warps run as far apart as they can; other
// seeds choose at random after every step. Copies in bulk land when nothing else can go on, with other
// seeds at any time.
void run_block(Worker &worker) {
  const int seed = worker.machine->launch->seed;
  const int count = worker.warp_count;
  while (!worker.aborted) {
    int first = seed == 0 ? 0 : static_cast<int>(next_random(worker) % count);
    int chosen = -1;
    for (int i = 0; i < count && chosen < 0; i++)
      if (worker.warps[(first + i) % count].ready) chosen = (first + i) % count;
    const bool early = seed % 2 != 0 && !worker.bulk_copies.empty() && next_random(worker) % 8 == 0;
    if ((chosen < 0 || early) && land_bulk_copy(worker)) continue;
    if (seed % 2 != 0 && !worker.bulk_stores.empty() && next_random(worker) % 8 == 0) land_bulk_store(worker);
    if (chosen < 0) break;
    Warp &warp = worker.warps[chosen];
    int turn = seed == 0 ? 0 : static_cast<int>(next_random(worker) % kLanes);
    do run_lanes(worker, warp, turn);
    while (seed == 0 && warp.ready && !worker.aborted);
  }
  bool all_done = true;
  for (int i = 0; i < worker.machine->launch->threads; i++) all_done &= worker.threads[i]->done;
  if (!all_done && !worker.aborted) report_stall(worker);
  for (Thread *thread : worker.threads) {  // copies that nobody waited for land at last
    worker.current = thread;
    thread->groups++;
    finish_copies(worker, *thread, 0);
  }
}

void work(Machine &machine) {
  const Launch &launch = *machine.launch;
  auto worker = std::make_unique<Worker>();
  self = worker.get();
  worker->machine = &machine;
  worker->warp_count = (launch.threads + kLanes - 1) / kLanes;
  worker->shared.resize(launch.shared_bytes);
  worker->runs.resize(launch.basic_block_count);
  if (launch.checking)
    worker->gathered.resize(2 * static_cast<size_t>(launch.site_count) * worker->warp_count);
  const int blocks = launch.grid[0] * launch.grid[1] * launch.grid[2];
  if (make_threads(*worker, launch.threads)) {
    for (int block; (block = machine.next_block++) < blocks;) {
      start_block(*worker, block);
      run_block(*worker);
      for (int i = 0; i < worker->warp_count; i++) flush_counts(*worker, worker->warps[i]);
    }
  }
  for (auto &thread : worker->pool)
    if (thread->stack) munmap(thread->stack, kStackBytes);
  std::lock_guard<std::mutex> hold(machine.mutex);
  auto *total = reinterpret_cast<int64_t *>(&machine.launch->counters);
  auto *mine = reinterpret_cast<int64_t *>(&worker->counters);
  for (size_t i = 0; i < sizeof(Counters) / sizeof(int64_t); i++) total[i] += mine[i];
  for (int i = 0; i < launch.basic_block_count; i++)
    machine.launch->basic_block_runs[i] += worker->runs[i];
  self = nullptr;
}

}  // namespace
}  // namespace sim

SIM_EXPORT void diagc_sim_launch(sim::Launch *launch) {
  using namespace sim;
  Machine machine{};
  machine.launch = launch;
  if (launch->checking) {
    machine.shadows.resize(launch->buffer_count);
    for (int i = 0; i < launch->buffer_count; i++)
      if (launch->buffers[i].writable) {
        const Buffer &buffer = launch->buffers[i];
        machine.shadows[i].cells.resize((buffer.bytes + buffer.item - 1) / buffer.item);
        machine.shadows[i].locks = new std::atomic_flag[256]();
      }
  }
  std::vector<std::thread> others;
  for (int i = 1; i < launch->workers; i++) others.emplace_back([&] { work(machine); });
  std::thread first([&] { work(machine); });  // never on the caller's stack: `self` is per thread
  first.join();
  for (auto &other : others) other.join();
  for (auto &[key, finding] : machine.findings)
    launch->findings[launch->finding_count++] = finding;
}

// Counts a basic block that a thread enters, and stops loops that do not end.
SIM_EXPORT void diagc_sim_block(uint32_t index, uint32_t site) {
  using namespace sim;
  Worker &worker = *self;
  worker.runs[index]++;
  Thread &thread = *worker.current;
  if (++thread.steps <= worker.machine->launch->step_limit) return;
  report(worker, Kind::Endless, thread, site, kSync, kNowhere, 0, 0);
  abort_block();
}
