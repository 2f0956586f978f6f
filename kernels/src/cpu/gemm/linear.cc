// The op `linear`: argument checks, choice of path, division of the work.
#include "../builtin.h"
#include "gemm.h"

namespace accel::cpu {
namespace {

enum Arg { kOut, kX, kWeight, kBias, kAccumulate };

bool float_of(accel_dtype t, Float* to) {
  if (t.lanes != 1) return false;
  if (t.code == ACCEL_FLOAT && t.bits == 32) *to = Float::f32;
  else if (t.code == ACCEL_BFLOAT && t.bits == 16) *to = Float::bf16;
  else if (t.code == ACCEL_FLOAT && t.bits == 16) *to = Float::f16;
  else return false;
  return true;
}

int64_t element_size(Float f) { return f == Float::f32 ? 4 : 2; }

void* data_of(const accel_tensor* t) { return static_cast<uint8_t*>(t->data) + t->byte_offset; }

LinearProblem problem_of(const accel_call* call) {
  const accel_tensor* x = call->args[kX].tensor;
  const accel_tensor* w = call->args[kWeight].tensor;
  const accel_tensor* bias = call->args[kBias].tensor;
  const accel_tensor* out = call->args[kOut].tensor;
  LinearProblem p{};
  p.m = x->shape[0];
  p.n = w->shape[0];
  p.k = x->shape[1];
  p.x = data_of(x);
  p.w = data_of(w);
  p.bias = bias != nullptr ? data_of(bias) : nullptr;
  p.out = data_of(out);
  float_of(x->dtype, &p.in);
  float_of(out->dtype, &p.result);
  p.accumulate = call->args[kAccumulate].i != 0;
  return p;
}

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t to) { return divide_up(a, to) * to; }

// K is cut into equal blocks that fit the cache. This fixes the summation order, so only K may enter here.
void cut_k(const GemmKernel& kernel, const LinearProblem& p, GemmTiling* t) {
  const int64_t cells = divide_up(p.k, kernel.cell_elements);
  const int64_t blocks = divide_up(cells, kernel.max_k_cells);
  t->k_step = round_up(divide_up(cells, blocks), 8) * kernel.cell_elements;
  t->k_blocks = divide_up(p.k, t->k_step);
}

// Picks the task size with the least time of the busiest thread. A task multiplies rows x cols, packs its weight rows
// and copies its rows of x; times are in cycles per element of K.
void cut_outputs(const GemmKernel& kernel, const LinearProblem& p, int threads, GemmTiling* t) {
  constexpr double kPack = 0.6, kCopy = 0.15, kTask = 4.0;
  constexpr int64_t kMaxRowsWithSums = 384;  // their fp32 sums share L2 with the panels
  const double products = double(kernel.tile_cols) * kernel.cell_elements;
  const int64_t least_m_cuts = t->sums ? divide_up(p.m, kMaxRowsWithSums) : 1;
  double best = 0;
  for (int64_t cols = kernel.tile_cols; cols <= kernel.max_cols; cols += kernel.tile_cols) {
    const int64_t n_cuts = divide_up(p.n, cols);
    for (int64_t waves = 1; waves <= 4; ++waves) {
      int64_t m_cuts = waves * threads / n_cuts;
      if (m_cuts < least_m_cuts) m_cuts = least_m_cuts;
      const int64_t rows = round_up(divide_up(p.m, m_cuts), kernel.tile_rows);
      const int64_t tasks = divide_up(p.m, rows) * n_cuts;
      const double r = double(rows < p.m ? rows : p.m);
      const double cost =
          double(divide_up(tasks, threads)) * (r * double(cols) / products + kPack * double(cols) + kCopy * r + kTask);
      if (best == 0 || cost < best) {
        best = cost;
        t->rows = rows;
        t->cols = cols;
      }
    }
    if (cols >= p.n) break;
  }
}

struct Work {
  const LinearProblem* problem;
  const GemmKernel* gemm;
  const DotKernel* dot;
  GemmTiling tiling;
  uint8_t* scratch;        // gemm: worker w's part starts at w * stride
  int64_t stride;
  const void* x;           // dot: widened rows
};

void gemm_tasks(void* user, int64_t begin, int64_t end, int32_t worker) {
  const Work& work = *static_cast<const Work*>(user);
  const LinearProblem& p = *work.problem;
  const GemmTiling& t = work.tiling;
  const int64_t m_cuts = divide_up(p.m, t.rows);
  for (int64_t task = begin; task < end; ++task) {
    // Rows vary fastest: neighbouring tasks pack the same weights, which are then still in cache.
    const int64_t m0 = task % m_cuts * t.rows, n0 = task / m_cuts * t.cols;
    const int64_t m1 = m0 + t.rows < p.m ? m0 + t.rows : p.m, n1 = n0 + t.cols < p.n ? n0 + t.cols : p.n;
    work.gemm->block(p, t, m0, m1, n0, n1, work.scratch + worker * work.stride);
  }
}

void dot_tasks(void* user, int64_t begin, int64_t end, int32_t) {
  const Work& work = *static_cast<const Work*>(user);
  const int64_t n = work.problem->n;
  const int64_t n1 = end * DotKernel::kTaskRows;
  work.dot->rows(*work.problem, work.x, begin * DotKernel::kTaskRows, n1 < n ? n1 : n);
}

int run_gemm(const accel_call* call, const LinearProblem& p, const GemmKernel& kernel) {
  Work work{};
  work.problem = &p;
  work.gemm = &kernel;
  cut_k(kernel, p, &work.tiling);
  work.tiling.sums =
      work.tiling.k_blocks > 1 && (p.result != Float::f32 || p.accumulate || p.bias != nullptr);
  cut_outputs(kernel, p, call->threads, &work.tiling);
  work.stride = round_up(int64_t(kernel.scratch_bytes(work.tiling)), 64);
  work.scratch = static_cast<uint8_t*>(call->scratch(call, size_t(work.stride * call->threads)));
  if (work.scratch == nullptr) return ACCEL_FAILED;
  const int64_t tasks = divide_up(p.m, work.tiling.rows) * divide_up(p.n, work.tiling.cols);
  call->parallel(call, tasks, 1, gemm_tasks, &work);
  return ACCEL_OK;
}

int run_dot(const accel_call* call, const LinearProblem& p, const DotKernel& kernel) {
  constexpr int64_t kTaskBytes = 64 * 1024;  // of W: below this a thread is not worth waking
  Work work{};
  work.problem = &p;
  work.dot = &kernel;
  const int64_t row_bytes = kernel.row_bytes(p.k);
  if (!kernel.widens && row_bytes == p.k * element_size(p.in)) {
    work.x = p.x;
  } else {
    uint8_t* rows = static_cast<uint8_t*>(call->scratch(call, size_t(row_bytes * p.m)));
    if (rows == nullptr) return ACCEL_FAILED;
    for (int64_t m = 0; m < p.m; ++m) kernel.widen(p, m, rows + m * row_bytes);
    work.x = rows;
  }
  const int64_t work_bytes = p.k * element_size(p.in) * DotKernel::kTaskRows * p.m;
  call->parallel(call, divide_up(p.n, DotKernel::kTaskRows), divide_up(kTaskBytes, work_bytes), dot_tasks, &work);
  return ACCEL_OK;
}

int linear_cpu(const accel_call* call) { return run_linear(call, *linear_kernels(isa()), LinearPath::automatic); }

const accel_op kOps[] = {
    {"linear", "out:tensor, x:tensor, weight:tensor, bias:tensor?, accumulate:int", check_linear, linear_cpu, nullptr},
};

}  // namespace

