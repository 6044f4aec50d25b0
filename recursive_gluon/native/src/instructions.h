// Instructions: where their operands lie, how they are cut into tiles, how a tile runs.
#pragma once

#include <algorithm>

#include "blas.h"
#include "typed.h"

namespace rg {

constexpr double kTileWork = 2e5;        // element-wise operations of a tile: some 30 us
constexpr double kLongSteps = 1.5e6;     // arithmetic of a batch, on average, from which helpers pay
constexpr double kAlone = 1.5e6;         // a run with less arithmetic than this is not worth waking helpers
constexpr double kShared = 8e6;          // the same where helpers have shards of their own
constexpr int64_t kTransposeFrom = 128;  // so many rows pay for a transposed copy of their matrix

// How a matrix product is cut: by its shape alone. `beside`: other shards keep the other workers busy, so that only a
// large one is cut; else a matrix of some size is shared, for each worker's cache to hold a part of it.
struct Cut {
  int64_t rows, cols, down, across;  // of a tile; how many tiles
};
inline Cut cut_product(int64_t m, int64_t n, int64_t k, bool beside) {
  Cut c;
  double matrix = static_cast<double>(n) * static_cast<double>(k), work = matrix * static_cast<double>(m);
  c.rows = m > 96 ? 64 : std::max<int64_t>(m, 1);
  double parts = beside ? work / 8e6 : std::max(matrix / 1e5, work / 2.4e6);
  int64_t across = std::clamp<int64_t>(static_cast<int64_t>(parts), 1, m > 96 ? 2 : 4);
  c.cols = (n + across - 1) / across;
  if (across > 1) c.cols = (c.cols + 15) / 16 * 16;
  c.down = (m + c.rows - 1) / c.rows;
  c.across = (n + c.cols - 1) / c.cols;
  return c;
}

template <class T>
Source<T> Typed<T>::source(const Batch& b, const Operand& o, int64_t row) const {
  int32_t s = b.segment;
  switch (o.place) {
    case Place::kTemp: return {temps_[s][b.shard][o.id].data() + row * o.stride + o.offset, o.stride, nullptr, nullptr};
    case Place::kSaved: return {saved(b, o, row), o.stride, nullptr, nullptr};
    case Place::kOut: return {out(b, o, row), o.stride, nullptr, nullptr};
    case Place::kShared: return {shared_[o.id] + o.offset, 0, nullptr, nullptr};
    case Place::kZero: return {zeros_.data(), 0, nullptr, nullptr};
    case Place::kOgrad: {
      int32_t port = p_.segments[s].out_ports[o.id];
      const Readers& readers = plan_.port_readers[port];
      return {given_ports_[port].data() + o.offset, o.stride, readers.given.data(),
              readers.start.data() + out_row(b, port) + row};
    }
    case Place::kSlot: return slot(b, o, b.start + row);
    default: throw Error(Kind::kInternal, "an operand that is not read");
  }
}

template <class T>
Source<T> Typed<T>::slot(const Batch& b, const Operand& o, int64_t row) const {
  const Slot& slot = p_.segments[b.segment].slots[o.id];
  const SlotRows& rows = rows_of(b.segment, o.id);
  switch (slot.kind) {
    case SlotKind::kField: return {fields_[slot.source] + o.offset, o.stride, rows.index.data() + row, nullptr};
    case SlotKind::kLookup: {
      const T* table = static_cast<const T*>(inputs_.tables[slot.table]) + o.offset;
      if (!rows_given_) return {table, o.stride, lookup_index_[b.segment][o.id].data() + row, nullptr};
      return {table + (lookup_base_[b.segment][o.id] + row) * o.stride, o.stride, nullptr, nullptr};
    }
    case SlotKind::kInteger: case SlotKind::kRandom:
      return {made_[b.segment][o.id].data() + row * o.stride + o.offset, o.stride, nullptr, nullptr};
    case SlotKind::kSum:
      return {ports_[slot.port].data() + o.offset, o.stride, rows.index.data(), rows.start.data() + row};
    default: return {ports_[slot.port].data() + o.offset, o.stride, rows.index.data() + row, nullptr};
  }
}

template <class T>
Target<T> Typed<T>::target(const Batch& b, const Operand& o, int64_t row) const {
  switch (o.place) {
    case Place::kTemp: return {temps_[b.segment][b.shard][o.id].data() + row * o.stride + o.offset, o.stride};
    case Place::kSaved: return {saved(b, o, row), o.stride};
    case Place::kOut: return {out(b, o, row), o.stride};
    case Place::kShared: return {const_cast<T*>(shared_[o.id]) + o.offset, o.stride};
    case Place::kIgrad: {
      const Slot& slot = p_.segments[b.segment].slots[o.id];
      int64_t base = b.start + row;
      if (slot.kind == SlotKind::kLookup) {
        T* grad = table_grads_[slot.table];
        return {grad + (lookup_base_[b.segment][o.id] + base) * o.stride + o.offset, o.stride};
      }
      const Buffer<T>& given = slot.kind == SlotKind::kField ? given_fields_[slot.source] : given_ports_[slot.port];
      return {given.data() + (plan_.given_base[b.segment][o.id] + base) * o.stride + o.offset, o.stride};
    }
    default: throw Error(Kind::kInternal, "an operand that is not written");
  }
}

template <class T>
int64_t Typed<T>::tile_rows(const Instr& i) const {
  double work = 0;
  switch (i.code) {
    case Code::kEw:  // a copy waits for memory
      work = static_cast<double>(i.ew.cols) * static_cast<double>(std::max<size_t>(i.ew.code.size() + i.in.size(), 6));
      break;
    case Code::kBdot: work = static_cast<double>(i.n[0]) * static_cast<double>(i.n[1]) * static_cast<double>(i.n[2]); break;
    default: work = 4.0 * static_cast<double>(std::max(i.in[0].cols, i.out[0].cols));
  }
  return std::max<int64_t>(1, static_cast<int64_t>(kTileWork / std::max(work, 1.0)));
}

template <class T>
int64_t Typed<T>::tiles(const Batch& b, const Instr& i) const {
  int64_t rows = b.stop - b.start;
  if (rows == 0) return 0;
  if (i.code == Code::kGemm) {
    Cut c = cut_product(rows * i.n[0], i.n[1], i.n[2], beside(b));
    return c.down * c.across;
  }
  if (i.code >= Code::kGemmRows) return tiles_of_sum(i);
  int64_t each = tile_rows(i);
  return (rows + each - 1) / each;
}

template <class T>
int64_t Typed<T>::tiles_of_sum(const Instr& i) {
  if (i.code == Code::kColumnSums) return (i.out[0].cols + 63) / 64;
  Cut c = cut_sums(i);
  return c.down * c.across;
}

template <class T>
Cut Typed<T>::cut_sums(const Instr& i) {
  Cut c;
  c.rows = std::min<int64_t>(i.n[1], 128);
  c.cols = std::min<int64_t>(i.n[2], 512);
  c.down = (i.n[1] + c.rows - 1) / c.rows;
  c.across = (i.n[2] + c.cols - 1) / c.cols;
  return c;
}

template <class T>
void Typed<T>::execute(const Batch& b, const Instr& i, int64_t rows, int64_t tile, int32_t worker) {
  if (i.code == Code::kGemm) return product(b, i, rows, tile);
  int64_t each = tile_rows(i), first = tile * each, n = std::min(each, rows - first);
  Source<T> in[64];
  Target<T> out[64];
  check(i.in.size() <= 64 && i.out.size() <= 64, Kind::kProgram, "an instruction has more than 64 operands");
  for (size_t a = 0; a < i.in.size(); ++a) in[a] = source(b, i.in[a], first);
  for (size_t a = 0; a < i.out.size(); ++a) out[a] = target(b, i.out[a], first);
  T* scratch = scratch_of(worker);
  const auto& z = i.n;
  switch (i.code) {
    case Code::kEw: k_.ew(i.ew, in, out, n, scratch); break;
    case Code::kMap: k_.map(in[0], i.map.data(), i.out[0].cols, out[0], n, scratch); break;
    case Code::kReduce: k_.reduce(static_cast<Reduction>(z[0]), in[0], z[1], z[2], out[0], n, scratch); break;
    case Code::kSoft: k_.soft(static_cast<Soft>(z[0]), i.x[0], in[0], z[1], z[2], out[0], n, scratch); break;
    case Code::kBdot: k_.bdot(in[0], z[3] != 0, in[1], z[4] != 0, z[0], z[1], z[2], out[0], n, scratch); break;
    case Code::kPick: k_.pick(in[0], in[1], z[0] != 0, z[1], z[2], out[0], n, scratch); break;
    case Code::kOneHot: k_.one_hot(in[0], i.x[0], i.x[1], z[0], z[1], out[0], n, scratch); break;
    default: throw Error(Kind::kInternal, "an instruction for rows");
  }
}

template <class T>
void Typed<T>::product(const Batch& b, const Instr& i, int64_t rows, int64_t tile) {
  int64_t repeat = i.n[0], n = i.n[1], k = i.n[2];
  bool turned = i.n[3] != 0;
  Source<T> x = source(b, i.in[0], 0);
  Target<T> y = target(b, i.out[0], 0);
  int64_t m = rows * repeat, lda = repeat == 1 ? x.stride : k, ldc = repeat == 1 ? y.stride : n;
  if (x.stride == 0) lda = 0;
  Cut c = cut_product(m, n, k, beside(b));
  int64_t r = tile / c.across * c.rows, q = tile % c.across * c.cols;
  int64_t height = std::min(c.rows, m - r), width = std::min(c.cols, n - q);
  const T* w = shared_[i.in[1].id] + i.in[1].offset;
  if (turned) {
    auto copy = transposed_.find({i.in[1].id, i.in[1].offset});
    if (copy != transposed_.end()) {
      w = copy->second.data();
      turned = false;
    }
  }
  gemm<T>(false, turned, height, width, k, x.base + r * lda, lda, turned ? w + q * k : w + q, turned ? k : n, T(0),
          y.base + r * ldc + q, ldc);
}

// Sums over rows `first` ... `first + rows` of a segment into the gradient of a shared value.
template <class T>
void Typed<T>::sum(int32_t s, const Instr& i, int64_t first, int64_t rows, int64_t tile, bool begin) {
  const Gradient& grad = grads_->shared[i.out[0].id];
  T* to = static_cast<T*>(grad.data) + i.out[0].offset;
  T beta = begin && grad.req != Req::kAdd ? T(0) : T(1);
  auto rows_at = [&](const Operand& o) { return saved_[s][o.id].data() + first * o.stride + o.offset; };
  if (i.code == Code::kGemmRows) {
    int64_t n = i.n[1], k = i.n[2], repeat = i.n[0];
    Cut c = cut_sums(i);
    int64_t r = tile / c.across * c.rows, q = tile % c.across * c.cols;
    gemm<T>(true, false, std::min(c.rows, n - r), std::min(c.cols, k - q), rows * repeat, rows_at(i.in[0]) + r,
            repeat == 1 ? i.in[0].stride : n, rows_at(i.in[1]) + q, repeat == 1 ? i.in[1].stride : k, beta,
            to + r * k + q, k);
    return;
  }
  int64_t cols = i.out[0].cols, q = tile * 64, width = std::min<int64_t>(64, cols - q), repeat = i.n[0];
  if (beta == T(0)) std::fill_n(to + q, width, T(0));
  k_.column_sums(rows_at(i.in[0]) + q, repeat == 1 ? i.in[0].stride : cols, rows * repeat, width, to + q);
}

}  // namespace rg
