#include "fiber.h"

#include <cstdint>

#if defined(__x86_64__)
// swapcontext costs two system calls for the signal mask (about 300 ns); this costs about 3 ns.
// Saved are the registers that the System V ABI lets a callee keep.
extern "C" void diagc_sim_switch(void **save, void *resume);
asm(R"(
.text
.p2align 4
.hidden diagc_sim_switch
.globl diagc_sim_switch
.type diagc_sim_switch,@function
diagc_sim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size diagc_sim_switch,.-diagc_sim_switch
)");
#endif

namespace sim {

#if defined(__x86_64__)

void prepare_fiber(Fiber &fiber, void *stack, size_t bytes, void (*entry)()) {
  auto top = (reinterpret_cast<uintptr_t>(stack) + bytes) & ~uintptr_t{15};
  auto *slot = reinterpret_cast<uintptr_t *>(top);
  *--slot = 0;  // where a return address would stand: keeps the alignment that a call gives
  *--slot = reinterpret_cast<uintptr_t>(entry);
  for (int saved = 0; saved < 6; saved++) *--slot = 0;
  fiber.stack_pointer = slot;
}

void switch_fiber(Fiber &from, Fiber &to) {
  diagc_sim_switch(&from.stack_pointer, to.stack_pointer);
}

#else

void prepare_fiber(Fiber &fiber, void *stack, size_t bytes, void (*entry)()) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
}

void switch_fiber(Fiber &from, Fiber &to) { swapcontext(&from.context, &to.context); }

#endif

}  // namespace sim
