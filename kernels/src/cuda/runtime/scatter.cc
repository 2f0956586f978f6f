#include "cuda/runtime/scatter.h"

#include <algorithm>
#include <cstring>

#include "cuda/runtime/check.h"

namespace accel::cuda {
namespace {

// Longer runs are cut: they would keep one block busy for long, and must fit into the ring.
constexpr size_t kMostWords = 4096;
constexpr size_t kMostBytes = UploadRing::kMost;

}  // namespace

void Scatter::add(void* to, const void* from, size_t bytes) {
  auto* target = static_cast<uint32_t*>(to);
  size_t count = bytes / sizeof(uint32_t);
  size_t at = words_.size();
  words_.resize(at + count);
  std::memcpy(words_.data() + at, from, count * sizeof(uint32_t));
  for (size_t i = 0; i < count; i += kMostWords) {
    runs_.push_back({target + i, static_cast<uint32_t>(at + i), static_cast<uint32_t>(std::min(kMostWords, count - i))});
  }
}

void Scatter::add_tables(Command& command) {
  for (const Command::TableRun& run : command.table_runs) {
    add(run.to, command.table_words.data() + run.from, run.count * sizeof(int32_t));
  }
  command.table_runs.clear();
  command.table_words.clear();
}

void Scatter::launch() {
  size_t begin = 0;
  size_t bytes = 0;
  for (size_t i = 0; i < runs_.size(); i++) {
    size_t more = sizeof(ScatterRun) + runs_[i].count * sizeof(uint32_t);
    if (bytes + more > kMostBytes) {
      launch_part(begin, i);
      begin = i;
      bytes = 0;
    }
    bytes += more;
  }
  if (begin < runs_.size()) launch_part(begin, runs_.size());
  runs_.clear();
  words_.clear();
}

void Scatter::launch_part(size_t begin, size_t end) {
  // The words of consecutive runs are consecutive.
  uint32_t first = runs_[begin].from;
  size_t words = runs_[end - 1].from + runs_[end - 1].count - first;
  size_t runs_bytes = (end - begin) * sizeof(ScatterRun);
  uint8_t* slot = ring_.take(runs_bytes + words * sizeof(uint32_t));
  auto* runs = reinterpret_cast<ScatterRun*>(slot);
  for (size_t i = begin; i < end; i++) {
    runs[i - begin] = runs_[i];
    runs[i - begin].from -= first;
  }
  std::memcpy(slot + runs_bytes, words_.data() + first, words * sizeof(uint32_t));
  check(launch_scatter(runs, static_cast<int>(end - begin), reinterpret_cast<uint32_t*>(slot + runs_bytes), stream_),
        "updating page lists");
}

}  // namespace accel::cuda
