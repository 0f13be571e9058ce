// One fiber a CUDA thread: a stack and a saved stack pointer, switched by hand.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace sim {

struct Fiber {
#if defined(__x86_64__)
  void *stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
};

// Make `fiber` run `entry` on the given stack when it is switched to first; `entry` must not return.
void prepare_fiber(Fiber &fiber, void *stack, size_t bytes, void (*entry)());

// Leave `from`, go on with `to`; returns when somebody switches back to `from`.
void switch_fiber(Fiber &from, Fiber &to);

}  // namespace sim
