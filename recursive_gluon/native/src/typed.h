// The execution of a plan in one precision: what it holds. Its methods are in execute.cpp, instructions.h and jobs.h.
#pragma once

#include <chrono>
#include <cstring>
#include <map>
#include <numeric>

#include "execute.h"
#include "lookups.h"
#include "operands.h"

namespace rg {

struct Cut;

template <class T>
class Typed final : public Execution {
 public:
  explicit Typed(Plan& plan)
      : plan_(plan), p_(plan.program), k_(kernels<T>()), scratch_(kMostWorkers), lookups_(plan) {
    ports_.resize(p_.ports.size());
    given_ports_.resize(p_.ports.size());
    given_fields_.resize(p_.field_cols.size());
    for (auto* list : {&saved_, &made_}) list->resize(p_.segments.size());
    temps_.resize(p_.segments.size());
    for (size_t s = 0; s < p_.segments.size(); ++s) {
      saved_[s].resize(p_.segments[s].saved.size());
      temps_[s].resize(plan.shards + 1);
      for (Floats& list : temps_[s]) list.resize(p_.segments[s].temps.size());
      made_[s].resize(p_.segments[s].slots.size());
    }
    if (plan_.finished()) lookups_.number();
  }
  // -- forward --------------------
  void forward(const Inputs& inputs) override;
  void output(int32_t index, void* to) override;

  int64_t lookups(int32_t table) const override {
    check(plan_.finished(), Kind::kInternal, "what is looked up depends on values");
    return lookups_.rows[table];
  }
  void looked_up(int32_t table, int32_t* to) const override { lookups_.write(table, to); }
  int64_t bytes() override;
  Footprint planned() override { return plan_.finished() ? footprint(plan_, recompute, kAlign) : Footprint(); }
  // -- backward --------------------
  void use_rows(const std::vector<const void*>& rows) override {
    inputs_.tables = rows;
    rows_given_ = true;
  }
  void backward(const Outputs& outputs) override;
  void backward_rows(const Outputs& outputs) override;
  void backward_sums() override;
  void begin_backward(const Outputs& outputs);
  void end_backward();

 private:
  using Floats = std::vector<Buffer<T>>;
  static constexpr int64_t kAlign = 64 / sizeof(T);  // a line of the cache
  Buffer<T>& buffer(const Array& a);

  // -- where operands lie, as Operands asks --------------------
  friend struct Operands<T, Typed>;
  T* temp(const Batch& b, int32_t id) const { return temps_[b.segment][b.shard][id].data(); }
  // Of the rows that a batch keeps. With `recompute` there is room for the largest batch of each shard: shards run at once.
  int64_t first_saved(const Batch& b) const {
    if (!recompute) return b.start;
    const std::vector<int64_t>& largest = plan_.largest[b.segment];
    return std::accumulate(largest.begin(), largest.begin() + b.shard, int64_t(0));
  }
  T* saved(const Batch& b, const Operand& o, int64_t row) const {
    return saved_[b.segment][o.id].data() + (first_saved(b) + row) * o.stride + o.offset;
  }
  T* port(int32_t id) const { return ports_[id].data(); }
  T* made(int32_t s, int32_t k) const { return made_[s][k].data(); }
  const T* shared(int32_t id) const { return shared_[id]; }
  const T* field(int32_t id) const { return fields_[id]; }
  const T* table(int32_t id) const { return static_cast<const T*>(inputs_.tables[id]); }
  const T* zeros() const { return zeros_.data(); }
  T* given_port(int32_t id) const { return given_ports_[id].data(); }
  T* given_field(int32_t id) const { return given_fields_[id].data(); }
  T* table_grad(int32_t id) const { return table_grads_[id]; }
  bool rows_given() const { return rows_given_; }
  const int64_t* slot_index(int32_t s, int32_t k) const { return plan_.slots[s][k].index.data(); }
  const int64_t* slot_start(int32_t s, int32_t k) const { return plan_.slots[s][k].start.data(); }
  const int64_t* lookup_index(int32_t s, int32_t k) const { return lookups_.index[s][k].data(); }
  const int64_t* given_rows(int32_t port) const { return plan_.port_readers[port].given.data(); }
  const int64_t* given_start(int32_t port) const { return plan_.port_readers[port].start.data(); }
  Source<T> source(const Batch& b, const Operand& o, int64_t row) const {
    return Operands<T, Typed>::source(*this, b, o, row);
  }
  Target<T> target(const Batch& b, const Operand& o, int64_t row) const {
    return Operands<T, Typed>::target(*this, b, o, row);
  }
  // -- one instruction --------------------
  int64_t tile_rows(const Instr& i) const;
  int64_t tiles(const Batch& b, const Instr& i) const;
  static int64_t tiles_of_sum(const Instr& i);
  bool beside(const Batch& b) const { return b.shard < plan_.shards && plan_.shards > 1; }
  static Cut cut_sums(const Instr& i);
  void execute(const Batch& b, const Instr& i, int64_t rows, int64_t tile, int32_t worker);
  void product(const Batch& b, const Instr& i, int64_t rows, int64_t tile);
  void sum(int32_t s, const Instr& i, int64_t first, int64_t rows, int64_t tile, bool begin);

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
        : e(e), batch(batch), step(step), worker(worker), begin(e.trace ? steady_ns() : 0) {}
    ~Timed() {
      if (e.trace) e.spans[worker].push_back({batch, step, worker, begin, steady_ns()});
    }
  };
  class Forward;

  // What backward reads of the caller's, copied by workers that have nothing better to do.
  struct Copy {
    const T** used;
    T* to;
    int64_t size;
  };
  void plan_snapshot();
  class Backward;

  void plan_sums();

  void add(const Gradient& grad, const T* from, int64_t n) {
    T* to = static_cast<T*>(grad.data);
    if (grad.req == Req::kAdd)
      for (int64_t i = 0; i < n; ++i) to[i] += from[i];
    else if (grad.req != Req::kNull && to != from)
      std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
  }
  void pull(const Readers& readers, const Buffer<T>& given, int64_t first, int64_t rows, int64_t cols, const Gradient& grad);
  void give_fields_and_args();
  // -- before and between --------------------
  void convert_fields();
  void prologue();
  void make_room(bool first);
  void transpose_matrices(size_t first_batch);

  struct Turn {
    const T* from;
    T* to;
    int64_t rows, cols;
  };
  class Turning;
  std::vector<uint8_t> truths(const Frames::Waiting& decision) const;
  int32_t workers_for(size_t first, size_t last, double times) const;

  Plan& plan_;
  const Program& p_;
  const Kernels<T>& k_;
  Inputs inputs_;
  bool rows_given_ = false;               // inputs_.tables are rows that were looked up, in the core's order
  const Outputs* grads_ = nullptr;
  Buffer<T> block_;                       // where the arrays lie, if the plan has one round
  Floats ports_, given_ports_, given_fields_, converted_, computed_, dropped_;
  Floats copied_shared_;
  std::vector<Copy> copies_;
  std::vector<Floats> saved_, made_;
  std::vector<std::vector<Floats>> temps_;  // by segment, shard
  std::map<std::pair<size_t, size_t>, int64_t> made_rows_;
  std::map<std::pair<int32_t, int64_t>, Buffer<T>> transposed_;
  std::vector<const T*> shared_, fields_;
  std::vector<T*> table_grads_;
  std::vector<T> zeros_;
  std::vector<std::vector<T>> scratch_;
  Lookups lookups_;
  std::vector<std::vector<Sum>> sums_;
};

}  // namespace rg
