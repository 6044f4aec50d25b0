#include "execute.h"

#include <algorithm>
#include <cstring>

#include "host_rows.h"
#include "jobs.h"

namespace rg {

template <class T>
void Typed<T>::forward(const Inputs& inputs) {
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
    if (!ahead) lookups_.number();
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

template <class T>
void Typed<T>::output(int32_t index, void* to) {
  int32_t port = p_.functions[p_.root].out_ports[index];
  int64_t cols = p_.ports[port].cols;
  Ids rows = plan_.output_rows(index);
  const T* from = ports_[port].data();
  T* out = static_cast<T*>(to);
  for (size_t i = 0; i < rows.size(); ++i)
    std::memcpy(out + static_cast<int64_t>(i) * cols, from + rows[i] * cols, cols * sizeof(T));
}

template <class T>
int64_t Typed<T>::bytes() {
  int64_t total = block_.size();
  for (const Array& a : arrays_of(plan_, recompute)) total += buffer(a).borrowed();
  return total * static_cast<int64_t>(sizeof(T));
}

template <class T>
Buffer<T>& Typed<T>::buffer(const Array& a) {
  switch (a.what) {
    case What::kPort: return ports_[a.id];
    case What::kSaved: return saved_[a.segment][a.id];
    case What::kTemp: return temps_[a.segment][a.shard][a.id];
    case What::kMade: return made_[a.segment][a.id];
    case What::kGivenPort: return given_ports_[a.id];
    default: return given_fields_[a.id];
  }
}

template <class T>
void Typed<T>::backward(const Outputs& outputs) {
  begin_backward(outputs);
  Backward job(*this, true, !recompute);
  run(job, workers_for(0, plan_.batches.size(), 2));
  end_backward();
}

template <class T>
void Typed<T>::backward_rows(const Outputs& outputs) {
  begin_backward(outputs);
  Backward job(*this, true, false);
  run(job, workers_for(0, plan_.batches.size(), 2));
}

template <class T>
void Typed<T>::backward_sums() {
  if (!recompute) {
    Backward job(*this, false, true);
    run(job, workers_for(0, plan_.batches.size(), 2));
  }
  end_backward();
}

template <class T>
void Typed<T>::begin_backward(const Outputs& outputs) {
  check(p_.keep, Kind::kInternal, "nothing was kept for a gradient");
  grads_ = &outputs;
  if (workers_for(0, plan_.batches.size(), 2) > 1) expect_run();
  plan_.make_readers(outputs.ograds);
  const Function& root = p_.functions[p_.root];
  for (size_t j = 0; j < root.out_ports.size(); ++j) {
    int32_t port = root.out_ports[j];
    if (!p_.ports[port].floating || outputs.ograds[j] == nullptr) continue;
    T* to = given_ports_[port].data() + plan_.output_base[j] * p_.ports[port].cols;
    std::memcpy(to, outputs.ograds[j], static_cast<size_t>(plan_.returned_rows() * p_.ports[port].cols) * sizeof(T));
  }
  plan_sums();
}

template <class T>
void Typed<T>::end_backward() {
  give_fields_and_args();
  grads_ = nullptr;
}

template <class T>
void Typed<T>::plan_snapshot() {
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

std::vector<std::vector<Sum>> sums_of(const Plan& plan, const Outputs& outputs) {
  const Program& p = plan.program;
  check(outputs.shared.size() == static_cast<size_t>(p.shared_inputs), Kind::kInternal, "gradients of parameters");
  std::vector<std::vector<Sum>> sums(p.shared.size());
  for (size_t s = 0; s < p.segments.size(); ++s)
    for (const Instr& i : p.segments[s].over) {
      int32_t id = i.out[0].id;
      check(id < p.shared_inputs, Kind::kProgram, "a gradient of a computed value");
      if (plan.segment_size[s] > 0 && outputs.shared[id].req != Req::kNull) sums[id].push_back({static_cast<int32_t>(s), &i});
    }
  return sums;
}

// What nothing is summed into is zero.
template <class T>
void Typed<T>::plan_sums() {
  sums_ = sums_of(plan_, *grads_);
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
    if (lookups_.rows[t] == 0 && table_grads_[t] != nullptr && req != Req::kAdd)  // then the caller's array has one row
      std::fill_n(table_grads_[t], p_.table_cols[t], T(0));
    if (table_grads_[t] == nullptr || req == Req::kNull || req == Req::kAdd) {
      dropped_[t].reserve(std::max<int64_t>(lookups_.rows[t], 1) * p_.table_cols[t]);
      table_grads_[t] = dropped_[t].data();
    }
  }
}

// Gradients of rows that came from outside: each row is the sum of what its readers gave back.
template <class T>
void Typed<T>::pull(const Readers& readers, const Buffer<T>& given, int64_t first, int64_t rows, int64_t cols, const Gradient& grad) {
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

template <class T>
void Typed<T>::give_fields_and_args() {
  for (size_t t = 0; t < dropped_.size(); ++t)
    if (t < grads_->tables.size() && grads_->tables[t].req == Req::kAdd)
      add(grads_->tables[t], dropped_[t].data(), lookups_.rows[t] * p_.table_cols[t]);
  for (size_t f = 0; f < grads_->fields.size(); ++f) {
    const Gradient& grad = grads_->fields[f];
    if (grad.req != Req::kNull && grad.data != nullptr)
      pull(plan_.field_readers[f], given_fields_[f], 0, plan_.forest.nodes, p_.field_cols[f], grad);
  }
  for (size_t a = 0; a < grads_->args.size(); ++a) {
    const Gradient& grad = grads_->args[a];
    if (grad.req == Req::kNull || grad.data == nullptr) continue;
    const Outside& from = plan_.outside[a];
    pull(plan_.port_readers[from.port], given_ports_[from.port], from.first, from.rows, p_.ports[from.port].cols, grad);
  }
}

template <class T>
void Typed<T>::convert_fields() {
  fields_.assign(p_.field_cols.size(), nullptr);
  converted_.resize(p_.field_cols.size());
  for (size_t f = 0; f < fields_.size(); ++f) {
    if (p_.field_cols[f] > 0) fields_[f] = field_rows(plan_.forest.fields[f], converted_[f]);
  }
}

template <class T>
void Typed<T>::prologue() {
  shared_.assign(p_.shared.size(), nullptr);
  computed_.resize(p_.shared.size());
  for (int32_t i = 0; i < p_.shared_inputs; ++i) shared_[i] = static_cast<const T*>(inputs_.shared[i]);
  for (size_t i = p_.shared_inputs; i < p_.shared.size(); ++i) {
    computed_[i].reserve(std::max<int64_t>(p_.shared[i].size, 1));
    shared_[i] = computed_[i].data();
  }
  zeros_.assign(static_cast<size_t>(p_.widest_zeros), T(0));
  Batch none;
  none.stop = 1;
  for (const Instr& i : p_.prologue) execute(none, i, 1, 0, 0);
}

// A plan of one round has one block for all arrays, of the gradient too. Where values decide, arrays grow round by round.
template <class T>
void Typed<T>::make_room(bool first) {
  std::vector<Array> arrays = arrays_of(plan_, recompute);
  if (first && plan_.finished()) {
    Arena arena = arena_of(plan_, arrays, kAlign);
    take_turns(plan_, arrays, arena);
    block_.reserve(std::max<int64_t>(arena.size, 1));
    for (size_t i = 0; i < arrays.size(); ++i) buffer(arrays[i]).lie(block_.data() + arena.offset[i], arrays[i].life.size);
  } else {
    for (const Array& a : arrays) {
      Buffer<T>& to = buffer(a);
      to.reserve(a.life.size, a.what == What::kTemp ? 0 : to.size());
    }
  }
  for (size_t i = 0; i < ports_.size() && first; ++i) std::fill_n(ports_[i].data(), p_.ports[i].cols, T(0));
  if (first) {
    check(inputs_.args.size() == plan_.outside.size(), Kind::kProgram, "arguments for the roots");
    for (size_t a = 0; a < inputs_.args.size(); ++a) {
      const Outside& from = plan_.outside[a];
      int64_t cols = p_.ports[from.port].cols;
      std::memcpy(ports_[from.port].data() + from.first * cols, inputs_.args[a],
                  static_cast<size_t>(from.rows * cols) * sizeof(T));
    }
  }
  for (size_t s = 0; s < p_.segments.size(); ++s)
    for (size_t i = 0; i < p_.segments[s].slots.size(); ++i) {
      const Slot& slot = p_.segments[s].slots[i];
      if (!is_made(slot)) continue;
      int64_t begin = made_rows_[{s, i}], all = plan_.segment_size[s];
      for (int64_t r = begin; r < all; ++r) make_row(plan_, s, slot, r, inputs_.seed, made_[s][i].data() + r * slot.cols);
      made_rows_[{s, i}] = all;
    }
}

// Copies of matrices in the order in which the library is fastest, where enough rows will use them.
template <class T>
void Typed<T>::transpose_matrices(size_t first_batch) {
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
  run(job, size > 50000 && !alone ? worker_count() : 1);
}

template <class T>
std::vector<uint8_t> Typed<T>::truths(const Frames::Waiting& decision) const {
  const Block& block = p_.blocks[decision.block];
  const Port& port = p_.ports[block.test_port];
  std::vector<uint8_t> answers(decision.entries.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    int64_t unit = plan_.frames.unit_of(block.test_segment, decision.block, decision.entries[i]);
    answers[i] = ports_[block.test_port].data()[plan_.row(port.layout, unit) * port.cols] != T(0);
  }
  return answers;
}

// Whether helpers pay, from what the batches take on one core: they do where they have shards of their own, or where
// steps are long; to hand over one of a few microseconds costs as much as to run it.
template <class T>
int32_t Typed<T>::workers_for(size_t first, size_t last, double times) const {
  if (alone) return 1;
  double total = 0;
  for (size_t b = first; b < last; ++b) {
    const Batch& batch = plan_.batches[b];
    double rows = static_cast<double>(batch.stop - batch.start);
    for (const Instr& i : p_.segments[batch.segment].forward) total += microseconds(i, rows);
  }
  double each = total / static_cast<double>(std::max<size_t>(last - first, 1));
  bool pays = plan_.shards > 1 ? total * times > kShared : total * times > kAlone && each > kLongSteps;
  return pays ? worker_count() : 1;
}

double microseconds(const Instr& i, double rows) {
  if (i.code != Code::kGemm) return rows * static_cast<double>(i.out.empty() ? 0 : i.out[0].cols) * 4e-5;
  double matrix = static_cast<double>(i.n[1]) * static_cast<double>(i.n[2]);
  return std::max(rows * static_cast<double>(i.n[0]) * matrix * 1e-5, matrix * 4e-5);  // arithmetic, or reading the matrix
}

std::unique_ptr<Execution> make_execution(Plan& plan) {
  if (plan.program.scalar == 8) return std::make_unique<Typed<double>>(plan);
  return std::make_unique<Typed<float>>(plan);
}

}  // namespace rg
