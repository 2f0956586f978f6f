// Streams, threads and KV bookkeeping without Node, meant to be run under the thread and address sanitizers as well.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "common/backend_registry.h"
#include "common/enqueue.h"
#include "common/kv_sequence.h"
#include "common/stream.h"
#include "common/tensor.h"
#include "common/thread_pool.h"
#include "cpu/backend_blocks.h"
#include "cuda/runtime/graph_plan.h"

using namespace accel;

namespace {

int failures = 0;

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::printf("FAILED %s:%d: %s\n", __FILE__, __LINE__, #condition);       \
      failures++;                                                              \
    }                                                                          \
  } while (false)

// Returns when everything enqueued so far has run; gives the stream's error code, or "".
std::string wait(Stream& stream) {
  std::atomic<bool> done{false};
  std::string code;
  stream.push_signal(nullptr, [&](const Failure* error) {
    if (error) code = error->code();
    done.store(true);
    done.notify_one();
  });
  done.wait(false);
  return code;
}

void pool_covers_every_index_once() {
  // Several threads want the pool at the same time; now and then helpers have gone to sleep in between.
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int caller = 0; caller < 3; caller++) {
    callers.emplace_back([&, caller] {
      std::mt19937 random(caller);
      for (int round = 0; round < 3000; round++) {
        std::vector<int> visits(random() % 300, 0);
        auto count = [](void* user, int64_t begin, int64_t end, int32_t worker) {
          auto& to = *static_cast<std::vector<int>*>(user);
          for (int64_t i = begin; i < end; i++) to[i] += 1 + (worker >= ThreadPool::instance().threads());
        };
        ThreadPool::instance().run(static_cast<int64_t>(visits.size()), 1 + random() % 40, count, &visits);
        for (int seen : visits) wrong += seen != 1;
        if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
}

void streams_run_in_order_and_forget_errors() {
  for (int round = 0; round < 20; round++) {
    Ref<Stream> stream = Stream::create(*cpu_backend());
    auto log = std::make_shared<std::vector<int>>();
    for (int i = 0; i < 2000; i++) {
      stream->push_task([log, i](StreamBackend&) { log->push_back(i); });
      if (i % 700 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    CHECK(wait(*stream).empty());
    CHECK(log->size() == 2000 && log->front() == 0 && log->back() == 1999);
    stream->push_task([](StreamBackend&) { fail("ERR_ACCEL_NAN", "first"); });
    stream->push_task([](StreamBackend&) { fail("ERR_ACCEL_SHAPE", "second"); });
    stream->push_task([log](StreamBackend&) { log->clear(); });
    CHECK(wait(*stream) == "ERR_ACCEL_NAN");
    CHECK(wait(*stream).empty());
    CHECK(log->size() == 2000);
    if (round % 2) {
      stream->push_task([log](StreamBackend&) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); });
      stream->cancel();
    } else {
      stream->close();
    }
  }
}

void tensors_move_between_streams_and_threads() {
  Ref<Stream> stream = Stream::create(*cpu_backend());
  const OpEntry& add = builtin_op("add");
  Shape shape;
  shape.ndim = 1;
  shape.dims[0] = 100;
  for (int round = 0; round < 2000; round++) {
    Ref<Tensor> a = Tensor::empty(*cpu_backend(), DType::float32, shape);
    Ref<Tensor> sum = Tensor::empty(*cpu_backend(), DType::float32, shape);
    auto* values = reinterpret_cast<float*>(a->data());
    for (int i = 0; i < 100; i++) values[i] = static_cast<float>(round);
    HostArg args[3];
    for (HostArg& arg : args) arg.kind = ACCEL_ARG_TENSOR;
    args[0].tensor = sum.get();
    args[1].tensor = args[2].tensor = a.get();
    enqueue_op(*stream, add, args, 3);
    stream->push_task([sum, round](StreamBackend&) {
      if (reinterpret_cast<float*>(sum->data())[99] != 2.0f * round) fail("ERR_ACCEL_INTERNAL", "wrong sum");
    });
  }
  CHECK(wait(*stream).empty());
  stream->close();
}

void block_cache_gives_blocks_once() {
  cpu::BlockCache cache;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; t++) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      std::vector<std::pair<uint8_t*, size_t>> held;
      for (int round = 0; round < 4000; round++) {
        size_t bytes = static_cast<size_t>(1) << random() % 23;
        bytes += random() % bytes;
        auto* block = static_cast<uint8_t*>(cache.take(bytes));
        wrong += reinterpret_cast<uintptr_t>(block) % 64 != 0;
        block[0] = block[bytes - 1] = static_cast<uint8_t>(t);
        held.emplace_back(block, bytes);
        if (held.size() > 20) {
          auto [old, size] = held[random() % held.size()];
          wrong += old[0] != t || old[size - 1] != t;
          std::swap(held.back(), *std::find(held.begin(), held.end(), std::pair(old, size)));
          held.pop_back();
          cache.give(old, size);
        }
        if (round % 1000 == 0) cache.flush();
      }
      for (auto [block, bytes] : held) cache.give(block, bytes);
    });
  }
  for (std::thread& thread : threads) thread.join();
  cache.flush();
  CHECK(wrong == 0);
  CHECK(cache.idle_bytes() == 0);
}

