// Barriers in shared memory and named barriers, from sm_80 on; copies of TMA, and handing registers over, from sm_90 on.
//
// An mbarrier counts the arrivals of a phase and the bytes that TMA copies still owe it. The phase completes when both
// reach zero; then the next phase starts with the same count. A wait names the parity of the phase it waits for, so a
// ring of `stages` buffers needs one counter: use number i has stage i % stages and parity (i / stages) & 1. On a fresh
// barrier the "previous" phase (parity 1) counts as complete: producers wait for `empty` with the inverted parity and
// pass the first time round. PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier".
#ifndef ACCEL_MBARRIER_CUH
#define ACCEL_MBARRIER_CUH

#include <cstdint>

#include "accel/mma.cuh"

namespace accel::cuda {

__device__ inline void mbarrier_init(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

// Makes initialised barriers visible to TMA; the threads of the block need a __syncthreads() besides.
__device__ inline void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Releases what this thread did before; acquired by whoever waits for the phase.
__device__ inline void mbarrier_arrive(uint32_t barrier) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}\n" ::"r"(barrier) : "memory");
}
__device__ inline void mbarrier_arrive(uint64_t* barrier) { mbarrier_arrive(shared_address(barrier)); }

// Arrives and makes the phase wait for `bytes` of TMA copies too.
__device__ inline void mbarrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ inline void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
  mbarrier_arrive_expect(shared_address(barrier), bytes);
}

// Returns when the phase with this parity is complete. try_wait suspends the thread for a while by itself; sm_80 has only
// test_wait, which does not.
#if __CUDA_ARCH__ >= 900
#define ACCEL_MBARRIER_TEST "mbarrier.try_wait.parity.shared::cta.b64"
#else
#define ACCEL_MBARRIER_TEST "mbarrier.test_wait.parity.shared.b64"
#endif
__device__ inline void mbarrier_wait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred complete;\n"
      "again:\n" ACCEL_MBARRIER_TEST
      " complete, [%0], %1;\n"
      "@complete bra done;\n"
      "bra again;\n"
      "done:\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
#undef ACCEL_MBARRIER_TEST
__device__ inline void mbarrier_wait(uint64_t* barrier, uint32_t parity) { mbarrier_wait(shared_address(barrier), parity); }

// Arrives once the copies of cp.async that this thread has started are there. For barriers that count all lanes.
__device__ inline void cp_async_arrive(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
}

// Copies bytes in one piece and takes them off what the barrier's phase waits for. Addresses and size are multiples of 16.
__device__ inline void bulk_copy(uint32_t shared, const void* global, uint32_t bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared),
               "l"(global), "r"(bytes), "r"(barrier)
               : "memory");
}

// What this thread read and wrote of shared memory comes before copies of the kind above that follow a barrier.
__device__ inline void bulk_copy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// One place in a ring of kStages buffers: the use number and what follows from it.
template <int kStages>
struct RingPosition {
  static_assert((kStages & (kStages - 1)) == 0);
  uint32_t use = 0;
  __device__ uint32_t stage() const { return use % kStages; }
  __device__ uint32_t parity() const { return use / kStages & 1; }
};

// Named barriers: `threads` in all, those that sync and those that only arrive. Number 0 is __syncthreads().
__device__ inline void named_sync(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ inline void named_arrive(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Moves registers between the warpgroups of a block; every warp of the warpgroup calls it. Counts: multiples of 8.
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace accel::cuda
#endif
