#include "execute.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "blas.h"
#include "draws.h"

namespace rg {
namespace {

constexpr double kTileWork = 2e5;        // element-wise operations of a tile: some 30 us
constexpr double kAlone = 1.5e6;         // a run with less arithmetic than this is not worth waking helpers
constexpr int64_t kTransposeFrom = 128;  // so many rows pay for a transposed copy of their matrix

// How a matrix product is cut: by its shape alone.
struct Cut {
  int64_t rows, cols, down, across;  // of a tile; how many tiles
};
Cut cut_product(int64_t m, int64_t n, int64_t k) {
  Cut c;
  double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  c.rows = m > 96 ? 64 : std::max<int64_t>(m, 1);
  int64_t across = std::clamp<int64_t>(std::min<int64_t>(n / 48, static_cast<int64_t>(work / 2e5)), 1, m > 96 ? 2 : 4);
  c.cols = (n + across - 1) / across;
  if (across > 1) c.cols = (c.cols + 15) / 16 * 16;
  c.down = (m + c.rows - 1) / c.rows;
  c.across = (n + c.cols - 1) / c.cols;
  return c;
}

template <class T>
class Typed final : public Execution {
 public:
  explicit Typed(Plan& plan)
      : plan_(plan), p_(plan.program), k_(kernels<T>()), scratch_(kMostWorkers) {
    ports_.resize(p_.ports.size());
    given_ports_.resize(p_.ports.size());
    given_fields_.resize(p_.field_cols.size());
    for (auto* list : {&saved_, &temps_, &made_}) list->resize(p_.segments.size());
    for (size_t s = 0; s < p_.segments.size(); ++s) {
      saved_[s].resize(p_.segments[s].saved.size());
      temps_[s].resize(p_.segments[s].temps.size());
      made_[s].resize(p_.segments[s].slots.size());
    }
    if (plan_.finished()) number_lookups();
  }

  // -- forward --------------------
  void forward(const Inputs& inputs) override {
    inputs_ = inputs;
    check(inputs.shared.size() == static_cast<size_t>(p_.shared_inputs) && inputs.tables.size() == p_.table_rows.size(),
          Kind::kProgram, "a run lacks parameters");
    convert_fields();
    prologue();
    if (p_.keep && inputs.snapshot) plan_snapshot();
    size_t first = 0;
    bool ahead = plan_.finished();
    for (;;) {
      if (!ahead && !plan_.next_round()) break;
      if (!ahead) number_lookups();
      make_room(first == 0);
      transpose_matrices(first);
      Forward job(*this, first, plan_.batches.size());
      run(job, workers_for(first, plan_.batches.size(), 1));
      first = plan_.batches.size();
      if (plan_.finished()) break;
      for (const Frames::Waiting& decision : plan_.decisions()) plan_.settle(decision, truths(decision));
    }
    for (const Copy& copy : copies_) *copy.used = copy.to;
    copies_.clear();
  }

  void output(int32_t index, void* to) override {
    int32_t port = p_.functions[p_.root].out_ports[index];
    int64_t cols = p_.ports[port].cols;
    Ids rows = plan_.output_rows(index);
    const T* from = ports_[port].data();
    T* out = static_cast<T*>(to);
    for (size_t i = 0; i < rows.size(); ++i)
      std::memcpy(out + static_cast<int64_t>(i) * cols, from + rows[i] * cols, cols * sizeof(T));
  }

  int64_t lookups(int32_t table) const override {
    check(plan_.finished(), Kind::kInternal, "what is looked up depends on values");
    return lookup_rows_[table];
  }

  void looked_up(int32_t table, int32_t* to) const override {
    for (size_t s = 0; s < p_.segments.size(); ++s)
      for (size_t k = 0; k < p_.segments[s].slots.size(); ++k) {
        const Slot& slot = p_.segments[s].slots[k];
        if (slot.kind != SlotKind::kLookup || slot.table != table) continue;
        for (int64_t i : lookup_index_[s][k]) *to++ = static_cast<int32_t>(i);
      }
  }

  int64_t bytes() const override {
    int64_t total = 0;
    for (const auto* list : {&ports_, &given_ports_, &given_fields_})
      for (const auto& buffer : *list) total += buffer.size();
    for (const auto* lists : {&saved_, &temps_, &made_})
      for (const auto& list : *lists)
        for (const auto& buffer : list) total += buffer.size();
    return total * static_cast<int64_t>(sizeof(T));
  }