// Enqueues reading the page lists as a kernel would, while the host goes on changing the sequence.
void read_later(KvSequence& sequence, int32_t layer, int32_t pages) {
  auto view = std::make_shared<KvView>();
  view->add(sequence, layer);
  for (const RefCounted* held : view->holds) held->retain();
  sequence.pool().stream().push_task([view, pages](StreamBackend&) {
    bool ok = true;
    const auto valid = [&](int32_t page) { return page >= 0 && page < pages; };
    const auto encoded = [&](const accel_kv_items& items, const int32_t* list, int32_t rows) {
      if (rows == 0) return;
      const int64_t bytes = items.header + static_cast<int64_t>((rows + items.rows - 1) / items.rows) * items.bytes;
      for (int64_t page = 0; page * view->kv.page_bytes < bytes; page++) ok &= valid(list[page]);
    };
    for (const accel_kv_head& head : view->heads) {
      for (int32_t row = 0; row < head.rows; row++) {
        int32_t slot = row < head.gap_at ? row : row + head.gap;
        int32_t key = row < head.plain_keys ? -1 : head.key_pages[slot / view->kv.rows_per_page];
        ok &= row < head.plain_keys || valid(key);
        ok &= row < head.plain_values || valid(head.value_pages[slot / view->kv.rows_per_page]);
        if (view->kv.record_bytes == 0) continue;
        int32_t position = head.record_pages[slot / view->kv.records_per_page];
        ok &= valid(position) && key != position;
      }
      encoded(view->kv.encoded_key, head.encoded_key_pages, head.encoded_keys);
      encoded(view->kv.encoded_value, head.encoded_value_pages, head.encoded_values);
    }
    for (const RefCounted* held : view->holds) held->release();
    if (!ok) fail("ERR_ACCEL_INTERNAL", "a page list changed under a reader");
  });
}

void endless_sliding_needs_bounded_tables() {
  Ref<Stream> stream = Stream::create(*cpu_backend());
  Ref<PagePool> pool = PagePool::create(stream, 2048, 2048 * 1000);
  Ref<KvSequence> sequence = KvSequence::create(pool, {1, 2, 64, DType::bfloat16});
  sequence->reserve(0, 1024);
  int32_t most = 0;
  for (int token = 0; token < 20000; token++) {
    sequence->reserve(0, 1);
    sequence->drop(0, 4, 1);
    if (token % 7 == 0) read_later(*sequence, 0, 1000);
    if (token % 1000 == 0) CHECK(wait(*stream).empty());
    most = std::max(most, sequence->table(0).capacity()[KvList::keys]);
  }
  CHECK(wait(*stream).empty());
  CHECK(sequence->rows(0, 1) == 1024);
  // 1024 rows and a gap of less than two units of 512 slots, in pages of 16 rows; capacities double.
  CHECK(most <= 256);
  sequence->dispose();
  CHECK(pool->used_bytes() == 0);
  stream->close();
}

void forks_and_readers() {
  Ref<Stream> stream = Stream::create(*cpu_backend());
  Ref<PagePool> pool = PagePool::create(stream, 128, 128 * 20000);
  std::mt19937 random(1);
  std::vector<Ref<KvSequence>> sequences{KvSequence::create(pool, {2, 2, 8, DType::float32, 2})};
  for (int step = 0; step < 20000; step++) {
    Ref<KvSequence> sequence = sequences[random() % sequences.size()];
    auto layer = static_cast<int32_t>(random() % 2);
    int32_t rows = sequence->rows(layer, 0);
    switch (random() % 9) {
      case 0: sequence->truncate(layer, rows ? static_cast<int32_t>(random() % rows) : 0); break;
      case 1:
        if (sequences.size() < 6) sequences.push_back(sequence->fork());
        break;
      case 2:
        if (sequences.size() > 1) {
          std::swap(sequences[random() % sequences.size()], sequences.back());
          sequences.back()->dispose();
          sequences.pop_back();
        }
        continue;
      case 3:
        sequence->own(layer);
        break;
      case 4:
        if (rows > 3) sequence->drop(layer, rows / 2, rows - rows / 2);
        break;
      default: sequence->reserve(layer, static_cast<int32_t>(random() % 30)); break;
    }
    read_later(*sequence, layer, 20000);
    if (step % 500 == 0) {
      CHECK(wait(*stream).empty());
      if (rows > 500) sequence->truncate(layer, 10);
    }
  }
  CHECK(wait(*stream).empty());
  for (Ref<KvSequence>& sequence : sequences) sequence->dispose();
  CHECK(pool->used_bytes() == 0);
  stream->close();
}

