// The device's memory: what of it is held, what of it others hold, and the faults that a test orders.
// Blocks of 1 MB and more are shared mappings, so /proc/PID/status counts them as RssShmem and the host's own as RssAnon.
#pragma once
#include <ATen/ATen.h>
#include <sys/mman.h>
#include <mutex>
#include <unordered_map>

namespace simdev {
using at::Tensor;
constexpr auto PU1 = c10::DeviceType::PrivateUse1;

// The shared state: 32 int64, in a file that a test maps too. Read by name in simdev_state.py: keep the order.
struct State {
  int64_t magic, limit, other;            // other: bytes that "another process" holds
  int64_t active, reserved, peak;         // reserved: active plus what empty_cache would give back
  int64_t allocs, frees, live, ooms, emptied;
  int64_t h2d_bytes, h2d_count, d2h_bytes, d2h_count, d2d_bytes;
  int64_t kernels, mixed, adopted;        // adopted: bytes of results that CPU kernels allocated
  int64_t fail_allocs, fail_min;          // the next fail_allocs allocations of >= fail_min bytes raise out of memory
  int64_t fault;                          // number of the text below that every call raises, 0: none
  int64_t pinned;                         // bytes of host memory that are registered for fast copies
  int64_t slow_ns_per_mb;                 // how long a copy between host and device takes
  int64_t spare[8];
};
static State local_state{};
static State* S = &local_state;
static std::mutex mu;
static std::unordered_map<void*, size_t> blocks;

static void add(int64_t& c, int64_t n) { __atomic_add_fetch(&c, n, __ATOMIC_RELAXED); }

// What drivers say of a device that is lost: CUDA and HIP by torch, XPU by level zero, NPU by Ascend's runtime.
static const char* const FAULTS[] = {
  "",
  "CUDA error: an illegal memory access was encountered",
  "HIP error: an illegal memory access was encountered",
  "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)",
  "The Inner error is reported as above. The NPU function error: rtDeviceSynchronize, error code is 507015",
};
static const char* fault_text() { return FAULTS[std::min<size_t>(S->fault, 4)]; }

static void check_fault() {
  if (S->fault)
    throw c10::AcceleratorError({__func__, __FILE__, __LINE__}, 700, c10::str(fault_text(), "\nsimulated by simdev"));
}

[[noreturn]] static void oom(size_t n) {
  add(S->ooms, 1);
  throw c10::OutOfMemoryError({__func__, __FILE__, __LINE__},
    c10::str("simdev out of memory. Tried to allocate ", n, " bytes; limit ", S->limit, ", allocated ", S->active,
             ", other processes ", S->other));
}

static void reserve(size_t n) {  // takes n bytes of the device's memory, or raises
  std::lock_guard<std::mutex> g(mu);
  if (S->fail_allocs > 0 && (int64_t)n >= S->fail_min) { S->fail_allocs--; oom(n); }
  int64_t room = S->limit - S->other;
  if (S->active + (int64_t)n > room) oom(n);
  S->active += n; S->allocs++; S->live++;
  if (S->active > S->reserved) S->reserved = S->active;
  if (S->reserved > room) S->reserved = S->active;    // a caching allocator gives back its cache and tries again
  if (S->active > S->peak) S->peak = S->active;
}
static void release(size_t n) {
  std::lock_guard<std::mutex> g(mu);
  S->active -= n; S->frees++; S->live--;
}

static size_t rounded(size_t n) { return (n + 511) / 512 * 512; }
constexpr size_t BIG = 1 << 20;

static void free_block(void* p) {
  if (!p) return;
  size_t n;
  { std::lock_guard<std::mutex> g(mu); auto it = blocks.find(p); if (it == blocks.end()) return; n = it->second; blocks.erase(it); }
  if (n >= BIG) munmap(p, n); else free(p);
  release(n);
}

struct DeviceAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t want) override {
    c10::Device dev(PU1, 0);
    if (!want) return {nullptr, nullptr, &free_block, dev};
    check_fault();
    size_t n = rounded(want);
    reserve(n);
    void* p = n >= BIG ? mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) : aligned_alloc(64, n);
    TORCH_CHECK(p && p != MAP_FAILED, "simdev: the host has no memory left");
    { std::lock_guard<std::mutex> g(mu); blocks[p] = n; }
    return {p, p, &free_block, dev};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_block; }
  void copy_data(void* d, const void* s, size_t n) const override { default_copy_data(d, s, n); }
};
static DeviceAllocator allocator;

struct Adopted { c10::Storage cpu; size_t n; };
static void free_adopted(void* p) { auto* a = static_cast<Adopted*>(p); release(a->n); delete a; }
}  // namespace simdev
