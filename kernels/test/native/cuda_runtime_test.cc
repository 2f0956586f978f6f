// The CUDA backend's runtime on a real GPU: memory, copies, pages, page lists, graphs, data errors.
// Usage: cuda_runtime_test <folder of accel_cuda.so>. Prints "N passed, N failed"; 77 without a usable GPU.
#include <unistd.h>

#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cuda_host.h"

using namespace accel;
using namespace accel::test;

namespace {

void copies() {
  Ref<Stream> stream = Stream::create(*gpu);
  std::mt19937 random(1);
  for (int64_t size : {1, 3, 255, 4096, 65536, 65537, 1 << 20, (16 << 20) + 1, 50 << 20}) {
    std::vector<uint8_t> values(size);
    for (uint8_t& value : values) value = static_cast<uint8_t>(random());
    Ref<Tensor> filled = tensor(DType::uint8, shape({size}), values);
    CHECK(read<uint8_t>(*stream, *filled) == values);
    Ref<Tensor> written = Tensor::empty(*gpu, DType::uint8, shape({size}));
    write(*stream, written, values);
    CHECK(read<uint8_t>(*stream, *written) == values);
  }
  // Many more bytes than the ring has.
  Ref<Tensor> x = Tensor::empty(*gpu, DType::int32, shape({1000}));
  bool all = true;
  for (int round = 0; round < 3000; round++) {
    std::vector<int32_t> values(1000, round);
    write(*stream, x, values);
    if (round % 500 == 499) all &= read<int32_t>(*stream, *x) == values;
  }
  CHECK(all);

  char path[] = "/tmp/accel-upload-XXXXXX";
  int file = mkstemp(path);
  std::vector<int32_t> numbers(12 << 20);
  std::iota(numbers.begin(), numbers.end(), 7);
  bool stored = ::write(file, numbers.data(), numbers.size() * 4) == static_cast<ssize_t>(numbers.size() * 4);
  ::close(file);
  CHECK(stored);
  Ref<Tensor> mapped = MappedFile::open(path)->tensor(*cpu_backend(), DType::int32, shape({(12 << 20) - 1}), 4);
  unlink(path);
  Ref<Tensor> loaded = Tensor::empty(*gpu, DType::int32, mapped->shape());
  stream->push_task([loaded, mapped](StreamBackend& device) {
    device.upload(loaded->data(), mapped->data(), loaded->bytes());
  });
  std::vector<int32_t> got = read<int32_t>(*stream, *loaded);
  CHECK(std::equal(got.begin(), got.end(), numbers.begin() + 1));
  stream->close();
}

void memory() {
  Ref<Stream> stream = Stream::create(*gpu);
  MemoryInfo before = gpu->info().memory;
  CHECK(before.counted && before.used > 0 && before.peak >= before.used && before.free < before.total);
  void* first;
  {
    Ref<Tensor> x = Tensor::empty(*gpu, DType::float32, shape({100}));
    Ref<Tensor> y = tensor(DType::float32, shape({100}), std::vector<float>(100, 1));
    first = x->data();
    run(*stream, "add", {arg(x), arg(y), arg(y)});
    wait(*stream);
  }
  CHECK(Tensor::empty(*gpu, DType::float32, shape({100}))->storage().bytes() == 400);
  std::vector<Ref<Tensor>> kept;
  bool again = false;
  for (int i = 0; i < 8; i++) {
    kept.push_back(Tensor::empty(*gpu, DType::float32, shape({100})));
    again |= kept.back()->data() == first;
  }
  CHECK(again);
  // Work of one stream must not reach memory that another one has been given.
  Ref<Stream> other = Stream::create(*gpu);
  bool right = true;
  for (int round = 0; round < 200; round++) {
    constexpr int64_t n = 300000;
    Ref<Tensor> a = tensor(DType::float32, shape({n}), std::vector<float>(n, static_cast<float>(round)));
    Ref<Tensor> sum = Tensor::empty(*gpu, DType::float32, shape({n}));
    Stream& on = round % 2 ? *stream : *other;
    for (int i = 0; i < 20; i++) run(on, "add", {arg(sum), arg(a), arg(a)});
    if (round % 10 == 0) right &= read<float>(on, *sum) == std::vector<float>(n, 2.0f * round);
  }
  CHECK(right);
  std::string code, text;
  try {
    gpu->allocate(gpu->info().memory.total, "something too large", FirstUse::stream);
  } catch (const Failure& failure) {
    code = failure.code();
    text = failure.message();
  }
  CHECK(code == "ERR_ACCEL_OUT_OF_MEMORY" && text.find("something too large needs") != std::string::npos);
  kept.clear();
  gpu->reset_peak();
  CHECK(gpu->info().memory.peak == gpu->info().memory.used);
  stream->close();
  other->close();
}

// One layer, one head, d = 8: row r of the token with position p is {p, p, ...}; values are -p.
struct Cache {
  Ref<Stream> stream;
  Ref<PagePool> pool;
  Ref<KvSequence> kv;
  explicit Cache(size_t page_bytes = 128, size_t capacity = 64 << 20) : stream(Stream::create(*gpu)) {
    pool = PagePool::create(stream, page_bytes, capacity);
    kv = KvSequence::create(pool, {1, 2, 8, DType::float32});
  }
  ~Cache() {
    kv->dispose();
    stream->close();
  }
  void append(KvSequence& to, int32_t from, int32_t count) {
    to.reserve(0, count);
    std::vector<int32_t> positions(count);
    std::iota(positions.begin(), positions.end(), from);
    std::vector<float> k(count * 16), v(count * 16);
    for (size_t i = 0; i < k.size(); i++) v[i] = -(k[i] = static_cast<float>(from + static_cast<int>(i / 16)));
    KvView view;
    view.add(to, 0);
    run(*stream, "kv_append",
        {arg(view), arg(tensor(DType::float32, shape({count, 2, 8}), k)), arg(tensor(DType::float32, shape({count, 2, 8}), v)),
         arg(tensor(DType::int32, shape({count}), positions)), arg(std::vector<int32_t>{count})});
  }
  bool holds(KvSequence& of, const std::vector<int32_t>& expected) {
    auto n = static_cast<int64_t>(expected.size());
    Ref<Tensor> k = Tensor::empty(*gpu, DType::float32, shape({2, n, 8}));
    Ref<Tensor> positions = Tensor::empty(*gpu, DType::int32, shape({2, n}));
    KvView view;
    view.add(of, 0);
    run(*stream, "kv_read", {arg(k), arg(Ref<Tensor>()), arg(positions), arg(view)});
    std::vector<int32_t> got = read<int32_t>(*stream, *positions);
    std::vector<float> keys = read<float>(*stream, *k);
    bool same = of.rows(0, 0) == n;
    for (int64_t i = 0; i < 2 * n; i++) same &= got[i] == expected[i % n] && keys[i * 8 + 3] == static_cast<float>(got[i]);
    return same;
  }
};

std::vector<int32_t> range(int32_t begin, int32_t end) {
  std::vector<int32_t> made(end - begin);
  std::iota(made.begin(), made.end(), begin);
  return made;
}

void page_lists() {
  Cache cache;
  KvSequence& kv = *cache.kv;
  cache.append(kv, 0, 37);
  CHECK(cache.holds(kv, range(0, 37)));
  for (int i = 37; i < 300; i++) cache.append(kv, i, 1);  // tables double on the way
  CHECK(cache.holds(kv, range(0, 300)));
  kv.truncate(0, 100);
  cache.append(kv, 100, 50);
  CHECK(cache.holds(kv, range(0, 150)));
  Ref<KvSequence> child = kv.fork();
  cache.append(kv, 150, 3);
  cache.append(*child, 1000, 2);
  CHECK(cache.holds(kv, range(0, 153)));
  std::vector<int32_t> forked = range(0, 150);
  forked.insert(forked.end(), {1000, 1001});
  CHECK(cache.holds(*child, forked));
  child->dispose();
  kv.drop(0, 4, 120);
  cache.append(kv, 153, 40);
  std::vector<int32_t> left = range(0, 4);
  for (int32_t p : range(124, 193)) left.push_back(p);
  CHECK(cache.holds(kv, left));
  // An error skips ops, but not what they bring for the page lists.
  cache.stream->push_task([](StreamBackend&) { fail("ERR_ACCEL_NAN", "on purpose"); });
  kv.truncate(0, 10);
  cache.append(kv, 500, 30);
  CHECK(wait(*cache.stream).code == "ERR_ACCEL_NAN");
  kv.truncate(0, 10);
  cache.append(kv, 124 + 6, 64);
  left.resize(10);
  for (int32_t p : range(130, 194)) left.push_back(p);
  CHECK(cache.holds(kv, left));
}

void chunks() {
  Cache cache(4096, static_cast<size_t>(1) << 38);  // more than any GPU has
  size_t before = gpu->info().memory.used;
  cache.append(*cache.kv, 0, 500000);  // 2 heads, 68 bytes a row: three chunks
  wait(*cache.stream);
  CHECK(gpu->info().memory.used >= before + (64 << 20));
  CHECK(cache.holds(*cache.kv, range(0, 500000)));
  size_t full = gpu->info().memory.used;
  cache.kv->truncate(0, 0);
  cache.pool->trim();
  wait(*cache.stream);
  CHECK(gpu->info().memory.used + (64 << 20) <= full);
  cache.append(*cache.kv, 0, 500000);
  CHECK(cache.holds(*cache.kv, range(0, 500000)));
  cache.kv->truncate(0, 0);
  cache.pool->trim();
  cache.append(*cache.kv, 0, 300000);  // chunks are taken again before they could go
  CHECK(cache.holds(*cache.kv, range(0, 300000)));
}

void graphs() {
  Cache cache(128, 64 << 20);
  Stream& stream = *cache.stream;
  std::vector<float> ones(16, 1);
  Ref<Tensor> one = tensor(DType::float32, shape({1, 2, 8}), ones);
  Ref<Tensor> row = tensor(DType::float32, shape({1, 2, 8}), std::vector<float>(16, 0));
  Ref<Tensor> position = tensor(DType::int32, shape({1}), std::vector<int32_t>{0});
  Ref<Tensor> ids = tensor(DType::int32, shape({1}), std::vector<int32_t>{0});
  Ref<Tensor> table = tensor(DType::float32, shape({4, 8}), std::vector<float>(32, 5));
  Ref<Tensor> looked = Tensor::empty(*gpu, DType::float32, shape({1, 8}));
  auto step = [&](int32_t at, bool write_inside) {
    write(stream, position, std::vector<int32_t>{at});
    cache.kv->reserve(0, 1);
    KvView view;
    view.add(*cache.kv, 0);
    stream.graph_begin();
    run(stream, "kv_append", {arg(view), arg(row), arg(row), arg(position), arg(std::vector<int32_t>{1})});
    if (write_inside) write(stream, ids, std::vector<int32_t>{0});
    run(stream, "embedding", {arg(looked), arg(ids), arg(table)});
    run(stream, "add", {arg(row), arg(row), arg(one)});
    stream.graph_end();
  };
  for (int32_t at = 0; at < 1500; at++) step(at, false);  // from 1025 rows on it is another graph
  CHECK(wait(stream).code.empty());
  GraphCounts counts = stream.graphs();
  std::printf("  (graphs: %lld captured, %lld replayed, %lld eager, %s)\n", static_cast<long long>(counts.captured),
              static_cast<long long>(counts.replayed), static_cast<long long>(counts.eager), counts.reason.c_str());
  CHECK(counts.captured == 2 && counts.eager == 2 && counts.replayed == 1498);
  CHECK(stream.kernels()["graph"] == 1498);
  CHECK(cache.holds(*cache.kv, range(0, 1500)));
  CHECK(read<float>(stream, *row)[5] == 1500);
  step(1500, true);
  CHECK(wait(stream).code.empty());
  CHECK(stream.graphs().eager == 3 && !stream.graphs().reason.empty());
  CHECK(cache.holds(*cache.kv, range(0, 1501)));

  write(stream, ids, std::vector<int32_t>{77});
  step(1501, false);
  step(1502, false);
  Outcome bad = wait(stream);
  CHECK(!bad.code.empty() && bad.message.starts_with("embedding: ids[0] is 77"));
  write(stream, ids, std::vector<int32_t>{1});
  step(1503, false);
  CHECK(wait(stream).code.empty());
  CHECK(stream.graphs().replayed == 1501);
  CHECK(cache.kv->rows(0, 1) == 1504);
}

void data_errors() {
  Ref<Stream> stream = Stream::create(*gpu);
  Ref<Tensor> table = tensor(DType::float32, shape({4, 8}), std::vector<float>(32, 5));
  Ref<Tensor> out = Tensor::empty(*gpu, DType::float32, shape({4, 8}));
  Ref<Tensor> good = tensor(DType::int32, shape({4}), std::vector<int32_t>{0, 1, 2, 3});
  Ref<Tensor> bad = tensor(DType::int32, shape({4}), std::vector<int32_t>{0, 1, 2, -9});
  run(*stream, "embedding", {arg(out), arg(bad), arg(table)});
  Outcome first = wait(*stream);
  CHECK(first.message.starts_with("embedding: ids[3] is -9"));
  CHECK(wait(*stream).code.empty());
  run(*stream, "embedding", {arg(out), arg(good), arg(table)});
  CHECK(wait(*stream).code.empty());
  CHECK(read<float>(*stream, *out) == std::vector<float>(32, 5));
  stream->close();
}

}  // namespace

int main(int argc, char** argv) {
  set_backend_folder(argc > 1 ? argv[1] : ".");
  try {
    gpu = &backend_at(find_backend("cuda"));
    gpu->check();
  } catch (const Failure& failure) {
    std::printf("skipped: %s\n", failure.what());
    return 77;
  }
  const std::pair<const char*, void (*)()> tests[] = {{"copies", copies},           {"memory", memory},
                                                      {"page lists", page_lists},   {"chunks", chunks},
                                                      {"graphs", graphs},           {"data errors", data_errors}};
  for (auto [name, test] : tests) {
    std::printf("%s\n", name);
    std::fflush(stdout);
    try {
      test();
    } catch (const Failure& failure) {
      check(false, failure.what(), 0);
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