  // -- backward --------------------
  void backward(const Outputs& outputs) override {
    check(p_.keep, Kind::kInternal, "nothing was kept for a gradient");
    grads_ = &outputs;
    if (workers_for(0, plan_.batches.size(), 2) > 1) expect_run();
    plan_.make_readers();
    const Function& root = p_.functions[p_.root];
    for (size_t i = 0; i < p_.ports.size(); ++i)
      if (p_.ports[i].floating && plan_.port_readers[i].size > 1)
        given_ports_[i].reserve(plan_.port_readers[i].size * p_.ports[i].cols);
    for (size_t i = 0; i < p_.field_cols.size(); ++i)
      if (plan_.field_readers[i].size > 1) given_fields_[i].reserve(plan_.field_readers[i].size * p_.field_cols[i]);
    for (size_t j = 0; j < root.out_ports.size(); ++j) {
      int32_t port = root.out_ports[j];
      if (!p_.ports[port].floating) continue;
      int64_t n = static_cast<int64_t>(plan_.returned.size());
      if (plan_.counts.size()) n = static_cast<int64_t>(plan_.output_rows(static_cast<int32_t>(j)).size());
      T* to = given_ports_[port].data() + plan_.output_base[j] * p_.ports[port].cols;
      size_t bytes = static_cast<size_t>(n * p_.ports[port].cols) * sizeof(T);
      if (outputs.ograds[j] != nullptr) std::memcpy(to, outputs.ograds[j], bytes);
      else std::memset(to, 0, bytes);
    }
    plan_sums();
    Backward job(*this);
    int32_t workers = workers_for(0, plan_.batches.size(), 2);
    run(job, workers);
    if (!recompute) {
      Sums sums(*this);
      run(sums, workers);
    }
    give_fields_and_args();
    grads_ = nullptr;
  }

 private:
  using Floats = std::vector<Buffer<T>>;

  // -- rows and places --------------------
  const SlotRows& rows_of(int32_t s, int32_t k) const {
    int32_t same = p_.segments[s].slots[k].same_as;
    return plan_.slots[s][same < 0 ? k : same];
  }

