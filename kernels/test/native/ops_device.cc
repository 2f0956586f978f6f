#include "ops_device.h"

#ifndef ACCEL_TEST_CUDA

namespace test {

std::string no_cuda() { return "this program was built without nvcc"; }
std::string run_on_cuda(const char*, const std::vector<accel_arg>&, std::vector<std::string>&) { return no_cuda(); }
std::string cuda_name() { return no_cuda(); }

}  // namespace test

#else

#include <cuda_runtime_api.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <map>

#include "cuda/kernels.h"

namespace test {
namespace {

void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  // A launch that went wrong leaves the device unusable for this process.
  printf("FATAL %s: %s\n", what, cudaGetErrorString(error));
  exit(2);
}

accel_op_fn find(const char* name) {
  using namespace accel::cuda;
  static const OpKernels tables[] = {linear_kernels(), attention_kernels(), signal_kernels(),    elementwise_kernels(),
                                     rope_kernels(),   kv_kernels(),        kv_remove_kernels(), kv_transfer_kernels(),
                                     tally_kernels(),  select_kernels(),    sample_kernels()};
  for (const OpKernels& table : tables) {
    for (int i = 0; i < table.count; ++i) {
      if (strcmp(table.kernels[i].name, name) == 0) return table.kernels[i].run;
    }
  }
  return nullptr;
}

int64_t bytes_of(const accel_tensor* t) {
  int64_t n = t->dtype.bits / 8;
  for (int i = 0; i < t->ndim; ++i) n *= t->shape[i];
  return n;
}

// One call: what it allocated, and what the op announced.
struct Run {
  struct Block {
    uint8_t* device = nullptr;
    uint8_t* host = nullptr;  // copied back to, if not null
    int64_t lead = 0, bytes = 0;
  };
  std::vector<void*> owned;
  std::vector<Block> blocks;
  std::vector<std::pair<const char*, const char*>> checks;
  std::vector<std::string>* kernels = nullptr;
  std::string error;

  // Fills and copies run in the default stream, which does not wait for the ops' stream nor that for it, and they may
  // still run when they return.
  uint8_t* allocate(size_t bytes, int fill) {
    void* p = nullptr;
    must(cudaMalloc(&p, bytes), "cudaMalloc");
    must(cudaMemset(p, fill, bytes), "cudaMemset");
    must(cudaStreamSynchronize(nullptr), "synchronize");
    owned.push_back(p);
    return static_cast<uint8_t*>(p);
  }
  void fill(uint8_t* to, const void* host, size_t bytes) {
    if (bytes > 0) must(cudaMemcpy(to, host, bytes, cudaMemcpyHostToDevice), "copy to the device");
    must(cudaStreamSynchronize(nullptr), "synchronize");
  }
  uint8_t* copy(const void* host, size_t bytes) {
    uint8_t* p = allocate(bytes + 1, 0xee);
    fill(p, host, bytes);
    return p;
  }
  // `bytes` of host memory between guards; `lead` bytes are left free in front.
  uint8_t* place(void* host, int64_t lead, int64_t bytes) {
    Block block;
    block.device = allocate(static_cast<size_t>(lead + bytes + guard_bytes), 0xee);
    block.host = static_cast<uint8_t*>(host);
    block.lead = lead;
    block.bytes = bytes;
    fill(block.device + lead, host, (size_t)bytes);
    blocks.push_back(block);
    return block.device;
  }
  bool intact_and_back() {
    bool intact = true;
    for (const Block& b : blocks) {
      std::vector<uint8_t> all(static_cast<size_t>(b.lead + b.bytes + guard_bytes));
      must(cudaMemcpy(all.data(), b.device, all.size(), cudaMemcpyDeviceToHost), "copy from the device");
      for (int64_t i = 0; i < b.lead; ++i) intact &= all[i] == 0xee;
      for (size_t i = static_cast<size_t>(b.lead + b.bytes); i < all.size(); ++i) intact &= all[i] == 0xee;
      memcpy(b.host, all.data() + b.lead, (size_t)b.bytes);
    }
    return intact;
  }
  ~Run() {
    for (void* p : owned) cudaFree(p);
  }
};

Run& run_of(const accel_call* call) { return *static_cast<Run*>(call->host); }

// A cache on the device: its pages, page lists and heads.
struct DeviceCache {
  accel_kv kv;
  std::vector<accel_kv_head> host_heads, device_heads;
};

void place_cache(Run& run, const accel_kv& from, DeviceCache* to) {
  const int heads = from.sequences * from.heads;
  std::vector<int32_t> lists;
  int32_t last_page = -1, rows = 0;
  struct Offsets {
    size_t at[3];
  };
  std::vector<Offsets> offsets;
  for (int h = 0; h < heads; ++h) {
    const accel_kv_head& head = from.head[h];
    const int slots = head.rows + (head.rows > head.gap_at ? head.gap : 0);
    const int32_t* pages[] = {head.key_pages, head.value_pages, head.record_pages};
    Offsets o;
    for (int i = 0; i < 3; ++i) {
      const int per = i == 2 ? from.records_per_page : from.rows_per_page;
      o.at[i] = lists.size();
      for (int p = 0; p < (slots + per - 1) / per; ++p) {
        lists.push_back(pages[i][p]);
        last_page = pages[i][p] > last_page ? pages[i][p] : last_page;
      }
    }
    offsets.push_back(o);
    rows = head.rows > rows ? head.rows : rows;
  }
  lists.push_back(0);
  const auto* device_lists = reinterpret_cast<const int32_t*>(run.copy(lists.data(), lists.size() * 4));
  for (int h = 0; h < heads; ++h) {
    accel_kv_head head = from.head[h];
    head.key_pages = device_lists + offsets[h].at[0];
    head.value_pages = device_lists + offsets[h].at[1];
    head.record_pages = device_lists + offsets[h].at[2];
    to->device_heads.push_back(head);
    // The host's view keeps host lists. A replayed graph was captured with fewer rows.
    to->host_heads.push_back(from.head[h]);
    if (setup.stale) to->host_heads.back().rows = head.rows - head.rows / 3;
  }
  to->kv = from;
  to->kv.base = run.place(from.base, 0, (last_page + 1) * from.page_bytes);
  to->kv.head = to->host_heads.data();
  to->kv.device_head =
      reinterpret_cast<const accel_kv_head*>(run.copy(to->device_heads.data(), sizeof(accel_kv_head) * (size_t)heads));
  to->kv.row_limit = rows + rows / 4 + 3;  // a limit, not the count
}

int report(const accel_call* call, const char* code, const char* format, ...) {
  char text[1024];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  run_of(call).error = std::string(code) + ": " + text;
  return ACCEL_FAILED;
}

}  // namespace

