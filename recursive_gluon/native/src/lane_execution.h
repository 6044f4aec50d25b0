// The execution of a plan on a backend: everything that it reads and writes lies in the backend's memory, its batches are
// chains that plan_lanes() deals out to lanes. The host plans, makes draws and integers, and takes decisions.
#pragma once

#include "lane_work.h"
#include "lanes.h"
#include "lookups.h"
#include "operands.h"

namespace rg {

template <class T>
class LaneExecution final : public Execution, private LaneWork<T> {
  using Work = LaneWork<T>;

 public:
  LaneExecution(Plan& plan, std::shared_ptr<LentBackend> lent, bool resident);

  void forward(const Inputs& inputs) override;
  void output(int32_t index, void* to) override;
  int64_t lookups(int32_t table) const override;
  void looked_up(int32_t table, int32_t* to) const override { lookups_.write(table, to); }
  // Tables that were copied are as they were when forward ran.
  void use_rows(const std::vector<const void*>& rows) override;
  void backward(const Outputs& outputs) override;
  int64_t bytes() override;

 private:
  using Work::backend_, Work::resident_;
  using Work::hold, Work::settle, Work::timed, Work::take_spans;
  using Work::put, Work::bring, Work::placed, Work::numbers, Work::list, Work::room, Work::zero, Work::gather;
  using Work::in_place, Work::made_at, Work::take, Work::fetch;
  using Floats = std::vector<DeviceBuffer<T>>;
  struct Rows {
    DeviceBuffer<int64_t> index, start;
  };

  // -- where operands lie, as Operands asks --------------------
  friend struct Operands<T, LaneExecution>;
  T* temp(const Batch& b, int32_t id) const { return temps_[b.segment][b.shard][id].data(); }
  T* saved(const Batch& b, const Operand& o, int64_t row) const {
    return saved_[b.segment][o.id].data() + (b.start + row) * o.stride + o.offset;
  }
  T* port(int32_t id) const { return ports_[id].data(); }
  T* made(int32_t s, int32_t k) const { return made_[s][k].data(); }
  const T* shared(int32_t id) const { return shared_at_[id]; }
  const T* field(int32_t id) const { return fields_at_[id]; }
  const T* table(int32_t id) const { return tables_at_[id]; }
  const T* zeros() const { return zeros_.data(); }
  T* given_port(int32_t id) const { return given_ports_[id].data(); }
  T* given_field(int32_t id) const { return given_fields_[id].data(); }
  T* table_grad(int32_t id) const { return table_grads_at_[id]; }
  bool rows_given() const { return rows_given_; }
  const int64_t* slot_index(int32_t s, int32_t k) const { return slots_[s][k].index.data(); }
  const int64_t* slot_start(int32_t s, int32_t k) const { return slots_[s][k].start.data(); }
  const int64_t* lookup_index(int32_t s, int32_t k) const { return lookup_rows_[s][k].data(); }
  const int64_t* given_rows(int32_t port) const { return port_readers_[port].index.data(); }
  const int64_t* given_start(int32_t port) const { return port_readers_[port].start.data(); }

  // -- forward --------------------
  void run_forward(const Inputs& inputs);
  void send_inputs(const Inputs& inputs);
  void prologue();
  void make_room(bool first);
  void make_rows(size_t s, size_t k, int64_t begin);
  void send_rows();
  std::vector<uint8_t> truths(const Frames::Waiting& decision);

  // -- backward --------------------
  void send_gradients(const Outputs& outputs);
  void sum(const Outputs& outputs);
  void take_gradients(const Outputs& outputs);

  // -- launches --------------------
  using Code = std::vector<Instr> Segment::*;
  void launch(int32_t lane, const Batch& b, const Instr& i);
  void run_batches(size_t first, const std::vector<std::vector<int32_t>>& after, Code code, int32_t step);

  Plan& plan_;
  const Program& p_;
  Lookups lookups_;
  uint64_t seed_ = 0;
  Floats shared_, fields_, tables_, ports_;  // of inputs: copies, empty for what is read where it lies
  std::vector<const T*> shared_at_, fields_at_, tables_at_;
  std::vector<Buffer<T>> converted_;         // fields, on their way
  bool rows_given_ = false;
  std::vector<Floats> saved_, made_;
  std::vector<std::vector<Floats>> temps_;  // by segment, shard
  DeviceBuffer<T> zeros_;
  std::vector<std::vector<Rows>> slots_;
  std::vector<std::vector<DeviceBuffer<int64_t>>> lookup_rows_;
  std::vector<int64_t> rows_before_;        // by segment: rows of earlier rounds
  Floats given_ports_, given_fields_, table_grads_, shared_grads_;  // empty for what is written where it is wanted
  std::vector<T*> table_grads_at_, shared_grads_at_;
  std::vector<Rows> port_readers_, field_readers_;
};

// `plan` has had its rounds if structure alone decides; else forward() makes them.
// `resident`: what Inputs, output() and Outputs point to lies in the backend's memory, else in the host's.
std::unique_ptr<Execution> make_lane_execution(Plan& plan, std::shared_ptr<LentBackend> lent, bool resident);

}  // namespace rg
