// What attention is launched with, the fast one and its plain twin.
#ifndef ACCEL_KIVI_ARGUMENTS_CUH
#define ACCEL_KIVI_ARGUMENTS_CUH

#include "accel/decode_plan.cuh"
#include "kivi_layout.h"

namespace accel_kivi {

using namespace accel::cuda;

// The layout as numbers, so that no loop divides.
struct KiviPlaces {
  int header;       // of the keys' stream
  int used;         // steps of 16 key channels
  int group_shift;  // log2 of the group
  int key_item, key_block, key_scales, key_minima;
  int value_item, value_scales, value_minima, value_groups;

  static KiviPlaces of(const KiviLayout& l, int header) {
    int shift = 4;
    while (1 << shift < l.group) shift++;
    return {header,           l.channels() / 16, shift,
            l.key_item_bytes(), l.key_block_bytes(), l.key_scales(), l.key_minima(),
            l.value_item_bytes(), l.value_scales(), l.value_minima(), l.value_groups()};
  }
};

struct KiviArguments {
  DecodeArguments decode;
  KiviLayout layout;
  KiviPlaces places;
  int page_shift;  // log2 of page_bytes
  bool bf16;       // queries and plain rows; else fp16. Not a template argument: few rows are plain, and kernels are many
};

}  // namespace accel_kivi
#endif