std::string no_cuda() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return count > 0 ? "" : "there is no CUDA device";
}

std::string cuda_name() {
  cudaDeviceProp properties;
  must(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
         std::to_string(properties.minor);
}

std::string run_on_cuda(const char* op, const std::vector<accel_arg>& host_args, std::vector<std::string>& kernels) {
  const accel_op_fn function = find(op);
  if (function == nullptr) return std::string("no CUDA function is called ") + op;
  static cudaStream_t stream = [] {
    cudaStream_t s;
    must(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cudaStreamCreate");
    return s;
  }();
  Run run;
  run.kernels = &kernels;
  std::vector<accel_arg> args = host_args;
  std::vector<accel_tensor> tensors(args.size());
  std::vector<DeviceCache> caches(args.size());
  std::map<const void*, uint8_t*> placed;  // an output may be an input too
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i].kind == ACCEL_ARG_KV) {
      place_cache(run, *args[i].kv, &caches[i]);
      args[i].kv = &caches[i].kv;
    }
    if (args[i].kind != ACCEL_ARG_TENSOR || args[i].tensor == nullptr) continue;
    tensors[i] = *args[i].tensor;
    const int64_t lead = setup.shift * (tensors[i].dtype.bits / 8);
    uint8_t*& device = placed[tensors[i].data];
    if (device == nullptr) device = run.place(tensors[i].data, lead, bytes_of(args[i].tensor));
    tensors[i].data = device;
    tensors[i].byte_offset = (uint64_t)lead;
    tensors[i].device = {ACCEL_DEVICE_CUDA, 0};
    args[i].tensor = &tensors[i];
  }
  accel_call call = {};
  call.args = args.data();
  call.nargs = (int32_t)args.size();
  call.threads = 1;
  call.device = {ACCEL_DEVICE_CUDA, 0};
  call.stream = stream;
  call.host = &run;
  call.scratch = [](const accel_call* c, size_t bytes) -> void* { return run_of(c).allocate(bytes + 1, 0xff); };
  call.upload = [](const accel_call* c, const void* host, size_t bytes) -> const void* {
    return run_of(c).copy(host, bytes);
  };
  call.ran = [](const accel_call* c, const char* name) { run_of(c).kernels->push_back(name); };
  call.fail = report;
  call.device_check = [](const accel_call* c, const char* code, const char* format) -> int32_t {
    run_of(c).checks.emplace_back(code, format);
    return (int32_t)run_of(c).checks.size();
  };
  call.device_error = reinterpret_cast<accel_device_error*>(run.allocate(sizeof(accel_device_error), 0));
  int value = 0;
  must(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0), "cudaDeviceGetAttribute");
  call.capability = value * 10;
  must(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMinor, 0), "cudaDeviceGetAttribute");
  call.capability += value;
  must(cudaDeviceGetAttribute(&call.multiprocessors, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
  const int status = function(&call);
  must(cudaStreamSynchronize(stream), op);
  must(cudaGetLastError(), op);
  if (status != ACCEL_OK) return run.error.empty() ? "no message" : run.error;
  const bool intact = run.intact_and_back();
  accel_device_error found;
  must(cudaMemcpy(&found, call.device_error, sizeof found, cudaMemcpyDeviceToHost), "copy from the device");
  if (!intact) return "wrote outside a tensor or the pages";
  if (found.check == 0) return "";
  if (found.check < 0 || found.check > (int32_t)run.checks.size()) return "an unannounced check was reported";
  char text[512];
  const auto& check = run.checks[(size_t)found.check - 1];
  snprintf(text, sizeof text, check.second, (long long)found.index, (long long)found.value);
  return std::string(check.first) + ": " + text;
}

}  // namespace test

#endif
