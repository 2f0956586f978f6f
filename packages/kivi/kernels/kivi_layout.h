// How KIVI stores rows (Liu et al., ICML 2024, arXiv 2402.02750), for the CPU and for CUDA.
//
// A group of G numbers becomes b-bit codes, a half scale and a half minimum: x is about scale * code + minimum. A key
// channel is grouped over G consecutive rows, a value row over G consecutive channels.
//
//   key item    G rows: G/16 blocks, then [C] scales, then [C] minima. C is the number of kept channels, rounded up to 16;
//               channels from `kept` on are all zero. A block is 16 rows x C channels.
//   value item  16 rows: one block of 16 rows x D channels, then [D/G][16] scales, then [D/G][16] minima. Rows that are not
//               there yet are all zero.
//
// Codes lie as a warp wants them for mma.m16n8k16, whose A fragment of 16 x 16 numbers has four registers of two
// neighbours in each of 32 lanes. Such a pair is pair p = 4 s + i of lane l = 4 g + t in step s (16 channels):
//
//   keys    i = 0: row g, channels 16s + 2t, + 1; i = 1: row g + 8; i = 2: channels + 8; i = 3: both
//   values  i = 0: channel 16s + g, rows 2t, 2t + 1; i = 1: channel + 8; i = 2: rows + 8; i = 3: both
//
// 2-bit values of whole quadruples of steps are in another order: a word has i = 0 and 1 of four steps, the next one i = 2 and
// 3 of them. Then where a code is in its word depends on its channel, which can be made good after the product, and not on
// its row.
//
// Scales and minima are in such an order that the numbers of lane t for two steps of keys, or for a row group of values, lie
// side by side (key_scale, value_scale).
//
// A block is words [w][lane] of 32 bits. Word w has the pairs w P to w P + P - 1 of its lane, P = 16 / b: the first code of
// the j-th at bits [b j, b j + b), the second 16 bits higher. Half a word that is left over (b = 2, an odd number of
// steps) is stored as 16 bits [lane], where the second codes are 8 bits higher.
#ifndef ACCEL_KIVI_LAYOUT_H
#define ACCEL_KIVI_LAYOUT_H

#include <stdint.h>

#ifdef __CUDACC__
#define ACCEL_KIVI_BOTH __host__ __device__
#else
#define ACCEL_KIVI_BOTH
#endif

namespace accel_kivi {

constexpr int kBlockRows = 16;
constexpr int kLanes = 32;

// Where a code is in its block: bits [shift, shift + b) of a byte.
struct CodePlace {
  int byte, shift;
};

// What a pair of codes is in its fragment: step, and whether it is in the lower or right half of the 16 x 16 numbers.
struct CodePair {
  int step, lower, right;
};

struct KiviLayout {
  int key_bits, value_bits;  // 2, 4 or 8
  int group;                 // 16, 32, 64 or 128
  int head_dim;
  int kept;                  // key channels that are stored

  ACCEL_KIVI_BOTH constexpr int channels() const { return (kept + 15) / 16 * 16; }
  ACCEL_KIVI_BOTH constexpr int key_block_bytes() const { return 2 * channels() * key_bits; }
  ACCEL_KIVI_BOTH constexpr int key_blocks() const { return group / kBlockRows; }
  ACCEL_KIVI_BOTH constexpr int key_scales() const { return key_blocks() * key_block_bytes(); }
  ACCEL_KIVI_BOTH constexpr int key_minima() const { return key_scales() + 2 * channels(); }
  ACCEL_KIVI_BOTH constexpr int key_item_bytes() const { return key_minima() + 2 * channels(); }

  ACCEL_KIVI_BOTH constexpr int value_groups() const { return head_dim / group; }
  ACCEL_KIVI_BOTH constexpr int value_block_bytes() const { return 2 * head_dim * value_bits; }
  ACCEL_KIVI_BOTH constexpr int value_scales() const { return value_block_bytes(); }
  ACCEL_KIVI_BOTH constexpr int value_minima() const { return value_scales() + 2 * kBlockRows * value_groups(); }
  ACCEL_KIVI_BOTH constexpr int value_item_bytes() const { return value_minima() + 2 * kBlockRows * value_groups(); }

  // The kept channels as 16-bit numbers, ascending. There is no header when all are kept.
  ACCEL_KIVI_BOTH constexpr int header_bytes() const { return (2 * kept + 15) / 16 * 16; }

  ACCEL_KIVI_BOTH constexpr CodePlace key_place(int row, int channel) const {
    return place(key_bits, channels() / 16, false, channel / 16, row, channel % 16);
  }
  ACCEL_KIVI_BOTH constexpr CodePlace value_place(int row, int channel) const {
    return place(value_bits, head_dim / 16, true, channel / 16, channel % 16, row);
  }

  // Which of a group's scales, and which of its minima, is that of a channel of keys, or of a row and group of values.
  ACCEL_KIVI_BOTH constexpr int key_scale(int channel) const {
    const int two = channel / 32 * 32, lane = channel % 8 / 2;
    return two + 32 <= channels() ? two + lane * 8 + channel % 32 / 8 * 2 + channel % 2
                                  : two + lane * 4 + channel % 16 / 8 * 2 + channel % 2;
  }
  ACCEL_KIVI_BOTH static constexpr int value_scale(int group, int row) {
    return group * kBlockRows + row % 8 / 2 * 4 + row / 8 * 2 + row % 2;
  }

  // Pair number p of a lane.
  ACCEL_KIVI_BOTH static constexpr CodePair pair(int bits, int steps, bool values, int p) {
    if (!values || !by_half(bits, steps)) return {p / 4, p & 1, p >> 1 & 1};
    return {p / 16 * 4 + p % 8 / 2, p & 1, p / 8 & 1};
  }

  // 32-bit words of a lane in a block of so many steps, and whether half a word is left over.
  ACCEL_KIVI_BOTH static constexpr int words(int bits, int steps) { return steps * bits / 4; }
  ACCEL_KIVI_BOTH static constexpr bool half_word(int bits, int steps) { return steps * bits % 4 != 0; }

 private:
  ACCEL_KIVI_BOTH static constexpr bool by_half(int bits, int steps) { return bits == 2 && steps % 4 == 0; }
  ACCEL_KIVI_BOTH static constexpr int pair_number(int bits, int steps, bool values, const CodePair& at) {
    return values && by_half(bits, steps) ? at.step / 4 * 16 + at.right * 8 + at.step % 4 * 2 + at.lower
                                          : at.step * 4 + at.right * 2 + at.lower;
  }
  // `a` is the fragment's row, `b` its column, where neighbours are.
  ACCEL_KIVI_BOTH static constexpr CodePlace place(int bits, int steps, bool values, int step, int a, int b) {
    const int lane = a % 8 * 4 + b % 8 / 2, second = b % 2;
    const int pair = pair_number(bits, steps, values, {step, a / 8, b / 8});
    const int in_word = 16 / bits, word = pair / in_word, bit = pair % in_word * bits;
    const int start = 4 * kLanes * word;
    return word < words(bits, steps) ? CodePlace{start + 4 * lane + 2 * second + bit / 8, bit % 8}
                                     : CodePlace{start + 2 * lane + second, bit};
  }
};

}  // namespace accel_kivi
#endif
