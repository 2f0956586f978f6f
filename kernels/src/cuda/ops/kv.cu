// kv_append, kv_gather, kv_read: row copies through the page tables, bit for bit. A row is moved in the widest words
// that its address allows; 16 bytes is the rule. Semantics: cpu/ops/kv.cc.
#include "cuda/kernels.h"
#include "cuda/ops/append_rows.cuh"

namespace accel::cuda {
namespace {

int64_t row_bytes(const accel_kv& kv) { return static_cast<int64_t>(kv.head_dim) * (kv.dtype.bits / 8); }

// ---- kv_append  kv:kv, k:tensor[T,Hk,d], v:tensor[T,Hk,d], positions:tensor i32[T], lens:ints[B]: one block a token

template <class Word>
__global__ void __launch_bounds__(256)
    append_tokens(Append to, const Word* k, const Word* v, const int32_t* positions, int words) {
  pdl_release();
  pdl_wait();
  const int64_t token = blockIdx.x;
  const Append::Place place = to.place(static_cast<int>(token));
  const int half = to.kv.heads * words, end = 2 * half + to.kv.heads;
  for (int i = threadIdx.x; i < end; i += blockDim.x) {
    if (i < 2 * half) {
      const bool value = i >= half;
      const int j = value ? i - half : i, head = j / words;
      const accel_kv_head& h = to.kv.at(place.sequence, head);
      const int row = h.rows - place.back;
      Word* at = reinterpret_cast<Word*>(value ? to.kv.value(h, row) : to.kv.key(h, row));
      at[j - head * words] = (value ? v : k)[token * half + j];
    } else {
      const accel_kv_head& h = to.kv.at(place.sequence, i - 2 * half);
      begin_record(to.kv, h, h.rows - place.back, positions[token]);
    }
  }
}

int kv_append(const accel_call* call) {
  const accel_kv& kv = *call->args[0].kv;
  const int64_t tokens = dim(call, 1, 0), bytes = row_bytes(kv);
  const uint8_t *k = data<uint8_t>(tensor(call, 1)), *v = data<uint8_t>(tensor(call, 2));
  call->ran(call, "kv_append");
  if (tokens == 0) return ACCEL_OK;
  const Append to = append_to(call, kv, call->args[4].ints);
  return with_word<uint16_t>({k, v, kv.base}, {bytes, kv.page_bytes}, [&](auto* e) {
    using Word = std::remove_pointer_t<decltype(e)>;
    const int words = static_cast<int>(bytes / static_cast<int64_t>(sizeof(Word)));
    launch_pdl(call, append_tokens<Word>, dim3(static_cast<unsigned>(tokens)),
               dim3(block_for(static_cast<int64_t>(kv.heads) * (2 * words + 1), 256)), 0, to,
               reinterpret_cast<const Word*>(k), reinterpret_cast<const Word*>(v), data<int32_t>(tensor(call, 3)),
               words);
    return launched(call);
  });
}

// ---- kv_gather  dst:kv, src:kv, rows:tensor i32[Hk,kmax], counts:ints[Hk]: one warp a row, 8 warps a block

// A row that does not ascend, or that src does not have, is reported and not copied. Each warp looks at its own row and
// the one before, so together they have checked the whole list.
template <class Word>
__global__ void __launch_bounds__(256) gather_kept(KvPages dst, KvPages src, const int32_t* rows, int64_t width,
                                                   const int32_t* counts, int words, accel_device_error* error,
                                                   int32_t check) {
  const int head = blockIdx.y, lane = threadIdx.x % 32;
  const int count = counts[head];
  const accel_kv_head &from = src.at(0, head), &to = dst.at(0, head);
  const int32_t* list = rows + head * width;
  for (int64_t j = blockIdx.x * 8ll + threadIdx.x / 32; j < count; j += gridDim.x * 8ll) {
    const int32_t r = list[j], previous = j > 0 ? list[j - 1] : -1;
    if (r <= previous || r < 0 || r >= from.rows) {
      if (lane == 0) accel_report(error, check, head * width + j, r);
      continue;
    }
    const int out = static_cast<int>(j);
    const Word* k = reinterpret_cast<const Word*>(src.key(from, r));
    const Word* v = reinterpret_cast<const Word*>(src.value(from, r));
    Word* k_out = reinterpret_cast<Word*>(dst.key(to, out));
    Word* v_out = reinterpret_cast<Word*>(dst.value(to, out));
    for (int i = lane; i < 2 * words; i += 32) {
      if (i < words) k_out[i] = k[i];
      else v_out[i - words] = v[i - words];
    }
    for (int i = lane; i < src.record_words; i += 32) dst.record(to, out)[i] = src.record(from, r)[i];
  }
}

int kv_gather(const accel_call* call) {
  const accel_kv &dst = *call->args[0].kv, &src = *call->args[1].kv;
  const accel_ints counts = call->args[3].ints;
  const int64_t bytes = row_bytes(src);
  const int32_t check = call->device_check(
      call, "ERR_ACCEL_ARGUMENT",
      "kv_gather: rows, element %lld of the list, is %lld; they must ascend and be below src's rows");
  int most = 0;
  for (int64_t h = 0; h < counts.size; h++) most = counts.data[h] > most ? counts.data[h] : most;
  call->ran(call, "kv_gather");
  if (most == 0) return ACCEL_OK;
  const void* device_counts = call->upload(call, counts.data, static_cast<size_t>(counts.size) * sizeof(int32_t));
  return with_word<uint16_t>({dst.base, src.base}, {bytes, dst.page_bytes, src.page_bytes}, [&](auto* e) {
    using Word = std::remove_pointer_t<decltype(e)>;
    const int64_t blocks = divide_up(most, 8);
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(src.heads));
    gather_kept<Word><<<grid, 256, 0, stream_of(call)>>>(
        kv_pages(dst), kv_pages(src), data<int32_t>(tensor(call, 2)), dim(call, 2, 1),
        static_cast<const int32_t*>(device_counts), static_cast<int>(bytes / static_cast<int64_t>(sizeof(Word))),
        call->device_error, check);
    return launched(call);
  });
}

// ---- kv_read  k:tensor?[Hk,n,d], v:tensor?[Hk,n,d], positions:tensor? i32[Hk,n], kv:kv: one warp a row
// What lies beyond a head's rows is 0 (positions: -1).

struct ReadRows {
  uint8_t* k;
  uint8_t* v;
  int32_t* positions;
  int64_t k_rows, v_rows, position_rows;  // room for each head; 0: not asked for
  int64_t most;
};

template <class Word>
__global__ void __launch_bounds__(256) read_rows(ReadRows out, KvPages kv, int words) {
  const int head = blockIdx.y, lane = threadIdx.x % 32;
  const accel_kv_head& h = kv.at(0, head);
  const auto copy = [&](Word* to, const uint8_t* from) {
    for (int i = lane; i < words; i += 32) to[i] = from == nullptr ? Word{} : reinterpret_cast<const Word*>(from)[i];
  };
  for (int64_t r = blockIdx.x * 8ll + threadIdx.x / 32; r < out.most; r += gridDim.x * 8ll) {
    const bool there = r < h.rows;
    const int row = static_cast<int>(r);
    if (r < out.k_rows) {
      copy(reinterpret_cast<Word*>(out.k) + (head * out.k_rows + r) * words, there ? kv.key(h, row) : nullptr);
    }
    if (r < out.v_rows) {
      copy(reinterpret_cast<Word*>(out.v) + (head * out.v_rows + r) * words, there ? kv.value(h, row) : nullptr);
    }
    if (r < out.position_rows && lane == 0) {
      out.positions[head * out.position_rows + r] = there ? kv.position(h, row) : -1;
    }
  }
}

int kv_read(const accel_call* call) {
  const accel_kv& kv = *call->args[3].kv;
  const auto room = [&](int i) { return tensor(call, i) == nullptr ? 0 : dim(call, i, 1); };
  ReadRows out = {data<uint8_t>(tensor(call, 0)), data<uint8_t>(tensor(call, 1)), data<int32_t>(tensor(call, 2)),
                  room(0),                        room(1),                        room(2),
                  0};
  for (const int64_t n : {out.k_rows, out.v_rows, out.position_rows}) out.most = n > out.most ? n : out.most;
  call->ran(call, "kv_read");
  if (out.most == 0) return ACCEL_OK;
  const int64_t bytes = row_bytes(kv);
  return with_word<uint16_t>({out.k, out.v, kv.base}, {bytes, kv.page_bytes}, [&](auto* e) {
    using Word = std::remove_pointer_t<decltype(e)>;
    const dim3 grid(static_cast<unsigned>(divide_up(out.most, 8)), static_cast<unsigned>(kv.heads));
    read_rows<Word><<<grid, 256, 0, stream_of(call)>>>(out, kv_pages(kv),
                                                       static_cast<int>(bytes / static_cast<int64_t>(sizeof(Word))));
    return launched(call);
  });
}

const OpKernel kernels[] = {{"kv_append", kv_append}, {"kv_gather", kv_gather}, {"kv_read", kv_read}};

}  // namespace

OpKernels kv_kernels() { return {kernels, sizeof kernels / sizeof *kernels}; }

}  // namespace accel::cuda