const LinearKernels* linear_kernels(Isa isa) {
  switch (isa) {
    case Isa::base: return &gemm_base::kernels;
#if defined(__x86_64__)
    case Isa::avx2: return &gemm_avx2::kernels;
    case Isa::avx512: return &gemm_avx512::kernels;
    case Isa::avx512bf16: return &gemm_avx512bf16::kernels;
#endif
    default: return nullptr;
  }
}

int check_linear(const accel_call* call) {
  const accel_tensor* out = call->args[kOut].tensor;
  const accel_tensor* x = call->args[kX].tensor;
  const accel_tensor* w = call->args[kWeight].tensor;
  const accel_tensor* bias = call->args[kBias].tensor;
  Float in, weight, result, added;
  if (!float_of(x->dtype, &in))
    return call->fail(call, "ERR_ACCEL_DTYPE", "linear: x must be float32, bfloat16 or float16");
  if (!float_of(w->dtype, &weight) || weight != in)
    return call->fail(call, "ERR_ACCEL_DTYPE", "linear: weight must have the dtype of x; cast one of them");
  if (bias != nullptr && (!float_of(bias->dtype, &added) || added != in))
    return call->fail(call, "ERR_ACCEL_DTYPE", "linear: bias must have the dtype of x; cast it");
  if (!float_of(out->dtype, &result) || (result != in && result != Float::f32))
    return call->fail(call, "ERR_ACCEL_DTYPE", "linear: out must have the dtype of x or be float32");
  if (x->ndim != 2 || w->ndim != 2 || out->ndim != 2)
    return call->fail(call, "ERR_ACCEL_SHAPE",
                      "linear: out [M,N], x [M,K] and weight [N,K] must have 2 dimensions, not %d, %d and %d; use view()",
                      out->ndim, x->ndim, w->ndim);
  const long long m = x->shape[0], k = x->shape[1], n = w->shape[0];
  if (w->shape[1] != k || k == 0)
    return call->fail(call, "ERR_ACCEL_SHAPE",
                      "linear: x [%lld,%lld] and weight [%lld,%lld] must agree in their last dimension, at least 1", m, k, n,
                      static_cast<long long>(w->shape[1]));
  if (out->shape[0] != m || out->shape[1] != n)
    return call->fail(call, "ERR_ACCEL_SHAPE", "linear: out is [%lld,%lld] but x and weight give [%lld,%lld]",
                      static_cast<long long>(out->shape[0]), static_cast<long long>(out->shape[1]), m, n);
  if (bias != nullptr && (bias->ndim != 1 || bias->shape[0] != n))
    return call->fail(call, "ERR_ACCEL_SHAPE", "linear: bias must be [%lld], one value per weight row", n);
  return ACCEL_OK;
}

int run_linear(const accel_call* call, const LinearKernels& kernels, LinearPath path) {
  const LinearProblem p = problem_of(call);
  if (p.m == 0 || p.n == 0) return ACCEL_OK;
  const GemmKernel& gemm = kernels.gemm[int(p.in)];
  const DotKernel& dot = kernels.dot[int(p.in)];
  const bool few = path == LinearPath::dot || (path == LinearPath::automatic && p.m <= dot.max_rows);
  call->ran(call, few ? kernels.dot_name : kernels.gemm_name);
  return few ? run_dot(call, p, dot) : run_gemm(call, p, gemm);
}

OpTable linear_ops() { return {kOps, int(sizeof kOps / sizeof kOps[0])}; }

}  // namespace accel::cpu
