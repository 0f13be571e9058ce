// Findings: one for each kind and pair of instructions; the first in the order of blocks is kept.
#include "machine.h"

namespace sim {

void report(Worker &worker, Kind kind, const Thread &thread, uint32_t site, Access access,
            int32_t buffer, int64_t offset, int64_t size, const Other &other) {
  Finding finding{};
  finding.kind = static_cast<int32_t>(kind);
  finding.access = access;
  finding.site = static_cast<int32_t>(site);
  finding.other_site = static_cast<int32_t>(other.site);
  for (int i = 0; i < 3; i++) finding.block[i] = worker.coordinates[i];
  finding.thread = thread.index;
  finding.other_thread = other.thread;
  finding.other_access = other.access;
  finding.other_block = other.block == worker.block ? kNobody : other.block;
  finding.buffer = buffer;
  finding.offset = offset;
  finding.size = size;
  finding.count = 1;
  Machine &machine = *worker.machine;
  const FindingKey key{finding.kind, finding.site, finding.other_site};
  std::lock_guard<std::mutex> hold(machine.mutex);
  auto found = machine.findings.find(key);
  if (found == machine.findings.end()) {
    if (static_cast<int>(machine.findings.size()) < machine.launch->finding_limit)
      machine.findings.emplace(key, finding);
    return;
  }
  const Finding &old = found->second;
  const auto order = [&](const int32_t *block) {
    return block[0] + machine.launch->grid[0] * (block[1] + machine.launch->grid[1] * block[2]);
  };
  finding.count = old.count + 1;
  if (order(old.block) > worker.block)
    found->second = finding;
  else
    found->second.count = finding.count;
}

}  // namespace sim
