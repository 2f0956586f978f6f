#include "cpu/backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "common/backend_registry.h"
#include "common/error.h"
#include "common/thread_pool.h"
#include "cpu/backend_blocks.h"
#include "cpu/isa.h"

namespace accel {
namespace cpu {
namespace {

constexpr size_t kScratchBytes = 256 << 10;
// Larger copies are worth more than one thread.
constexpr int64_t kCopyGrain = 64 << 10;

BlockCache& blocks() {
  static BlockCache* cache = new BlockCache;  // leaked: used by workers until the process is gone
  return *cache;
}

std::string cpu_name() {
  std::string name = "CPU";
  if (FILE* file = std::fopen("/proc/cpuinfo", "re")) {
    char line[256];
    while (std::fgets(line, sizeof line, file)) {
      if (std::strncmp(line, "model name", 10) != 0) continue;
      if (const char* colon = std::strchr(line, ':')) {
        name = colon + 1 + (colon[1] == ' ');
        while (!name.empty() && (name.back() == '\n' || name.back() == ' ')) name.pop_back();
      }
      break;
    }
    std::fclose(file);
  }
  return name;
}

class CpuStream final : public StreamBackend {
 public:
  explicit CpuStream(CpuBackend& backend) : backend_(backend) {}
  ~CpuStream() override {
    op_done();
    if (base_) backend_.release(base_, kScratchBytes);
  }

  void prepare(accel_call& call, Command&) override {
    current_ = this;
    call.device = backend_.device();
    call.threads = ThreadPool::instance().threads();
    call.stream = nullptr;
    call.parallel = [](const accel_call*, int64_t n, int64_t grain, accel_range_fn fn, void* user) {
      ThreadPool::instance().run(n, grain, fn, user);
    };
    call.scratch = [](const accel_call*, size_t bytes) { return current_->scratch(bytes); };
  }

  accel_op_fn function(const accel_op& op) const override { return op.cpu; }

  void op_done() override {
    used_ = 0;
    for (auto [block, bytes] : extra_) backend_.release(block, bytes);
    extra_.clear();
  }

  void upload(void* device, const void* host, size_t bytes) override { std::memcpy(device, host, bytes); }
  void download(void* host, const void* device, size_t bytes) override { std::memcpy(host, device, bytes); }

  void copy_pages(uint8_t* base, size_t page_bytes, const int32_t* pairs, size_t count) override {
    struct Job {
      uint8_t* base;
      size_t page_bytes;
      const int32_t* pairs;
    } job{base, page_bytes, pairs};
    auto grain = static_cast<int64_t>(kCopyGrain / page_bytes + 1);
    ThreadPool::instance().run(
        static_cast<int64_t>(count), grain,
        [](void* user, int64_t begin, int64_t end, int32_t) {
          auto& work = *static_cast<Job*>(user);
          for (int64_t i = begin; i < end; i++) {
            std::memcpy(work.base + work.pairs[2 * i + 1] * work.page_bytes,
                        work.base + work.pairs[2 * i] * work.page_bytes, work.page_bytes);
          }
        },
        &job);
  }

  void discard_pages(uint8_t* base, size_t page_bytes, const int32_t* runs, size_t count) override {
    const auto system_page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    for (size_t i = 0; i < count; i++) {
      auto begin = reinterpret_cast<uintptr_t>(base) + runs[2 * i] * page_bytes;
      auto end = begin + runs[2 * i + 1] * page_bytes;
      begin = (begin + system_page - 1) & ~(system_page - 1);
      end &= ~(system_page - 1);
      if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }
  }

  void then(std::function<void(const Failure*)> done) override { done(nullptr); }

 private:
  void* scratch(size_t bytes) {
    size_t rounded = (bytes + 63) & ~static_cast<size_t>(63);
    if (rounded < bytes) fail("ERR_ACCEL_OUT_OF_MEMORY", "an op asked for %zu bytes of scratch memory", bytes);
    if (!base_) base_ = static_cast<uint8_t*>(backend_.allocate(kScratchBytes, "scratch memory"));
    if (rounded <= kScratchBytes - used_) {
      void* block = base_ + used_;
      used_ += rounded;
      return block;
    }
    void* block = backend_.allocate(rounded, "scratch memory");
    extra_.emplace_back(block, rounded);
    return block;
  }

  // The op that runs on this thread; a stream has one worker thread, and `scratch` may only be called from it.
  static thread_local CpuStream* current_;

  CpuBackend& backend_;
  uint8_t* base_ = nullptr;
  size_t used_ = 0;
  std::vector<std::pair<void*, size_t>> extra_;
};

thread_local CpuStream* CpuStream::current_ = nullptr;

}  // namespace

DeviceInfo CpuBackend::info() const {
  static const std::string name = cpu_name();
  MemoryInfo memory = host_memory();
  memory.free += blocks().idle_bytes();
  return {"cpu", "cpu", name, isa_name(isa()), ThreadPool::configured_threads(), memory};
}

void CpuBackend::check() const {
  if (const char* error = isa_error()) fail("ERR_ACCEL_ARGUMENT", "%s", error);
  ThreadPool::configured_threads();
}

void* CpuBackend::allocate(size_t bytes, const char* what, FirstUse) {
  void* block = blocks().take(bytes);
  if (block) return block;
  MemoryInfo memory = host_memory();
  fail("ERR_ACCEL_OUT_OF_MEMORY",
       "out of memory on cpu: %s needs %s, %s of %s are free. Largest consumers: %s. Dispose of tensors, sequences or "
       "models you no longer use, or use a smaller context, batch or dtype",
       what, format_bytes(static_cast<double>(bytes)).c_str(),
       format_bytes(static_cast<double>(memory.free)).c_str(),
       format_bytes(static_cast<double>(memory.total)).c_str(), ledger().largest(5).c_str());
}

void CpuBackend::release(void* data, size_t bytes) { blocks().give(data, bytes); }

void CpuBackend::fill(void* device, const void* host, size_t bytes) { std::memcpy(device, host, bytes); }

uint8_t* CpuBackend::reserve_pages(size_t bytes) {
  void* map = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) {
    fail("ERR_ACCEL_OUT_OF_MEMORY",
         "out of memory on cpu: no address space for a page pool of %s; make its capacity smaller",
         format_bytes(static_cast<double>(bytes)).c_str());
  }
  return static_cast<uint8_t*>(map);
}

void CpuBackend::release_pages(uint8_t* base, size_t bytes) { munmap(base, bytes); }

std::unique_ptr<StreamBackend> CpuBackend::create_stream() { return std::make_unique<CpuStream>(*this); }

}  // namespace cpu

Backend* cpu_backend() {
  static auto* backend = new cpu::CpuBackend;  // leaked, as all devices
  return backend;
}

}  // namespace accel
