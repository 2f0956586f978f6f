// Who holds how much memory, for out-of-memory messages, and how much the machine has.
#ifndef ACCEL_COMMON_MEMORY_H
#define ACCEL_COMMON_MEMORY_H

#include <atomic>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>

namespace accel {

struct MemoryInfo {
  size_t total;
  size_t free;
  // What this process took from the device, now and at most; only where the runtime takes it all itself.
  bool counted = false;
  size_t used = 0;
  size_t peak = 0;
  size_t idle = 0;  // of `used`, what is kept ready for the next tensors
};

// Of the machine, or of the control group the process lives in when that is smaller.
MemoryInfo host_memory();

// The large consumers of one device's memory.
class Ledger {
 public:
  // `bytes` is asked for again whenever a message is written; it must be safe to call from any thread.
  void add(const void* key, std::string name, std::function<size_t()> bytes);
  void remove(const void* key);
  // "float32 tensor [4096, 4096] 64.0 MiB; KV pages 32.0 MiB" or "none".
  std::string largest(size_t count);

 private:
  struct Entry {
    std::string name;
    std::function<size_t()> bytes;
  };
  std::mutex mutex_;
  std::unordered_map<const void*, Entry> entries_;
};

}  // namespace accel
#endif