  Source<T> source(const Batch& b, const Operand& o, int64_t row) const {
    int32_t s = b.segment;
    switch (o.place) {
      case Place::kTemp: return {temps_[s][o.id].data() + row * o.stride + o.offset, o.stride, nullptr, nullptr};
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

  Source<T> slot(const Batch& b, const Operand& o, int64_t row) const {
    const Slot& slot = p_.segments[b.segment].slots[o.id];
    const SlotRows& rows = rows_of(b.segment, o.id);
    switch (slot.kind) {
      case SlotKind::kField: return {fields_[slot.source] + o.offset, o.stride, rows.index.data() + row, nullptr};
      case SlotKind::kLookup: {
        const T* table = static_cast<const T*>(inputs_.tables[slot.table]) + o.offset;
        if (!inputs_.looked_up) return {table, o.stride, lookup_index_[b.segment][o.id].data() + row, nullptr};
        return {table + (lookup_base_[b.segment][o.id] + row) * o.stride, o.stride, nullptr, nullptr};
      }
      case SlotKind::kInteger: case SlotKind::kRandom:
        return {made_[b.segment][o.id].data() + row * o.stride + o.offset, o.stride, nullptr, nullptr};
      case SlotKind::kSum:
        return {ports_[slot.port].data() + o.offset, o.stride, rows.index.data(), rows.start.data() + row};
      default: return {ports_[slot.port].data() + o.offset, o.stride, rows.index.data() + row, nullptr};
    }
  }

  T* saved(const Batch& b, const Operand& o, int64_t row) const {
    return saved_[b.segment][o.id].data() + ((recompute ? 0 : b.start) + row) * o.stride + o.offset;
  }
  int64_t out_row(const Batch& b, int32_t port) const {
    const Segment& segment = p_.segments[b.segment];
    size_t l = 0;
    while (segment.layouts[l] != p_.ports[port].layout) ++l;
    return b.out_start[l];
  }
  T* out(const Batch& b, const Operand& o, int64_t row) const {
    int32_t port = p_.segments[b.segment].out_ports[o.id];
    return ports_[port].data() + (out_row(b, port) + row) * o.stride + o.offset;
  }

  Target<T> target(const Batch& b, const Operand& o, int64_t row) const {
    switch (o.place) {
      case Place::kTemp: return {temps_[b.segment][o.id].data() + row * o.stride + o.offset, o.stride};
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

  // -- one instruction --------------------
  int64_t tile_rows(const Instr& i) const {
    double work = 0;
    switch (i.code) {
      case Code::kEw: work = static_cast<double>(i.ew.cols) * static_cast<double>(i.ew.code.size() + i.in.size()); break;
      case Code::kBdot: work = static_cast<double>(i.n[0]) * static_cast<double>(i.n[1]) * static_cast<double>(i.n[2]); break;
      default: work = 4.0 * static_cast<double>(std::max(i.in[0].cols, i.out[0].cols));
    }
    return std::max<int64_t>(1, static_cast<int64_t>(kTileWork / std::max(work, 1.0)));
  }

  int64_t tiles(const Instr& i, int64_t rows) const {
    if (rows == 0) return 0;
    if (i.code == Code::kGemm) {
      Cut c = cut_product(rows * i.n[0], i.n[1], i.n[2]);
      return c.down * c.across;
    }
    if (i.code == Code::kGemmRows) {
      Cut c = cut_sums(i);
      return c.down * c.across;
    }
    if (i.code == Code::kColumnSums) return (i.out[0].cols + 63) / 64;
    int64_t each = tile_rows(i);
    return (rows + each - 1) / each;
  }

  static Cut cut_sums(const Instr& i) {
    Cut c;
    c.rows = std::min<int64_t>(i.n[1], 128);
    c.cols = std::min<int64_t>(i.n[2], 512);
    c.down = (i.n[1] + c.rows - 1) / c.rows;
    c.across = (i.n[2] + c.cols - 1) / c.cols;
    return c;
  }

  void execute(const Batch& b, const Instr& i, int64_t rows, int64_t tile, int32_t worker) {
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

  void product(const Batch& b, const Instr& i, int64_t rows, int64_t tile) {
    int64_t repeat = i.n[0], n = i.n[1], k = i.n[2];
    bool turned = i.n[3] != 0;
    Source<T> x = source(b, i.in[0], 0);
    Target<T> y = target(b, i.out[0], 0);
    int64_t m = rows * repeat, lda = repeat == 1 ? x.stride : k, ldc = repeat == 1 ? y.stride : n;
    if (x.stride == 0) lda = 0;
    Cut c = cut_product(m, n, k);
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
  void sum(int32_t s, const Instr& i, int64_t first, int64_t rows, int64_t tile, bool begin) {
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

  T* scratch_of(int32_t worker) {
    if (scratch_[worker].empty()) scratch_[worker].resize(kScratch + 64);
    uintptr_t address = reinterpret_cast<uintptr_t>(scratch_[worker].data());
    return reinterpret_cast<T*>((address + 63) / 64 * 64);
  }

  // -- jobs --------------------
  struct Timed {  // notes when a tile ran, where that is asked for
    Typed& e;
    int32_t batch, step, worker;
    int64_t begin;
    Timed(Typed& e, int32_t batch, int32_t step, int32_t worker)
        : e(e), batch(batch), step(step), worker(worker), begin(e.trace ? now() : 0) {}
    ~Timed() {
      if (e.trace) e.spans[worker].push_back({batch, step, worker, begin, now()});
    }
    static int64_t now() {
      return std::chrono::duration_cast<std::chrono::nanoseconds>(
                 std::chrono::steady_clock::now().time_since_epoch()).count();
    }
  };

  class Forward final : public Job {
   public:
    Forward(Typed& e, size_t first, size_t last)
        : e_(e), first_(first), batches_(static_cast<int32_t>(last - first)), after_(last - first) {
      if (first == 0) after_.resize(after_.size() + e.copies_.size());
      for (size_t b = first; b < last; ++b)
        for (int32_t next : e.plan_.batches[b].after)
          if (next < static_cast<int32_t>(last)) after_[b - first].push_back(next - static_cast<int32_t>(first));
      e.spans.resize(kMostWorkers);
    }
    int32_t chains() const override { return static_cast<int32_t>(after_.size()); }
    int32_t waits(int32_t c) const override { return c < batches_ ? batch(c).waits : 0; }
    const std::vector<int32_t>& after(int32_t c) const override { return after_[c]; }
    int32_t steps(int32_t c) const override { return c < batches_ ? static_cast<int32_t>(code(c).size()) : 1; }
    int64_t tiles(int32_t c, int32_t step) override {
      if (c >= batches_) return (e_.copies_[c - batches_].size + kCopy - 1) / kCopy;
      return e_.tiles(code(c)[step], batch(c).stop - batch(c).start);
    }
    void tile(int32_t c, int32_t step, int64_t tile, int32_t worker) override {
      if (c >= batches_) {
        const Copy& copy = e_.copies_[c - batches_];
        int64_t n = std::min(kCopy, copy.size - tile * kCopy);
        std::memcpy(copy.to + tile * kCopy, *copy.used + tile * kCopy, static_cast<size_t>(n) * sizeof(T));
        return;
      }
      Timed timed(e_, c + static_cast<int32_t>(first_), step, worker);
      e_.execute(batch(c), code(c)[step], batch(c).stop - batch(c).start, tile, worker);
    }

   private:
    const Batch& batch(int32_t c) const { return e_.plan_.batches[first_ + c]; }
    const std::vector<Instr>& code(int32_t c) const { return e_.p_.segments[batch(c).segment].forward; }
    static constexpr int64_t kCopy = 1 << 15;
    Typed& e_;
    size_t first_;
    int32_t batches_;
    std::vector<std::vector<int32_t>> after_;
  };

  // What backward reads of the caller's, copied by workers that have nothing better to do.
  struct Copy {
    const T** used;
    T* to;
    int64_t size;
  };
  void plan_snapshot() {
    std::vector<uint8_t> shared(p_.shared.size(), 0), fields(p_.field_cols.size(), 0);
    auto note = [&](const Segment& segment, const std::vector<Instr>& code) {
      for (const Instr& i : code)
        for (const Operand& o : i.in) {
          if (o.place == Place::kShared) shared[o.id] = 1;
          if (o.place == Place::kSlot && segment.slots[o.id].kind == SlotKind::kField)
            fields[segment.slots[o.id].source] = 1;
        }
    };
    for (const Segment& segment : p_.segments) {
      note(segment, segment.backward);
      if (recompute) note(segment, segment.forward);
    }
    copied_shared_.resize(shared.size());
    auto copy = [&](const T** used, Buffer<T>& to, int64_t size) {
      to.reserve(std::max<int64_t>(size, 1));
      copies_.push_back({used, to.data(), size});
    };
    for (int32_t i = 0; i < p_.shared_inputs; ++i)
      if (shared[i]) copy(&shared_[i], copied_shared_[i], p_.shared[i].size);
    for (size_t f = 0; f < fields.size(); ++f)
      if (fields[f] && converted_[f].data() == nullptr)
        copy(&fields_[f], converted_[f], plan_.forest.nodes * p_.field_cols[f]);
  }

  // The batches in reverse; with `recompute`, each computes its kept rows anew and sums them at once.
  class Backward final : public Job {
   public:
    explicit Backward(Typed& e) : e_(e), after_(e.plan_.batches.size()), waits_(after_.size(), 0) {
      int32_t n = static_cast<int32_t>(after_.size());
      for (int32_t b = 0; b < n; ++b) {
        if (e.recompute) {  // one after another: their sums go to the same places
          if (b > 0) after_[b].push_back(b - 1);
          waits_[b] = b + 1 < n;
          continue;
        }
        waits_[b] = static_cast<int32_t>(e.plan_.batches[b].after.size());
        for (int32_t next : e.plan_.batches[b].after) after_[next].push_back(b);
      }
    }
    int32_t chains() const override { return static_cast<int32_t>(after_.size()); }
    int32_t waits(int32_t c) const override { return waits_[c]; }
    const std::vector<int32_t>& after(int32_t c) const override { return after_[c]; }
    int32_t steps(int32_t c) const override {
      const Segment& s = segment(c);
      size_t steps = s.backward.size() + (e_.recompute ? s.forward.size() + s.over.size() : 0);
      return static_cast<int32_t>(steps);
    }
    int64_t tiles(int32_t c, int32_t step) override {
      const Instr& i = instr(c, step);
      return i.code >= Code::kGemmRows && e_.grads_->shared[i.out[0].id].req == Req::kNull
                 ? 0 : e_.tiles(i, batch(c).stop - batch(c).start);
    }
    void tile(int32_t c, int32_t step, int64_t tile, int32_t worker) override {
      Timed timed(e_, c, 1000 + step, worker);
      const Batch& b = batch(c);
      const Instr& i = instr(c, step);
      if (i.code < Code::kGemmRows) e_.execute(b, i, b.stop - b.start, tile, worker);
      else e_.sum(b.segment, i, 0, b.stop - b.start, tile, false);
    }

   private:
    const Batch& batch(int32_t c) const { return e_.plan_.batches[c]; }
    const Segment& segment(int32_t c) const { return e_.p_.segments[batch(c).segment]; }
    const Instr& instr(int32_t c, int32_t step) const {
      const Segment& s = segment(c);
      size_t at = static_cast<size_t>(step);
      if (!e_.recompute) return s.backward[at];
      if (at < s.forward.size()) return s.forward[at];
      at -= s.forward.size();
      return at < s.backward.size() ? s.backward[at] : s.over[at - s.backward.size()];
    }
    Typed& e_;
    std::vector<std::vector<int32_t>> after_;
    std::vector<int32_t> waits_;
  };

  // The sums over all rows, a chain for each shared value.
  class Sums final : public Job {
   public:
    explicit Sums(Typed& e) : e_(e) {
      for (const auto& list : e.sums_)
        if (!list.empty()) lists_.push_back(&list);
    }
    int32_t chains() const override { return static_cast<int32_t>(lists_.size()); }
    int32_t waits(int32_t) const override { return 0; }
    const std::vector<int32_t>& after(int32_t) const override { return none_; }
    int32_t steps(int32_t c) const override { return static_cast<int32_t>(lists_[c]->size()); }
    int64_t tiles(int32_t c, int32_t step) override {
      return e_.tiles(*(*lists_[c])[step].instr, e_.plan_.segment_size[(*lists_[c])[step].segment]);
    }
    void tile(int32_t c, int32_t step, int64_t tile, int32_t worker) override {
      const Sum& sum = (*lists_[c])[step];
      Timed timed(e_, -1 - sum.segment, 2000, worker);
      e_.sum(sum.segment, *sum.instr, 0, e_.plan_.segment_size[sum.segment], tile, sum.begin);
    }

   private:
    Typed& e_;
    std::vector<const std::vector<typename Typed::Sum>*> lists_;
    std::vector<int32_t> none_;
  };

  struct Sum {
    int32_t segment;
    const Instr* instr;
    bool begin;  // the first that writes
  };

  // Which sums go to each shared value, in order; what nothing is summed into is zero.
  void plan_sums() {
    sums_.assign(p_.shared.size(), {});
    check(grads_->shared.size() == static_cast<size_t>(p_.shared_inputs), Kind::kInternal, "gradients of parameters");
    for (size_t s = 0; s < p_.segments.size(); ++s)
      for (const Instr& i : p_.segments[s].over) {
        int32_t id = i.out[0].id;
        check(id < p_.shared_inputs, Kind::kProgram, "a gradient of a computed value");
        if (plan_.segment_size[s] > 0 && grads_->shared[id].req != Req::kNull)
          sums_[id].push_back({static_cast<int32_t>(s), &i, false});
      }
    for (int32_t id = 0; id < p_.shared_inputs; ++id) {
      const Gradient& grad = grads_->shared[id];
      if (grad.req == Req::kNull) continue;
      bool whole = !recompute && !sums_[id].empty() && sums_[id][0].instr->out[0].cols == p_.shared[id].size;
      if (whole) sums_[id][0].begin = true;
      else if (grad.req != Req::kAdd) std::memset(grad.data, 0, static_cast<size_t>(p_.shared[id].size) * sizeof(T));
    }
    table_grads_.assign(p_.table_rows.size(), nullptr);
    dropped_.clear();
    dropped_.resize(p_.table_rows.size());
    for (size_t t = 0; t < table_grads_.size(); ++t) {
      table_grads_[t] = t < grads_->tables.size() ? static_cast<T*>(grads_->tables[t].data) : nullptr;
      Req req = t < grads_->tables.size() ? grads_->tables[t].req : Req::kNull;
      if (lookup_rows_[t] == 0 && table_grads_[t] != nullptr && req != Req::kAdd)  // then the caller's array has one row
        std::fill_n(table_grads_[t], p_.table_cols[t], T(0));
      if (table_grads_[t] == nullptr || req == Req::kNull || req == Req::kAdd) {
        dropped_[t].reserve(std::max<int64_t>(lookup_rows_[t], 1) * p_.table_cols[t]);
        table_grads_[t] = dropped_[t].data();
      }
    }
  }

  void add(const Gradient& grad, const T* from, int64_t n) {
    T* to = static_cast<T*>(grad.data);
    if (grad.req == Req::kAdd)
      for (int64_t i = 0; i < n; ++i) to[i] += from[i];
    else if (grad.req != Req::kNull && to != from)
      std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
  }

  // Gradients of rows that came from outside: each row is the sum of what its readers gave back.
  void pull(const Readers& readers, const Buffer<T>& given, int64_t first, int64_t rows, int64_t cols, const Gradient& grad) {
    T* to = static_cast<T*>(grad.data);
    for (int64_t r = 0; r < rows; ++r) {
      T* row = to + r * cols;
      if (grad.req != Req::kAdd) std::fill_n(row, cols, T(0));
      for (int64_t i = readers.start[first + r]; i < readers.start[first + r + 1]; ++i) {
        const T* from = given.data() + readers.given[i] * cols;
        for (int64_t c = 0; c < cols; ++c) row[c] += from[c];
      }
    }
  }

  void give_fields_and_args() {
    for (size_t t = 0; t < dropped_.size(); ++t)
      if (t < grads_->tables.size() && grads_->tables[t].req == Req::kAdd)
        add(grads_->tables[t], dropped_[t].data(), lookup_rows_[t] * p_.table_cols[t]);
    for (size_t f = 0; f < grads_->fields.size(); ++f) {
      const Gradient& grad = grads_->fields[f];
      if (grad.req != Req::kNull && grad.data != nullptr)
        pull(plan_.field_readers[f], given_fields_[f], 0, plan_.forest.nodes, p_.field_cols[f], grad);
    }
    const Function& root = p_.functions[p_.root];
    for (size_t a = 0; a < grads_->args.size(); ++a) {
      const Gradient& grad = grads_->args[a];
      if (grad.req == Req::kNull || grad.data == nullptr) continue;
      int32_t port = root.arg_ports[a];
      int64_t first = plan_.row(p_.ports[port].layout, static_cast<int64_t>(a) * plan_.forest.trees);
      pull(plan_.port_readers[port], given_ports_[port], first, plan_.forest.trees, p_.ports[port].cols, grad);
    }
  }

  // -- before and between --------------------
  void convert_fields() {
    fields_.assign(p_.field_cols.size(), nullptr);
    converted_.resize(p_.field_cols.size());
    for (size_t f = 0; f < fields_.size(); ++f) {
      const FieldView& field = plan_.forest.fields[f];
      if (p_.field_cols[f] == 0) continue;
      if (field.type == (sizeof(T) == 4 ? 0 : 1)) {
        fields_[f] = static_cast<const T*>(field.data);
        continue;
      }
      int64_t size = field.rows * field.cols;
      converted_[f].reserve(std::max<int64_t>(size, 1));
      for (int64_t i = 0; i < size; ++i) converted_[f].data()[i] = static_cast<T>(field.at(i));
      fields_[f] = converted_[f].data();
    }
  }

  void prologue() {
    shared_.assign(p_.shared.size(), nullptr);
    computed_.resize(p_.shared.size());
    for (int32_t i = 0; i < p_.shared_inputs; ++i) shared_[i] = static_cast<const T*>(inputs_.shared[i]);
    for (size_t i = p_.shared_inputs; i < p_.shared.size(); ++i) {
      computed_[i].reserve(std::max<int64_t>(p_.shared[i].size, 1));
      shared_[i] = computed_[i].data();
    }
    int64_t widest = 1;
    auto widen = [&](const std::vector<Instr>& code) {
      for (const Instr& i : code)
        for (const Operand& o : i.in)
          if (o.place == Place::kZero) widest = std::max(widest, o.cols);
    };
    widen(p_.prologue);
    for (const Segment& s : p_.segments) {
      widen(s.forward);
      widen(s.backward);
    }
    zeros_.assign(static_cast<size_t>(widest), T(0));
    Batch none;
    none.stop = 1;
    for (const Instr& i : p_.prologue) execute(none, i, 1, 0, 0);
  }

  void make_room(bool first) {
    for (size_t i = 0; i < ports_.size(); ++i) {
      int64_t cols = p_.ports[i].cols, old = first ? 0 : ports_[i].size();
      ports_[i].reserve(plan_.layout_size[p_.ports[i].layout] * cols, old);
      if (first) std::fill_n(ports_[i].data(), cols, T(0));
    }
    if (first) {
      const Function& root = p_.functions[p_.root];
      check(inputs_.args.size() == root.arg_ports.size(), Kind::kProgram, "arguments for the roots");
      for (size_t a = 0; a < inputs_.args.size(); ++a) {
        int32_t port = root.arg_ports[a];
        int64_t cols = p_.ports[port].cols, n = plan_.forest.trees;
        int64_t row = n ? plan_.row(p_.ports[port].layout, static_cast<int64_t>(a) * n) : 0;
        std::memcpy(ports_[port].data() + row * cols, inputs_.args[a], static_cast<size_t>(n * cols) * sizeof(T));
      }
    }
    for (size_t s = 0; s < p_.segments.size(); ++s) {
      const Segment& segment = p_.segments[s];
      int64_t all = plan_.segment_size[s], most = plan_.largest[s];
      if (all == 0) continue;
      for (size_t i = 0; i < segment.saved.size(); ++i) {
        int64_t rows = recompute ? most : all;
        saved_[s][i].reserve(rows * segment.saved[i], recompute ? 0 : saved_[s][i].size());
      }
      for (size_t i = 0; i < segment.temps.size(); ++i) temps_[s][i].reserve(most * segment.temps[i]);
      for (size_t i = 0; i < segment.slots.size(); ++i) {
        const Slot& slot = segment.slots[i];
        if (slot.kind != SlotKind::kInteger && slot.kind != SlotKind::kRandom) continue;
        int64_t begin = made_rows_[{s, i}];
        made_[s][i].reserve(all * slot.cols, begin * slot.cols);
        for (int64_t r = begin; r < all; ++r) make_row(s, slot, r, made_[s][i].data() + r * slot.cols);
        made_rows_[{s, i}] = all;
      }
    }
  }

  void make_row(size_t s, const Slot& slot, int64_t row, T* to) {
    const Segment& segment = p_.segments[s];
    int64_t entry = plan_.frames.entry_in(slot.block, segment.block, plan_.segment_entries[s][row]);
    int64_t frame = plan_.frames.block_frames[slot.block][entry];
    if (slot.kind == SlotKind::kInteger) {
      to[0] = static_cast<T>(plan_.frames.evaluate(slot.expr, segment.function, frame).value());
      return;
    }
    check(p_.keyed, Kind::kProgram, "draws need keys");
    draw(slot.draw, slot.x, slot.y, slot.stream, inputs_.seed, plan_.frames.tables[segment.function].key[frame], slot.cols, to);
  }

  // Copies of matrices in the order in which the library is fastest, where enough rows will use them.
  void transpose_matrices(size_t first_batch) {
    std::map<std::pair<int32_t, int64_t>, int64_t> rows;
    for (size_t b = first_batch; b < plan_.batches.size(); ++b)
      for (const Instr& i : p_.segments[plan_.batches[b].segment].forward)
        if (i.code == Code::kGemm && i.n[3])
          rows[{i.in[1].id, i.in[1].offset}] += (plan_.batches[b].stop - plan_.batches[b].start) * i.n[0];
    std::vector<Turn> turns;
    for (const Segment& s : p_.segments)
      for (const Instr& i : s.forward) {
        if (i.code != Code::kGemm || !i.n[3]) continue;
        std::pair<int32_t, int64_t> key{i.in[1].id, i.in[1].offset};
        if (transposed_.count(key) || rows[key] < kTransposeFrom) continue;
        Buffer<T>& copy = transposed_[key];
        copy.reserve(i.n[1] * i.n[2]);
        turns.push_back({shared_[key.first] + key.second, copy.data(), i.n[1], i.n[2]});
      }
    if (turns.empty()) return;
    Turning job(*this, turns);
    int64_t size = 0;
    for (const Turn& turn : turns) size += turn.rows * turn.cols;
    run(job, size > 50000 ? worker_count() : 1);
  }

  struct Turn {
    const T* from;
    T* to;
    int64_t rows, cols;
  };
  class Turning final : public Job {
   public:
    Turning(Typed& e, const std::vector<Turn>& turns) : e_(e), turns_(turns) {}
    int32_t chains() const override { return static_cast<int32_t>(turns_.size()); }
    int32_t waits(int32_t) const override { return 0; }
    const std::vector<int32_t>& after(int32_t) const override { return none_; }
    int32_t steps(int32_t) const override { return 1; }
    int64_t tiles(int32_t c, int32_t) override { return (turns_[c].cols + kColumns - 1) / kColumns; }
    void tile(int32_t c, int32_t, int64_t tile, int32_t) override {
      const Turn& t = turns_[c];
      e_.k_.transpose(t.from, t.rows, t.cols, tile * kColumns, std::min((tile + 1) * kColumns, t.cols), t.to);
    }

   private:
    static constexpr int64_t kColumns = 64;
    Typed& e_;
    const std::vector<Turn>& turns_;
    std::vector<int32_t> none_;
  };

  // What is looked up by the rows that were planned since the last time.
  void number_lookups() {
    size_t segments = p_.segments.size();
    lookup_rows_.assign(p_.table_rows.size(), 0);
    lookup_base_.resize(segments);
    lookup_index_.resize(segments);
    for (size_t s = 0; s < segments; ++s) {
      const Segment& segment = p_.segments[s];
      lookup_base_[s].assign(segment.slots.size(), 0);
      lookup_index_[s].resize(segment.slots.size());
      for (size_t k = 0; k < segment.slots.size(); ++k) {
        const Slot& slot = segment.slots[k];
        if (slot.kind != SlotKind::kLookup) continue;
        lookup_base_[s][k] = lookup_rows_[slot.table];
        lookup_rows_[slot.table] += plan_.segment_size[s];
        const FieldView& field = plan_.forest.fields[slot.source];
        const Ids& nodes = plan_.slots[s][k].index;
        Ids& index = lookup_index_[s][k];
        for (size_t i = index.size(); i < nodes.size(); ++i) {
          double value = field.at(nodes[i]);
          if (!(value >= 0 && value < static_cast<double>(p_.table_rows[slot.table]))) {
            int64_t bits;
            std::memcpy(&bits, &value, sizeof bits);
            throw Fault(Kind::kIndex, "a field looks up what the table has not",
                        {segment.function, static_cast<int64_t>(s), static_cast<int64_t>(k), nodes[i], bits}, {});
          }
          index.push_back(static_cast<int64_t>(value));
        }
      }
    }
  }

  std::vector<uint8_t> truths(const Frames::Waiting& decision) const {
    const Block& block = p_.blocks[decision.block];
    const Port& port = p_.ports[block.test_port];
    std::vector<uint8_t> answers(decision.entries.size());
    for (size_t i = 0; i < answers.size(); ++i) {
      int64_t unit = plan_.frames.unit_of(block.test_segment, decision.block, decision.entries[i]);
      answers[i] = ports_[block.test_port].data()[plan_.row(port.layout, unit) * port.cols] != T(0);
    }
    return answers;
  }

  int32_t workers_for(size_t first, size_t last, double times) const {
    double work = 0;
    for (size_t b = first; b < last; ++b) {
      double rows = static_cast<double>(plan_.batches[b].stop - plan_.batches[b].start), each = 0;
      for (const Instr& i : p_.segments[plan_.batches[b].segment].forward)
        if (i.code == Code::kGemm)
          each += 2.0 * static_cast<double>(i.n[0]) * static_cast<double>(i.n[1]) * static_cast<double>(i.n[2]);
        else
          each += 8.0 * static_cast<double>(i.out.empty() ? 0 : i.out[0].cols);
      work += rows * each;
    }
    return work * times > kAlone ? worker_count() : 1;
  }

  Plan& plan_;
  const Program& p_;
  const Kernels<T>& k_;
  Inputs inputs_;
  const Outputs* grads_ = nullptr;
  Floats ports_, given_ports_, given_fields_, converted_, computed_, dropped_;
  Floats copied_shared_;
  std::vector<Copy> copies_;
  std::vector<Floats> saved_, temps_, made_;
  std::map<std::pair<size_t, size_t>, int64_t> made_rows_;
  std::map<std::pair<int32_t, int64_t>, Buffer<T>> transposed_;
  std::vector<const T*> shared_, fields_;
  std::vector<T*> table_grads_;
  std::vector<T> zeros_;
  std::vector<std::vector<T>> scratch_;
  std::vector<int64_t> lookup_rows_;
  std::vector<std::vector<int64_t>> lookup_base_;
  std::vector<std::vector<Ids>> lookup_index_;
  std::vector<std::vector<Sum>> sums_;
};

}  // namespace

std::unique_ptr<Execution> make_execution(Plan& plan) {
  if (plan.program.scalar == 8) return std::make_unique<Typed<double>>(plan);
  return std::make_unique<Typed<float>>(plan);
}

}  // namespace rg