// 4 plain rows a page; 3 keys or 2 values an item, and a header that fills half a page.
const KvShape kEncoding{2, 2, 8, DType::float32, 0, false, {3, 112, 64}, {2, 80, 0}};

// The code of the error that `run` throws, or "".
template <class F>
std::string refusal(const F& run) {
  try {
    run();
  } catch (const Failure& failure) {
    return failure.code();
  }
  return "";
}

int32_t most(KvEncodeDue due) { return std::max(due.keys, due.values); }

void encoded_rows_take_other_pages() {
  Ref<Stream> stream = Stream::create(*cpu_backend());
  Ref<PagePool> pool = PagePool::create(stream, 128, 128 * 100);
  Ref<KvSequence> sequence = KvSequence::create(pool, kEncoding);
  sequence->reserve(0, 10);
  CHECK(sequence->bytes().pages == 2 * (3 + 3));
  CHECK(most(sequence->encode_begin(0, {6, 1}, {1, 5})) == 6);
  // Both forms: 64 + 2 * 112 bytes of keys, 3 * 80 of values.
  CHECK(sequence->bytes().pages == 2 * (3 + 3 + 3 + 2));
  std::vector<accel_kv_head> heads(2);
  sequence->describe(0, heads.data());
  CHECK(heads[1].plain_keys == 0 && heads[1].encoded_keys == 6 && heads[1].encoded_values == 5);
  sequence->encode_end(0, false);
  CHECK(sequence->encoded(0, 1) == std::pair(0, 0));
  CHECK(sequence->bytes().pages == 2 * (3 + 3 + 1));  // the header stays
  CHECK(most(sequence->encode_begin(0, {6, 1}, {1, 5})) == 6);
  sequence->encode_end(0, true);
  CHECK(sequence->encoded(0, 1) == std::pair(6, 5));
  CHECK(sequence->bytes().pages == 2 * (2 + 2 + 3 + 2));
  CHECK(sequence->bytes().arithmetic == 2 * (4 * 32 + 5 * 32 + 64 + 2 * 112 + 5 * 80 / 2));

  CHECK(refusal([&] { sequence->truncate(0, 5); }) == "ERR_ACCEL_ARGUMENT");
  CHECK(refusal([&] { sequence->drop(0, 7, 1); }) == "ERR_ACCEL_ARGUMENT");
  const int32_t all[] = {10, 10};
  CHECK(refusal([&] { sequence->compact(0, all, nullptr); }) == "ERR_ACCEL_ARGUMENT");
  CHECK(!sequence->can_drop(0, 5, 5) && sequence->can_drop(0, 6, 4));

  // The last item of values is half full: a fork that goes on has to copy it, here the second page of two.
  Ref<KvSequence> child = sequence->fork();
  const size_t shared = pool->used_bytes();
  CHECK(most(child->encode_begin(0, {6, 1}, {1, 5})) == 0);
  child->encode_end(0, true);
  CHECK(pool->used_bytes() == shared);
  CHECK(most(child->encode_begin(0, {}, {1, 4})) == 1);
  CHECK(pool->used_bytes() == shared + 2 * 128);
  child->encode_end(0, true);
  CHECK(sequence->encoded(0, 0).second == 5 && child->encoded(0, 0).second == 6);

  const size_t held = pool->used_bytes();
  child->reserve(1, 60);
  CHECK(refusal([&] { child->encode_begin(1, {3, 0}, {2, 0}); }) == "ERR_ACCEL_OUT_OF_MEMORY");
  CHECK(child->encoded(1, 0) == std::pair(0, 0));
  child->truncate(1, 0);
  CHECK(pool->used_bytes() == held);
  child->dispose();
  sequence->dispose();
  CHECK(pool->used_bytes() == 0);
  stream->close();
}

