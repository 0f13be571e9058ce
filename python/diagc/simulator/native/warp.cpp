// What the lanes of a warp do together without matrices: shuffles, votes, reductions.
#include "machine.h"

namespace sim {

namespace {

struct Shuffle {
  uint32_t value, operand, clamp, kind, site;
  uint32_t result, in_range;
};

enum ShuffleKind : uint32_t { kIdx, kUp, kDown, kBfly };

// PTX ISA, shfl.sync: bits 8 to 12 of `clamp` say which bits of the lane stay, bits 0 to 4 the limit.
int source_lane(const Shuffle &s, int lane, bool &in_range) {
  const int segment = static_cast<int>(s.clamp >> 8 & 31), limit = static_cast<int>(s.clamp & 31);
  const int highest = (lane & segment) | (limit & ~segment), lowest = lane & segment;
  const int b = static_cast<int>(s.operand & 31);
  const int from = s.kind == kUp     ? lane - b
                   : s.kind == kDown ? lane + b
                   : s.kind == kBfly ? lane ^ b
                                     : lowest | (b & ~segment);
  in_range = s.kind == kUp ? from >= highest : from <= highest;
  return in_range ? from : lane;
}

uint32_t execute_shuffle(Worker &worker, Warp &warp, uint32_t mask, void **arguments) {
  each_lane(mask, [&](int lane) {
    auto &s = *static_cast<Shuffle *>(arguments[lane]);
    bool in_range;
    const int from = source_lane(s, lane, in_range);
    s.in_range = in_range;
    if (mask >> from & 1) {
      s.result = static_cast<Shuffle *>(arguments[from])->value;
    } else {
      report(worker, Kind::InactiveLane, thread_of(warp, lane), s.site, kSync, kNowhere, from, 0);
      s.result = ~0u;
    }
  });
  return mask;
}

struct Vote {
  uint32_t value, kind, result, flag;
};

enum VoteKind : uint32_t { kAll, kAny, kUniform, kBallot, kMatchAny, kMatchAll };

uint32_t ballot(uint32_t mask, void **arguments) {
  uint32_t lanes = 0;
  each_lane(mask, [&](int lane) {
    if (static_cast<Vote *>(arguments[lane])->value) lanes |= 1u << lane;
  });
  return lanes;
}

uint32_t equal_lanes(uint32_t mask, void **arguments, uint32_t value) {
  uint32_t lanes = 0;
  each_lane(mask, [&](int lane) {
    if (static_cast<Vote *>(arguments[lane])->value == value) lanes |= 1u << lane;
  });
  return lanes;
}

uint32_t execute_vote(Worker &, Warp &, uint32_t mask, void **arguments) {
  const uint32_t votes = ballot(mask, arguments);
  each_lane(mask, [&](int lane) {
    auto &v = *static_cast<Vote *>(arguments[lane]);
    const uint32_t equal = equal_lanes(mask, arguments, v.value);
    switch (v.kind) {
      case kAll: v.result = votes == mask; break;
      case kAny: v.result = votes != 0; break;
      case kUniform: v.result = votes == mask || votes == 0; break;
      case kBallot: v.result = votes; break;
      case kMatchAny: v.result = equal; break;
      case kMatchAll: v.result = equal == mask ? mask : 0; break;
    }
    v.flag = equal == mask;
  });
  return mask;
}

struct Reduction {
  uint32_t value, kind, result;
};

enum ReductionKind : uint32_t { kAdd, kMin, kMax, kUmin, kUmax, kAnd, kOr, kXor };

uint32_t combine(uint32_t kind, uint32_t a, uint32_t b) {
  const auto x = static_cast<int32_t>(a), y = static_cast<int32_t>(b);
  switch (kind) {
    case kAdd: return a + b;
    case kMin: return static_cast<uint32_t>(x < y ? x : y);
    case kMax: return static_cast<uint32_t>(x > y ? x : y);
    case kUmin: return a < b ? a : b;
    case kUmax: return a > b ? a : b;
    case kAnd: return a & b;
    case kOr: return a | b;
    default: return a ^ b;
  }
}

uint32_t execute_reduction(Worker &, Warp &, uint32_t mask, void **arguments) {
  const int first = __builtin_ctz(mask);
  auto *start = static_cast<Reduction *>(arguments[first]);
  uint32_t total = start->value;
  each_lane(mask & (mask - 1), [&](int lane) {
    total = combine(start->kind, total, static_cast<Reduction *>(arguments[lane])->value);
  });
  each_lane(mask, [&](int lane) { static_cast<Reduction *>(arguments[lane])->result = total; });
  return mask;
}

uint32_t execute_elect(Worker &, Warp &, uint32_t mask, void **arguments) {
  each_lane(mask, [&](int lane) {
    *static_cast<uint32_t *>(arguments[lane]) = static_cast<uint32_t>(__builtin_ctz(mask));
  });
  return mask;
}

}  // namespace
}  // namespace sim

// Gives the value and, in the upper half, whether the lane it was asked from is in range.
SIM_EXPORT uint64_t diagc_sim_shfl(uint32_t mask, uint32_t value, uint32_t operand, uint32_t clamp,
                                   uint32_t kind, uint32_t site) {
  using namespace sim;
  Shuffle s{value, operand, clamp, kind, site, 0, 0};
  collective(mask, site, &s, execute_shuffle);
  return s.result | uint64_t{s.in_range} << 32;
}

SIM_EXPORT uint64_t diagc_sim_vote(uint32_t mask, uint32_t value, uint32_t kind, uint32_t site) {
  using namespace sim;
  Vote v{value, kind, 0, 0};
  collective(mask, site, &v, execute_vote);
  return v.result | uint64_t{v.flag} << 32;
}

SIM_EXPORT uint32_t diagc_sim_redux(uint32_t value, uint32_t mask, uint32_t kind, uint32_t site) {
  using namespace sim;
  Reduction r{value, kind, 0};
  collective(mask, site, &r, execute_reduction);
  return r.result;
}

// Gives the elected lane and, in the upper half, whether it is the caller.
SIM_EXPORT uint64_t diagc_sim_elect(uint32_t mask, uint32_t site) {
  using namespace sim;
  uint32_t leader = 0;
  collective(mask, site, &leader, execute_elect);
  return leader | uint64_t{leader == static_cast<uint32_t>(self->current->lane)} << 32;
}

SIM_EXPORT uint32_t diagc_sim_sreg(uint32_t which) {
  using namespace sim;
  const Launch &launch = *self->machine->launch;
  const auto thread = static_cast<uint32_t>(self->current->index);
  switch (which) {
    case 0: return thread;  // tid.x; blocks are one-dimensional
    case 3: return static_cast<uint32_t>(launch.threads);
    case 4: case 5: return 1;
    case 6: case 7: case 8: return static_cast<uint32_t>(self->coordinates[which - 6]);
    case 9: case 10: case 11: return static_cast<uint32_t>(launch.grid[which - 9]);
    case 12: return thread % kLanes;
    case 13: return thread / kLanes;
    case 14: return static_cast<uint32_t>(launch.shared_bytes);
    case 15: return self->current->warp->exists;
    case 16: return static_cast<uint32_t>(launch.environment);
    default: return 0;  // tid.y, tid.z
  }
}
