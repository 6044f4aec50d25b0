#include "lane_execution.h"

#include <algorithm>

#include "host_rows.h"
#include "instr_launch.h"
#include "issue.h"

namespace rg {

template <class T>
LaneExecution<T>::LaneExecution(Plan& plan, std::shared_ptr<LentBackend> lent, bool resident)
    : Work(std::move(lent), resident), plan_(plan), p_(plan.program), lookups_(plan) {
  size_t segments = p_.segments.size();
  for (Floats* list : {&ports_, &given_ports_}) list->resize(p_.ports.size());
  for (Floats* list : {&fields_, &given_fields_}) list->resize(p_.field_cols.size());
  for (Floats* list : {&shared_, &shared_grads_}) list->resize(p_.shared.size());
  for (Floats* list : {&tables_, &table_grads_}) list->resize(p_.table_rows.size());
  table_grads_at_.resize(p_.table_rows.size());
  shared_grads_at_.resize(p_.shared.size());
  for (auto* list : {&saved_, &made_}) list->resize(segments);
  temps_.resize(segments);
  slots_.resize(segments);
  lookup_rows_.resize(segments);
  rows_before_.assign(segments, 0);
  port_readers_.resize(p_.ports.size());
  field_readers_.resize(p_.field_cols.size());
  for (size_t s = 0; s < segments; ++s) {
    const Segment& segment = p_.segments[s];
    saved_[s].resize(segment.saved.size());
    made_[s].resize(segment.slots.size());
    slots_[s].resize(segment.slots.size());
    lookup_rows_[s].resize(segment.slots.size());
  }
  if (plan_.finished()) lookups_.number();
}

template <class T>
void LaneExecution<T>::forward(const Inputs& inputs) {
  hold([&] { run_forward(inputs); });
  if (trace) take_spans(spans);
}

template <class T>
void LaneExecution<T>::run_forward(const Inputs& inputs) {
  check(!recompute, Kind::kProgram,
        "a run with recompute was given to lanes, which keep all rows; run it without, or on the workers (lanes=0)");
  seed_ = inputs.seed;
  send_inputs(inputs);
  prologue();
  size_t first = 0;
  bool ahead = plan_.finished();
  for (;;) {
    if (!ahead && !plan_.next_round()) break;
    if (!ahead) lookups_.number();
    make_room(first == 0);
    for (size_t a = 0; a < plan_.outside.size() && first == 0; ++a) {
      const Outside& from = plan_.outside[a];
      int64_t cols = p_.ports[from.port].cols;
      bring(port(from.port) + from.first * cols, inputs.args[a], from.rows * cols);
    }
    send_rows();
    settle();
    std::vector<std::vector<int32_t>> after(plan_.batches.size() - first);
    for (size_t b = first; b < plan_.batches.size(); ++b)
      for (int32_t next : plan_.batches[b].after) after[b - first].push_back(next - static_cast<int32_t>(first));
    run_batches(first, after, &Segment::forward, 0);
    first = plan_.batches.size();
    if (plan_.finished()) break;
    for (const Frames::Waiting& decision : plan_.decisions()) plan_.settle(decision, truths(decision));
  }
}

template <class T>
void LaneExecution<T>::output(int32_t index, void* to) {
  hold([&] {
    int32_t port = p_.functions[p_.root].out_ports[index];
    Ids rows = plan_.output_rows(index);
    int64_t count = static_cast<int64_t>(rows.size());
    fetch({ports_[port].data(), p_.ports[port].cols, list(std::move(rows)), nullptr}, count, p_.ports[port].cols, {to, Req::kWrite});
  });
}

template <class T>
void LaneExecution<T>::use_rows(const std::vector<const void*>& rows) {
  if (!resident_) return;
  for (size_t t = 0; t < rows.size(); ++t) tables_at_[t] = static_cast<const T*>(rows[t]);
  rows_given_ = true;
}

template <class T>
int64_t LaneExecution<T>::lookups(int32_t table) const {
  check(plan_.finished(), Kind::kInternal, "what is looked up depends on values");
  return lookups_.rows[table];
}

template <class T>
void LaneExecution<T>::backward(const Outputs& outputs) {
  check(p_.keep, Kind::kInternal, "nothing was kept for a gradient");
  hold([&] {
    plan_.make_readers(outputs.ograds);
    send_gradients(outputs);
    settle();
    std::vector<std::vector<int32_t>> after(plan_.batches.size());
    for (size_t b = 0; b < after.size(); ++b)
      for (int32_t next : plan_.batches[b].after) after[next].push_back(static_cast<int32_t>(b));
    run_batches(0, after, &Segment::backward, 1000);
    sum(outputs);
    take_gradients(outputs);
  });
  if (trace) take_spans(spans);
}

template <class T>
int64_t LaneExecution<T>::bytes() {
  int64_t total = zeros_.size();
  auto add = [&](const Floats& list) {
    for (const auto& buffer : list) total += buffer.size();
  };
  for (const Floats* list : {&shared_, &fields_, &tables_, &ports_, &given_ports_, &given_fields_, &table_grads_,
                             &shared_grads_})
    add(*list);
  for (const auto* lists : {&saved_, &made_})
    for (const Floats& list : *lists) add(list);
  for (const auto& shards : temps_)
    for (const Floats& list : shards) add(list);
  return total * static_cast<int64_t>(sizeof(T));
}

// -- forward --------------------
template <class T>
void LaneExecution<T>::send_inputs(const Inputs& inputs) {
  check(inputs.shared.size() == static_cast<size_t>(p_.shared_inputs) && inputs.tables.size() == p_.table_rows.size(),
        Kind::kProgram, "a run lacks parameters");
  check(inputs.args.size() == plan_.outside.size(), Kind::kProgram, "arguments for the roots");
  bool changes = p_.keep && inputs.snapshot;  // before backward has read it
  for (int32_t i = 0; i < p_.shared_inputs; ++i)
    shared_at_.push_back(placed(shared_[i], inputs.shared[i], p_.shared[i].size, changes));
  for (size_t i = p_.shared_inputs; i < p_.shared.size(); ++i) {
    shared_[i].reserve(backend_, p_.shared[i].size);
    shared_at_.push_back(shared_[i].data());
  }
  for (size_t t = 0; t < tables_.size(); ++t)  // backward reads the rows that it is given
    tables_at_.push_back(placed(tables_[t], inputs.tables[t], p_.table_rows[t] * p_.table_cols[t], false));
  converted_.resize(fields_.size());
  fields_at_.resize(fields_.size());
  for (size_t f = 0; f < fields_.size(); ++f) {
    const FieldView& field = plan_.forest.fields[f];
    int64_t size = plan_.forest.nodes * p_.field_cols[f];
    if (size == 0) continue;
    if (resident_ && field.device != nullptr && field.type == (sizeof(T) == 4 ? 0 : 1)) {
      fields_at_[f] = placed(fields_[f], field.device, size, changes);
      continue;
    }
    put(fields_[f], field_rows(field, converted_[f]), size);
    fields_at_[f] = fields_[f].data();
  }
  zeros_.reserve(backend_, p_.widest_zeros);
  zero(zeros_.data(), p_.widest_zeros);
  settle();
  converted_.clear();
}

template <class T>
void LaneExecution<T>::prologue() {
  Batch none;
  none.stop = 1;
  for (const Instr& i : p_.prologue) launch(0, none, i);
}

template <class T>
void LaneExecution<T>::make_room(bool first) {
  for (size_t i = 0; i < ports_.size(); ++i) {
    int64_t cols = p_.ports[i].cols, old = first ? 0 : ports_[i].size();
    ports_[i].reserve(backend_, plan_.layout_size[p_.ports[i].layout] * cols, old);
    if (first) zero(ports_[i].data(), cols);
  }
  for (size_t s = 0; s < p_.segments.size(); ++s) {
    const Segment& segment = p_.segments[s];
    int64_t all = plan_.segment_size[s];
    if (all == 0) continue;
    for (size_t i = 0; i < segment.saved.size(); ++i)
      saved_[s][i].reserve(backend_, all * segment.saved[i], saved_[s][i].size());
    const std::vector<int64_t>& largest = plan_.largest[s];
    temps_[s].resize(std::max(temps_[s].size(), largest.size()));
    for (size_t shard = 0; shard < largest.size(); ++shard) {
      temps_[s][shard].resize(segment.temps.size());
      for (size_t i = 0; i < segment.temps.size(); ++i)
        temps_[s][shard][i].reserve(backend_, largest[shard] * segment.temps[i]);
    }
  }
}

// What the slots of the rows that were planned since the last time read.
template <class T>
void LaneExecution<T>::send_rows() {
  for (size_t s = 0; s < p_.segments.size(); ++s) {
    for (size_t k = 0; k < slots_[s].size(); ++k) {
      const SlotRows& rows = plan_.slots[s][k];
      put(slots_[s][k].index, rows.index.data(), static_cast<int64_t>(rows.index.size()));
      put(slots_[s][k].start, rows.start.data(), static_cast<int64_t>(rows.start.size()));
      put(lookup_rows_[s][k], lookups_.index[s][k].data(), static_cast<int64_t>(lookups_.index[s][k].size()));
      if (is_made(p_.segments[s].slots[k])) make_rows(s, k, rows_before_[s]);
    }
    rows_before_[s] = plan_.segment_size[s];
  }
}

template <class T>
void LaneExecution<T>::make_rows(size_t s, size_t k, int64_t begin) {
  const Slot& slot = p_.segments[s].slots[k];
  int64_t all = plan_.segment_size[s];
  if (begin == all) return;
  made_[s][k].reserve(backend_, all * slot.cols, begin * slot.cols);
  std::vector<T>& rows = numbers((all - begin) * slot.cols);
  for (int64_t r = begin; r < all; ++r) make_row(plan_, s, slot, r, seed_, rows.data() + (r - begin) * slot.cols);
  backend_.upload(0, made_[s][k].data() + begin * slot.cols, rows.data(), rows.size() * sizeof(T));
}

template <class T>
std::vector<uint8_t> LaneExecution<T>::truths(const Frames::Waiting& decision) {
  const Block& block = p_.blocks[decision.block];
  const Port& port = p_.ports[block.test_port];
  Ids rows;
  for (int64_t entry : decision.entries)
    rows.push_back(plan_.row(port.layout, plan_.frames.unit_of(block.test_segment, decision.block, entry)));
  if (rows.empty()) return {};
  std::vector<T> values(rows.size());
  int64_t count = static_cast<int64_t>(rows.size());
  T* there = room(count);
  gather({ports_[block.test_port].data(), port.cols, list(std::move(rows)), nullptr}, count, 1, there);
  backend_.download(0, values.data(), there, values.size() * sizeof(T));
  settle();
  std::vector<uint8_t> answers;
  for (T value : values) answers.push_back(value != T(0));
  return answers;
}

// -- backward --------------------
template <class T>
void LaneExecution<T>::send_gradients(const Outputs& outputs) {
  auto send = [&](Rows& to, const Readers& readers) {
    put(to.index, readers.given.data(), static_cast<int64_t>(readers.given.size()));
    put(to.start, readers.start.data(), static_cast<int64_t>(readers.start.size()));
  };
  for (size_t i = 0; i < p_.ports.size(); ++i) {
    if (!p_.ports[i].floating) continue;
    send(port_readers_[i], plan_.port_readers[i]);
    given_ports_[i].reserve(backend_, plan_.port_readers[i].size * p_.ports[i].cols);
  }
  for (size_t f = 0; f < p_.field_cols.size(); ++f) {
    send(field_readers_[f], plan_.field_readers[f]);
    given_fields_[f].reserve(backend_, plan_.field_readers[f].size * p_.field_cols[f]);
  }
  const Function& root = p_.functions[p_.root];
  for (size_t j = 0; j < root.out_ports.size(); ++j) {
    int32_t port = root.out_ports[j];
    int64_t cols = p_.ports[port].cols;
    if (!p_.ports[port].floating || outputs.ograds[j] == nullptr) continue;
    bring(given_port(port) + plan_.output_base[j] * cols, outputs.ograds[j], plan_.returned_rows() * cols);
  }
  for (size_t t = 0; t < table_grads_.size(); ++t) {
    int64_t size = std::max<int64_t>(lookups_.rows[t], 1) * p_.table_cols[t];  // the caller's array has a row at least
    table_grads_at_[t] = made_at(table_grads_[t], t < outputs.tables.size() ? outputs.tables[t] : Gradient(), size);
    zero(table_grads_at_[t], size);
  }
  for (int32_t id = 0; id < p_.shared_inputs; ++id) {
    const Gradient& grad = outputs.shared[id];
    if (grad.req == Req::kNull) continue;
    shared_grads_at_[id] = made_at(shared_grads_[id], grad, p_.shared[id].size);
    zero(shared_grads_at_[id], p_.shared[id].size);
  }
}

// The sums over all rows of a segment: a chain for each shared value.
template <class T>
void LaneExecution<T>::sum(const Outputs& outputs) {
  std::vector<std::vector<Sum>> sums = sums_of(plan_, outputs);
  std::vector<const std::vector<Sum>*> chains;
  std::vector<double> cost;
  for (const auto& list : sums) {
    if (list.empty()) continue;
    chains.push_back(&list);
    cost.push_back(0);
    for (const Sum& sum : list)
      for (const Operand& o : sum.instr->in) cost.back() += static_cast<double>(plan_.segment_size[sum.segment] * o.cols);
  }
  LanePlan lanes = plan_lanes(std::vector<std::vector<int32_t>>(chains.size()), cost, backend_.lanes());
  issue(lanes, backend_, [&](int32_t chain, int32_t lane) {
    for (const Sum& sum : *chains[chain]) {
      Batch all;
      all.segment = sum.segment;
      std::vector<Source<T>> in;
      for (const Operand& o : sum.instr->in) in.push_back(Operands<T, LaneExecution>::source(*this, all, o, 0));
      const Operand& o = sum.instr->out[0];
      std::vector<Target<T>> out{{shared_grads_at_[o.id] + o.offset, o.stride}};
      auto l = launch_of(*sum.instr, plan_.segment_size[sum.segment], std::move(in), std::move(out), T(1));
      timed(trace, -1 - sum.segment, 2000, lane, [&] { backend_.launch(lane, l); });
    }
  });
  settle();
}

template <class T>
void LaneExecution<T>::take_gradients(const Outputs& outputs) {
  for (int32_t id = 0; id < p_.shared_inputs; ++id) take(outputs.shared[id], shared_grads_at_[id], p_.shared[id].size);
  for (size_t t = 0; t < outputs.tables.size(); ++t)
    take(outputs.tables[t], table_grads_at_[t], std::max<int64_t>(lookups_.rows[t], 1) * p_.table_cols[t]);
  for (size_t f = 0; f < outputs.fields.size(); ++f) {
    int64_t cols = p_.field_cols[f];
    fetch({given_field(static_cast<int32_t>(f)), cols, field_readers_[f].index.data(), field_readers_[f].start.data()},
          plan_.forest.nodes, cols, outputs.fields[f]);
  }
  for (size_t a = 0; a < outputs.args.size(); ++a) {
    const Outside& from = plan_.outside[a];
    int64_t cols = p_.ports[from.port].cols;
    fetch({given_port(from.port), cols, given_rows(from.port), given_start(from.port) + from.first}, from.rows, cols,
          outputs.args[a]);
  }
}

// -- launches --------------------
template <class T>
void LaneExecution<T>::launch(int32_t lane, const Batch& b, const Instr& i) {
  std::vector<Source<T>> in;
  std::vector<Target<T>> out;
  for (const Operand& o : i.in) in.push_back(Operands<T, LaneExecution>::source(*this, b, o, 0));
  for (const Operand& o : i.out) out.push_back(Operands<T, LaneExecution>::target(*this, b, o, 0));
  backend_.launch(lane, launch_of(i, b.stop - b.start, std::move(in), std::move(out)));
}

// Batches `first` and on: a chain each, of the launches of `code`. Returns when they have run.
// Their steps count from `step`.
template <class T>
void LaneExecution<T>::run_batches(size_t first, const std::vector<std::vector<int32_t>>& after, Code code, int32_t step) {
  std::vector<double> cost;
  for (size_t c = 0; c < after.size(); ++c) {
    const Batch& b = plan_.batches[first + c];
    cost.push_back(0);
    for (const Instr& i : p_.segments[b.segment].*code) cost.back() += microseconds(i, static_cast<double>(b.stop - b.start));
  }
  LongRun here;
  issue(plan_lanes(after, cost, backend_.lanes()), backend_, [&](int32_t chain, int32_t lane) {
    here.check();
    size_t number = first + static_cast<size_t>(chain);
    const Batch& b = plan_.batches[number];
    int32_t at = step;
    for (const Instr& i : p_.segments[b.segment].*code)
      timed(trace, static_cast<int32_t>(number), at++, lane, [&] { launch(lane, b, i); });
  });
  settle();
}

std::unique_ptr<Execution> make_lane_execution(Plan& plan, std::shared_ptr<LentBackend> lent, bool resident) {
  if (plan.program.scalar == 8) return std::make_unique<LaneExecution<double>>(plan, std::move(lent), resident);
  return std::make_unique<LaneExecution<float>>(plan, std::move(lent), resident);
}

}  // namespace rg