void encoding_forks_and_readers() {
  Ref<Stream> stream = Stream::create(*cpu_backend());
  Ref<PagePool> pool = PagePool::create(stream, 128, 128 * 20000);
  std::mt19937 random(2);
  std::vector<Ref<KvSequence>> sequences{KvSequence::create(pool, kEncoding)};
  for (int step = 0; step < 20000; step++) {
    const size_t who = random() % sequences.size();
    Ref<KvSequence> sequence = sequences[who];
    auto layer = static_cast<int32_t>(random() % 2);
    auto [keys, values] = sequence->encoded(layer, 0);
    const int32_t plain = sequence->rows(layer, 0) - std::max(keys, values);
    switch (random() % 9) {
      case 0: sequence->truncate(layer, sequence->rows(layer, 0) - static_cast<int32_t>(random() % (plain + 1))); break;
      case 1:
        if (sequences.size() < 6) sequences.push_back(sequence->fork());
        break;
      case 2:
        if (sequences.size() > 1) {
          std::swap(sequences[random() % sequences.size()], sequences.back());
          sequences.back()->dispose();
          sequences.pop_back();
        }
        continue;
      case 3: sequence->own(layer); break;
      case 4:
      case 5:
      case 6: {
        KvEncodeRule rule{static_cast<int32_t>(1 + random() % 9), static_cast<int32_t>(random() % 12)};
        sequence->encode_begin(layer, rule, {1, rule.keep});
        read_later(*sequence, layer, 20000);
        sequence->encode_end(layer, random() % 8 != 0);
        break;
      }
      default: sequence->reserve(layer, static_cast<int32_t>(random() % 30)); break;
    }
    read_later(*sequence, layer, 20000);
    if (step % 500 != 0) continue;
    CHECK(wait(*stream).empty());
    // What is encoded does not leave, so a sequence that has grown long makes way for a new one.
    if (sequence->rows(layer, 0) < 500) continue;
    sequence->dispose();
    sequences[who] = KvSequence::create(pool, kEncoding);
  }
  CHECK(wait(*stream).empty());
  for (Ref<KvSequence>& sequence : sequences) sequence->dispose();
  CHECK(pool->used_bytes() == 0);
  stream->close();
}

// The key of a step with these caches as arguments, one op each.
std::vector<uint64_t> plan_key(std::vector<KvView>& views, size_t slots) {
  static const accel_op op{};
  std::vector<Command> commands(views.size());
  std::vector<Command*> step;
  for (size_t i = 0; i < views.size(); i++) {
    views[i].kv.head = views[i].kv.device_head = views[i].heads.data();
    commands[i].op = &op;
    commands[i].nargs = 1;
    commands[i].args[0].kind = ACCEL_ARG_KV;
    commands[i].args[0].kv = &views[i].kv;
    step.push_back(&commands[i]);
  }
  cuda::GraphPlan plan;
  plan.make(step.data(), step.size());
  CHECK(plan.slots.size() == slots);
  return plan.key;
}

void graphs_are_replayed_while_rows_are_encoded() {
  Ref<Stream> stream = Stream::create(*cpu_backend());
  Ref<PagePool> pool = PagePool::create(stream, 128, 128 * 2000);
  const auto step = [](KvSequence& sequence, size_t slots) {
    std::vector<KvView> views(3);
    sequence.reserve(0, 1);
    views[0].add(sequence, 0);  // append
    views[1].add(sequence, 0);  // attention
    sequence.encode_begin(0, {6, 1}, {1, 5});
    views[2].add(sequence, 0);  // encode: other rows have both forms, so these are other heads
    sequence.encode_end(0, true);
    return plan_key(views, slots);
  };
  Ref<KvSequence> sequence = KvSequence::create(pool, kEncoding);
  sequence->reserve(0, 5);
  const std::vector<uint64_t> first = step(*sequence, 2);
  for (int i = 0; i < 30; i++) CHECK(step(*sequence, 2) == first);
  KvShape other = kEncoding;
  other.encoded_key.header = 80;
  Ref<KvSequence> wider = KvSequence::create(pool, other);
  wider->reserve(0, 5);
  CHECK(step(*wider, 2) != first);
  // Nothing to encode yet: the op sees the heads that attention saw, once the header has its page.
  Ref<KvSequence> young = KvSequence::create(pool, kEncoding);
  step(*young, 2);
  CHECK(step(*young, 1) != first);
  for (Ref<KvSequence> each : {sequence, wider, young}) each->dispose();
  stream->close();
}

}  // namespace

int main() {
  pool_covers_every_index_once();
  streams_run_in_order_and_forget_errors();
  tensors_move_between_streams_and_threads();
  block_cache_gives_blocks_once();
  endless_sliding_needs_bounded_tables();
  forks_and_readers();
  encoded_rows_take_other_pages();
  encoding_forks_and_readers();
  graphs_are_replayed_while_rows_are_encoded();
  std::printf(failures ? "%d checks failed\n" : "all runtime checks passed\n", failures);
  return failures != 0;
}
