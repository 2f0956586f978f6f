#include "common/memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "common/error.h"

namespace accel {
namespace {

// The first number in a file, or `missing` ("max" counts as missing).
size_t number_in(const char* path, size_t missing) {
  FILE* file = std::fopen(path, "re");
  if (!file) return missing;
  unsigned long long value = 0;
  int found = std::fscanf(file, "%llu", &value);
  std::fclose(file);
  return found == 1 ? static_cast<size_t>(value) : missing;
}

}  // namespace

MemoryInfo host_memory() {
  MemoryInfo info{0, 0};
  if (FILE* file = std::fopen("/proc/meminfo", "re")) {
    char line[256];
    while (std::fgets(line, sizeof line, file)) {
      unsigned long long kib = 0;
      if (std::sscanf(line, "MemTotal: %llu kB", &kib) == 1) info.total = kib * 1024;
      if (std::sscanf(line, "MemAvailable: %llu kB", &kib) == 1) info.free = kib * 1024;
    }
    std::fclose(file);
  }
  if (info.total == 0) {  // not Linux
    long pages = sysconf(_SC_PHYS_PAGES);
    long page = sysconf(_SC_PAGESIZE);
    info.total = info.free = pages > 0 && page > 0 ? static_cast<size_t>(pages) * page : 0;
  }
  const size_t none = SIZE_MAX;
  size_t limit = number_in("/sys/fs/cgroup/memory.max", none);
  size_t used = number_in("/sys/fs/cgroup/memory.current", 0);
  if (limit == none) {
    limit = number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", none);
    used = number_in("/sys/fs/cgroup/memory/memory.usage_in_bytes", 0);
  }
  if (limit < info.total) {
    info.total = limit;
    info.free = std::min(info.free, limit > used ? limit - used : 0);
  }
  return info;
}

void Ledger::add(const void* key, std::string name, std::function<size_t()> bytes) {
  std::lock_guard lock(mutex_);
  entries_[key] = {std::move(name), std::move(bytes)};
}

void Ledger::remove(const void* key) {
  std::lock_guard lock(mutex_);
  entries_.erase(key);
}

std::string Ledger::largest(size_t count) {
  std::vector<std::pair<size_t, std::string>> sorted;
  {
    std::lock_guard lock(mutex_);
    for (auto& [key, entry] : entries_) {
      if (size_t bytes = entry.bytes()) sorted.emplace_back(bytes, entry.name);
    }
  }
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  if (sorted.size() > count) sorted.resize(count);
  std::string text;
  for (auto& [bytes, name] : sorted) {
    if (!text.empty()) text += "; ";
    text += name + " " + format_bytes(static_cast<double>(bytes));
  }
  return text.empty() ? "none" : text;
}

}  // namespace accel
