#include "cuda/runtime/arena.h"

#include <algorithm>

namespace accel::cuda {

Arena::~Arena() {
  for (Block& block : blocks_) memory_.give(block.data, block.bytes);
}

void* Arena::take(size_t bytes) {
  size_t whole = std::max<size_t>((bytes + 255) & ~static_cast<size_t>(255), 256);
  if (whole < bytes) memory_.out_of_memory(bytes, "scratch memory");
  for (Block& block : blocks_) {
    if (whole > block.bytes - block.used) continue;
    void* at = block.data + block.used;
    block.used += whole;
    block.captured |= capturing_;
    return at;
  }
  size_t size = std::max(whole, wanted_);
  auto* data = static_cast<uint8_t*>(memory_.take(size, "scratch memory", FirstUse::stream));
  auto at = std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& block) { return block.bytes < size; });
  blocks_.insert(at, {data, size, whole, capturing_});
  return data;
}

void Arena::op_done() {
  size_t used = 0;
  size_t largest = 0;
  for (Block& block : blocks_) {
    used += block.used;
    largest = std::max(largest, block.bytes);
    block.used = 0;
  }
  bool fits = used <= largest;
  // A quarter more, for ops that need a little more with every chunk of a prompt: each block that proves too small stays behind.
  wanted_ = std::max(wanted_, fits ? used : used + used / 4);
  // One block is kept. What was launched may still use the others: they may go back all the same.
  std::erase_if(blocks_, [&](const Block& block) {
    if (block.captured || (fits && block.bytes == largest)) return false;
    memory_.give(block.data, block.bytes);
    return true;
  });
}

}  // namespace accel::cuda
