// rope_table, rope, rope_append, kv_append, kv_gather, kv_remove, kv_read, kv_export, kv_import against their twins.
#include "ops_cases.h"

namespace test {

void test_rope() {
  Random rng(3);
  for (const Type t : activations) {
    for (const int interleaved : {0, 1}) {
      for (const int d : {8, 24, 64, 128}) {
        const int64_t tokens = 7, heads = 3, half = d == 24 ? 6 : d / 2;
        Tensor positions(Type::i32, {tokens}), inv(Type::f64, {half}), table(Type::f32, {tokens, half, 2});
        for (int i = 0; i < tokens; ++i) positions.set(i, i == 0 ? -5 : (double)pick(rng, 0, 200000));
        for (int i = 0; i < half; ++i) inv.set(i, pow(10000, -2.0 * i / (2 * (double)half)));
        ok(Call("rope_table").tensor(table).tensor(positions).tensor(inv).real(1.25).run(), "rope_table");
        std::vector<double> want((size_t)table.size());
        for (int i = 0; i < tokens; ++i) {
          for (int p = 0; p < half; ++p) {
            want[(i * half + p) * 2] = cos(positions.get(i) * inv.get(p)) * 1.25;
            want[(i * half + p) * 2 + 1] = sin(positions.get(i) * inv.get(p)) * 1.25;
          }
        }
        expect(excess(table, want, 0) <= 0.51, "rope_table: %g", excess(table, want, 0));
        Tensor x = random_tensor(rng, t, {tokens, heads, d}, 3), before = x;
        ok(Call("rope").tensor(x).tensor(table).integer(interleaved).run(), "rope");
        want.assign((size_t)x.size(), 0);
        for (int64_t i = 0; i < tokens; ++i) {
          for (int64_t h = 0; h < heads; ++h) {
            const int64_t at = (i * heads + h) * d;
            for (int c = 0; c < d; ++c) want[at + c] = before.get(at + c);
            for (int p = 0; p < half; ++p) {
              const int64_t a = at + (interleaved ? 2 * p : p), b = at + (interleaved ? 2 * p + 1 : p + half);
              const double cosine = table.get((i * half + p) * 2), sine = table.get((i * half + p) * 2 + 1);
              want[a] = before.get(a) * cosine - before.get(b) * sine;
              want[b] = before.get(b) * cosine + before.get(a) * sine;
            }
          }
        }
        expect(excess(x, want, 5e-7) < 1.01, "rope %s d=%d interleaved=%d: %g", type_name(t), d, interleaved, excess(x, want, 5e-7));
      }
    }
  }
}

namespace {

// rope of the queries and of the keys, then kv_append: rope_append must leave the same.
void check_rope_append(Random& rng, Type t, int d, int half, int interleaved, std::vector<int32_t> lens, bool queries) {
  const int heads = (int)pick(rng, 1, 3), group = (int)pick(rng, 1, 4), tallies = (int)pick(rng, 0, 2);
  Cache cache(t, heads, d, (int)pick(rng, 1, 16), tallies);
  int64_t total = 0;
  for (const int len : lens) {
    std::vector<int> rows, at, gap;
    for (int h = 0; h < heads; ++h) {
      rows.push_back(len + (int)pick(rng, 0, 50));
      at.push_back((int)pick(rng, 0, rows.back()));
      gap.push_back((int)pick(rng, 0, 30));
    }
    cache.add(rows, at, gap);
    total += len;
  }
  cache.build(rng);
  cache.fill(rng, 1);
  Tensor q = random_tensor(rng, t, {total, heads * group, d}, 3), k = random_tensor(rng, t, {total, heads, d}, 3),
         v = random_tensor(rng, t, {total, heads, d}), p(Type::i32, {total}), table(Type::f32, {total, half, 2});
  for (int64_t i = 0; i < total; ++i) p.set(i, (double)(1000 + i));
  for (int64_t i = 0; i < total * half; ++i) {
    const double angle = uniform(rng, -4, 4);
    table.put(2 * i, cos(angle));
    table.put(2 * i + 1, sin(angle));
  }
  Tensor q_apart = q, k_apart = k, q_before = q;
  ok(Call("rope").tensor(q_apart).tensor(table).integer(interleaved).run(), "rope of q");
  ok(Call("rope").tensor(k_apart).tensor(table).integer(interleaved).run(), "rope of k");
  ok(Call("kv_append").kv(cache).tensor(k_apart).tensor(v).tensor(p).ints(lens).run(), "kv_append");
  const std::vector<uint8_t> want = cache.memory;
  // Other contents, so that the rows must be written again.
  Tensor other = random_tensor(rng, t, {total, heads, d}), zero(Type::i32, {total});
  for (int64_t i = 0; i < total; ++i) zero.set(i, -7);
  ok(Call("kv_append").kv(cache).tensor(other).tensor(other).tensor(zero).ints(lens).run(), "kv_append");
  for (int head = 0; tallies > 0 && head < (int)cache.heads.size(); ++head) {
    for (int i = 1; i <= lens[head / heads]; ++i) cache.tally(head, cache.heads[head].rows - i, tallies - 1) = 9;
  }
  expect(total == 0 || cache.memory != want, "the rows were not overwritten");
  Call call("rope_append");
  if (queries) call.tensor(q); else call.none();
  ok(call.tensor(k).tensor(v).kv(cache).tensor(table).tensor(p).ints(lens).integer(interleaved).run(), "rope_append");
  expect(q.bytes == (queries ? q_apart : q_before).bytes, "rope_append %s d=%d r=%d interleaved=%d: queries", type_name(t), d, 2 * half, interleaved);
  expect(cache.memory == want, "rope_append %s d=%d r=%d interleaved=%d B=%zu: cache", type_name(t), d, 2 * half, interleaved, lens.size());
}

}  // namespace

void test_rope_append() {
  Random rng(11);
  for (const Type t : activations) {
    for (const int interleaved : {0, 1}) {
      for (const int d : {8, 24, 64, 128, 256}) {
        if (setup.small && d != 24 && d != 128) continue;
        for (const int half : {d / 2, d == 24 ? 6 : d / 4, 1}) {
          check_rope_append(rng, t, d, half, interleaved, {1, 1, 1}, true);
          check_rope_append(rng, t, d, half, interleaved, {(int)pick(rng, 0, 30), 0, 0, 5, 1, 0}, true);
          check_rope_append(rng, t, d, half, interleaved, {(int)pick(rng, 1, 30)}, false);
        }
      }
    }
  }
  check_rope_append(rng, Type::bf16, 128, 0, 0, {4, 3}, true);     // a table of no channels: kv_append alone
}

void test_kv() {
  Random rng(4);
  for (const Type t : activations) {
    for (int round = 0; round < (setup.small ? 2 : 6); ++round) {
      const int heads = (int)pick(rng, 1, 3), d = 8 * (int)pick(rng, 1, 9), page = (int)pick(rng, 1, 16);
      const int tallies = round % 4;
      Cache cache(t, heads, d, page, tallies);
      std::vector<int32_t> lens = {(int)pick(rng, 0, 40), 3, 0};
      std::vector<std::vector<int>> rows;
      for (const int len : lens) {
        std::vector<int> r, at, gap;
        for (int h = 0; h < heads; ++h) {
          r.push_back(len + (int)pick(rng, 0, 50));
          at.push_back((int)pick(rng, 0, r.back()));
          gap.push_back((int)pick(rng, 0, 30));
        }
        cache.add(r, at, gap);
        rows.push_back(r);
      }
      cache.build(rng);
      cache.fill(rng, 1);
      int64_t total = 0;
      for (const int len : lens) total += len;
      Tensor k = random_tensor(rng, t, {total, heads, d}), v = random_tensor(rng, t, {total, heads, d}), p(Type::i32, {total});
      for (int64_t i = 0; i < total; ++i) p.set(i, (double)(1000 + i));
      ok(Call("kv_append").kv(cache).tensor(k).tensor(v).tensor(p).ints(lens).run(), "kv_append");
      bool same = true;
      int64_t token = 0;
      for (size_t b = 0; b < lens.size(); ++b) {
        for (int i = 0; i < lens[b]; ++i, ++token) {
          for (int h = 0; h < heads; ++h) {
            const int head = (int)b * heads + h;
            const int64_t r = rows[b][h] - lens[b] + i;
            for (int c = 0; c < d; ++c) {
              same &= cache.get(0, head, r, c) == k.get((token * heads + h) * d + c);
              same &= cache.get(1, head, r, c) == v.get((token * heads + h) * d + c);
            }
            same &= cache.position(head, r) == 1000 + token;
            for (int c = 0; c < tallies; ++c) same &= cache.tally(head, r, c) == 0;
          }
        }
      }
      expect(same, "kv_append %s", type_name(t));

      // One sequence with a gap, gathered into one without, then read.
      Cache src(t, heads, d, page, tallies), dst(t, heads, d, (int)pick(rng, 1, 9), tallies);
      std::vector<int> n, at, gap, kept;
      std::vector<std::vector<int>> choice((size_t)heads);
      for (int h = 0; h < heads; ++h) {
        n.push_back((int)pick(rng, 1, 90));
        at.push_back((int)pick(rng, 0, n.back()));
        gap.push_back((int)pick(rng, 0, 40));
        for (int r = 0; r < n.back(); ++r) {
          if (pick(rng, 0, 2) == 0) choice[h].push_back(r);
        }
        kept.push_back((int)choice[h].size());
      }
      src.add(n, at, gap);
      src.build(rng);
      src.fill(rng, 1);
      dst.add(kept, repeat(heads, 0), repeat(heads, 0));
      dst.build(rng);
      const int most = *std::max_element(kept.begin(), kept.end());
      Tensor list(Type::i32, {heads, most + 1});
      for (int h = 0; h < heads; ++h) {
        for (int j = 0; j <= most; ++j) list.set(h * (most + 1) + j, j < kept[h] ? choice[h][j] : -1);
      }
      ok(Call("kv_gather").kv(dst).kv(src).tensor(list).ints(kept).run(), "kv_gather");
      const int width = most + 2;
      Tensor rk(t, {heads, width, d}), rv(t, {heads, width, d}), rp(Type::i32, {heads, width});
      ok(Call("kv_read").tensor(rk).tensor(rv).tensor(rp).kv(dst).run(), "kv_read");
      same = true;
      for (int h = 0; h < heads; ++h) {
        for (int j = 0; j < width; ++j) {
          const bool there = j < kept[h];
          same &= rp.get(h * width + j) == (there ? 3 * choice[h][j] + h : -1);
          for (int c = 0; there && c < tallies; ++c) same &= dst.tally(h, j, c) == src.tally(h, choice[h][j], c);
          for (int c = 0; c < d; ++c) {
            same &= rk.get((h * width + j) * d + c) == (there ? src.get(0, h, choice[h][j], c) : 0);
            same &= rv.get((h * width + j) * d + c) == (there ? src.get(1, h, choice[h][j], c) : 0);
          }
        }
      }
      expect(same, "kv_gather and kv_read %s", type_name(t));
      ok(Call("kv_read").none().none().tensor(rp).kv(dst).run(), "kv_read of positions");
      if (kept[0] > 0) {
        list.set(0, n[0]);
        expect(Call("kv_gather").kv(dst).kv(src).tensor(list).ints(kept).run().rfind("ERR_ACCEL_ARGUMENT", 0) == 0, "kv_gather range");
      }
    }
  }
}

void test_kv_remove() {
  Random rng(12);
  for (int round = 0; round < (setup.small ? 8 : 90); ++round) {
    const Type t = activations[round % 3];
    const int heads = (int)pick(rng, 1, 4), d = 8 * (int)pick(rng, 1, 16), page = (int)pick(rng, 1, 20);
    Cache cache(t, heads, d, page, (int)pick(rng, 0, 3));
    const int keep = (int)pick(rng, 0, 40);
    std::vector<int> n, at, gap;
    Tensor rows(Type::i32, {heads});
    for (int h = 0; h < heads; ++h) {
      n.push_back(keep + (int)pick(rng, 1, round % 5 ? 90 : 600));
      const bool open = pick(rng, 0, 1) == 1;  // where kv_remove and drop have left it
      at.push_back(open ? n[h] - 1 - keep : (int)pick(rng, 0, n[h]));
      gap.push_back((int)pick(rng, 0, 3) * page + (int)pick(rng, 0, 20));
      rows.set(h, (double)(pick(rng, 0, 3) ? pick(rng, 0, n[h] - 1 - keep) : n[h] - 1 - keep));
    }
    cache.add(n, at, gap);
    cache.build(rng);
    cache.fill(rng, 1);
    Cache want(cache);
    want.kv.base = want.memory.data();
    for (int h = 0; h < heads; ++h) {
      for (int which = 0; which < 3; ++which) {
        for (int64_t r = (int64_t)rows.get(h); r < n[h] - 1 - keep; ++r) {
          memcpy(want.address(which, h, r), cache.address(which, h, r + 1), (size_t)(which == 2 ? cache.record_bytes() : cache.row_bytes()));
        }
      }
    }
    ok(Call("kv_remove").kv(cache).tensor(rows).integer(keep).run(), "kv_remove");
    for (int h = 0; h < heads; ++h) {  // what is in the stale row does not matter
      for (int which = 0; which < 3; ++which) {
        memcpy(want.address(which, h, n[h] - 1 - keep), cache.address(which, h, n[h] - 1 - keep), (size_t)(which == 2 ? cache.record_bytes() : cache.row_bytes()));
      }
    }
    expect(cache.memory == want.memory, "kv_remove %s n=%d keep=%d d=%d page=%d", type_name(t), n[0], keep, d, page);
    rows.set(heads - 1, round % 2 ? n.back() - keep : -1);
    expect(Call("kv_remove").kv(cache).tensor(rows).integer(keep).run().rfind("ERR_ACCEL_ARGUMENT: kv_remove", 0) == 0, "kv_remove range");
  }
}

// The rows of a cache as one block: of each head keys, values, records.
std::vector<uint8_t> block_of(Cache& cache) {
  std::vector<uint8_t> block;
  for (int h = 0; h < cache.kv.heads; ++h) {
    for (int which = 0; which < 3; ++which) {
      const int64_t size = which == 2 ? cache.record_bytes() : cache.row_bytes();
      for (int64_t r = 0; r < cache.heads[h].rows; ++r) {
        const uint8_t* row = cache.address(which, h, r);
        block.insert(block.end(), row, row + size);
      }
    }
  }
  return block;
}

void test_kv_transfer() {
  Random rng(13);
  for (int round = 0; round < (setup.small ? 8 : 60); ++round) {
    const Type t = activations[round % 3];
    const int heads = (int)pick(rng, 1, 5), d = 8 * (int)pick(rng, 1, 16), page = (int)pick(rng, 1, 20);
    Cache cache(t, heads, d, page, (int)pick(rng, 0, 3));
    std::vector<int> n, at, gap;
    for (int h = 0; h < heads; ++h) {
      n.push_back((int)pick(rng, 0, round % 5 ? 70 : 400));
      at.push_back((int)pick(rng, 0, n[h]));
      gap.push_back((int)pick(rng, 0, 30));
    }
    cache.add(n, at, gap);
    cache.build(rng);
    cache.fill(rng, 1);
    const std::vector<uint8_t> want = block_of(cache);
    const int64_t words = (int64_t)want.size() / 4, first = words > 0 ? pick(rng, 0, (int)words - 1) : 0;
    const int64_t count = words > 0 ? pick(rng, 1, (int)(words - first)) : 0;
    Tensor bytes(Type::u8, {4 * count});
    ok(Call("kv_export").tensor(bytes).kv(cache).integer(4 * first).run(), "kv_export");
    expect(count == 0 || memcmp(bytes.bytes.data(), want.data() + 4 * first, (size_t)(4 * count)) == 0,
           "kv_export %s of %lld words from %lld on", type_name(t), (long long)count, (long long)first);
    std::vector<uint8_t> changed = want;
    for (int64_t i = 0; i < 4 * count; ++i) changed[4 * first + i] = bytes.bytes[i] = (uint8_t)rng();
    ok(Call("kv_import").kv(cache).tensor(bytes).integer(4 * first).run(), "kv_import");
    expect(block_of(cache) == changed, "kv_import %s of %lld words from %lld on", type_name(t), (long long)count,
           (long long)first);
    expect(Call("kv_import").kv(cache).tensor(bytes).integer(4 * (words - count) + 4).run().rfind("ERR_ACCEL_ARGUMENT", 0) == 0,
           "kv_import range");
  }
}

}  // namespace test
