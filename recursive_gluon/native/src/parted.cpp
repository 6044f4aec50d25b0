#include "parted.h"

#include <algorithm>
#include <cstring>

#include "interrupt.h"

namespace rg {
namespace {

template <class T>
class Parted final : public Execution {
 public:
  Parted(const Plan& plan, Parts parts, int64_t max_depth)
      : p_(plan.program), forest_(plan.forest), parts_(std::move(parts)), max_depth_(max_depth),
        returned_(static_cast<int64_t>(plan.returned.size())) {
    for (int32_t port : p_.functions[p_.root].out_ports) cols_.push_back(p_.ports[port].cols);
    for (auto* list : {&outputs_, &rows_, &given_}) list->resize(cols_.size());
    looked_up_.resize(p_.table_rows.size());
    first_lookup_.resize(parts_.parts.size());
    for (const Part& part : parts_.parts) most_given_ = std::max(most_given_, static_cast<int64_t>(part.given.size()));
  }

  void forward(const Inputs& inputs) override {
    LongRun here;
    inputs_ = inputs;
    if (inputs.snapshot) snapshot();
    for (auto& list : looked_up_) list.clear();
    for (size_t j = 0; j < cols_.size(); ++j) outputs_[j].reserve(std::max<int64_t>(returned_ * cols_[j], 1));
    if (!parts_.parts.empty())
      for (int32_t j : parts_.parts[0].outputs) {
        rows_[j].reserve(std::max<int64_t>(parts_.rows * cols_[j], 1));
        given_[j].reserve(std::max<int64_t>(most_given_ * cols_[j], 1));
      }
    for (size_t i = 0; i < parts_.parts.size(); ++i) {
      const Part& part = parts_.parts[i];
      Planned planned(*this, part, false);
      for (size_t t = 0; t < looked_up_.size(); ++t) note_lookups(i, t, *planned.execution);
      planned.execution->forward(part_inputs(part, inputs_.tables));
      for (size_t j = 0; j < cols_.size(); ++j) keep_output(part, static_cast<int32_t>(j), *planned.execution);
      note(part, false, planned.execution->bytes());
      here.check();
    }
  }

  void output(int32_t index, void* to) override {
    std::memcpy(to, outputs_[index].data(), static_cast<size_t>(returned_ * cols_[index]) * sizeof(T));
  }

  // Rows of all parts, part by part, each in the order of its plan; known after forward.
  int64_t lookups(int32_t table) const override { return static_cast<int64_t>(looked_up_[table].size()); }
  void looked_up(int32_t table, int32_t* to) const override {
    std::copy(looked_up_[table].begin(), looked_up_[table].end(), to);
  }
  void use_rows(const std::vector<const void*>& rows) override {
    inputs_.tables = rows;
    rows_given_ = true;
  }
  int64_t bytes() override { return peak_; }
  Footprint planned() override {
    Footprint most;
    for (const Part& part : parts_.parts)
      for (bool backward : {false, true}) {
        Footprint own = Planned(*this, part, backward).execution->planned();
        int64_t more = beside(part, backward);
        most.block = std::max(most.block, own.block + more);
        most.apart = std::max(most.apart, own.apart + more);
        most.without_reuse = std::max(most.without_reuse, own.without_reuse + more);
      }
    return most;
  }

  void backward(const Outputs& outputs) override {
    LongRun here;
    for (Buffer<T>& buffer : outputs_) buffer.clear();  // the caller has them
    std::vector<Buffer<T>> grads(cols_.size());         // of rows at the cuts
    for (size_t j = 0; j < cols_.size(); ++j)
      if (rows_[j].data() != nullptr) {
        grads[j].reserve(std::max<int64_t>(parts_.rows * cols_[j], 1));
        std::fill_n(grads[j].data(), parts_.rows * cols_[j], T(0));
      }
    for (size_t i = parts_.parts.size(); i-- > 0;) {
      part_backward(i, outputs, i + 1 == parts_.parts.size(), grads);
      here.check();
    }
    for (size_t t = 0; t < outputs.tables.size(); ++t) {  // of no rows the caller's array has one
      const Gradient& grad = outputs.tables[t];
      if (looked_up_[t].empty() && grad.data != nullptr && grad.req != Req::kNull && grad.req != Req::kAdd)
        std::memset(grad.data, 0, static_cast<size_t>(p_.table_cols[t]) * sizeof(T));
    }
  }

 private:
  // A part's plan and run. `keep`: all that its gradient needs.
  struct Planned {
    Plan plan;
    std::unique_ptr<Execution> execution;
    Planned(const Parted& of, const Part& part, bool keep) : plan(of.p_, of.forest_, part, of.max_depth_, keep) {
      while (plan.next_round()) {}
      execution = make_execution(plan);
      execution->recompute = !keep;
    }
  };

  // What the runs of parts read of the caller's, who may write it before backward.
  void snapshot() {
    copied_shared_.resize(inputs_.shared.size());
    for (size_t i = 0; i < copied_shared_.size(); ++i) {
      copied_shared_[i].reserve(std::max<int64_t>(p_.shared[i].size, 1));
      std::memcpy(copied_shared_[i].data(), inputs_.shared[i], static_cast<size_t>(p_.shared[i].size) * sizeof(T));
      inputs_.shared[i] = copied_shared_[i].data();
    }
    copied_fields_.resize(forest_.fields.size());
    for (size_t f = 0; f < copied_fields_.size(); ++f) {
      FieldView& field = forest_.fields[f];
      const char* from = static_cast<const char*>(field.data);
      copied_fields_[f].assign(from, from + field.rows * field.cols * FieldView::kBytes[field.type]);
      field.data = copied_fields_[f].data();
    }
    inputs_.snapshot = false;
  }

  Inputs part_inputs(const Part& part, const std::vector<const void*>& tables) {
    Inputs in;
    in.shared = inputs_.shared;
    in.tables = tables;
    in.seed = inputs_.seed;
    for (int32_t j : part.outputs) {
      for (size_t i = 0; i < part.given_row.size(); ++i) copy(rows_[j], part.given_row[i], given_[j], i, cols_[j]);
      in.args.push_back(given_[j].data());
    }
    return in;
  }

  static void copy(const Buffer<T>& from, int64_t row, Buffer<T>& to, int64_t at, int64_t cols) {
    std::memcpy(to.data() + at * cols, from.data() + row * cols, static_cast<size_t>(cols) * sizeof(T));
  }

  void note_lookups(size_t part, size_t table, const Execution& run) {
    Looked& all = looked_up_[table];
    size_t first = all.size();
    first_lookup_[part].push_back(static_cast<int64_t>(first));
    all.resize(first + static_cast<size_t>(run.lookups(static_cast<int32_t>(table))));
    run.looked_up(static_cast<int32_t>(table), all.data() + first);
  }

  void keep_output(const Part& part, int32_t j, Execution& run) {
    int64_t asked = static_cast<int64_t>(part.asked.size()), kept = static_cast<int64_t>(part.kept.size());
    Buffer<T> all;
    all.reserve(std::max<int64_t>((asked + kept) * cols_[j], 1));
    run.output(j, all.data());
    for (int64_t i = 0; i < asked; ++i) copy(all, i, outputs_[j], part.asked_row[i], cols_[j]);
    if (rows_[j].data() != nullptr)
      for (int64_t i = 0; i < kept; ++i) copy(all, asked + i, rows_[j], part.kept_row[i], cols_[j]);
  }

  void part_backward(size_t number, const Outputs& outputs, bool first, std::vector<Buffer<T>>& grads) {
    const Part& part = parts_.parts[number];
    Planned planned(*this, part, true);
    Execution& run = *planned.execution;
    std::vector<const void*> tables = inputs_.tables;
    Outputs to;
    for (size_t t = 0; t < tables.size(); ++t) {
      int64_t skip = first_lookup_[number][t] * p_.table_cols[t];
      if (rows_given_) tables[t] = static_cast<const T*>(tables[t]) + skip;
      if (t >= outputs.tables.size()) continue;
      Gradient grad = outputs.tables[t];
      if (run.lookups(static_cast<int32_t>(t)) == 0) grad = Gradient();
      if (grad.data != nullptr) grad.data = static_cast<T*>(grad.data) + skip;
      to.tables.push_back(grad);
    }
    if (rows_given_) run.use_rows(tables);
    run.forward(part_inputs(part, tables));
    for (auto [from, list] : {std::pair(&outputs.shared, &to.shared), std::pair(&outputs.fields, &to.fields)})
      for (Gradient grad : *from) {  // the first part writes, others add
        if (!first && grad.req != Req::kNull) grad.req = Req::kAdd;
        list->push_back(grad);
      }
    std::vector<Buffer<T>> ograds(cols_.size()), given(cols_.size());
    std::vector<int32_t> seen;  // ports: two outputs may be one
    for (size_t j = 0; j < cols_.size(); ++j) {
      int64_t cols = cols_[j], asked = static_cast<int64_t>(part.asked.size()), kept = static_cast<int64_t>(part.kept.size());
      ograds[j].reserve(std::max<int64_t>((asked + kept) * cols, 1));
      std::fill_n(ograds[j].data(), (asked + kept) * cols, T(0));
      if (const T* from = static_cast<const T*>(outputs.ograds[j]))
        for (int64_t i = 0; i < asked; ++i) std::copy_n(from + part.asked_row[i] * cols, cols, ograds[j].data() + i * cols);
      if (grads[j].data() != nullptr)
        for (int64_t i = 0; i < kept; ++i) copy(grads[j], part.kept_row[i], ograds[j], asked + i, cols);
      to.ograds.push_back(ograds[j].data());
    }
    for (int32_t j : part.outputs) {
      int32_t port = p_.functions[p_.root].out_ports[j];
      bool again = std::find(seen.begin(), seen.end(), port) != seen.end();
      seen.push_back(port);
      given[j].reserve(std::max<int64_t>(static_cast<int64_t>(part.given.size()) * cols_[j], 1));
      to.args.push_back(again ? Gradient() : Gradient{given[j].data(), Req::kWrite});
    }
    run.backward(to);
    for (size_t k = 0; k < part.outputs.size(); ++k) {
      int32_t j = part.outputs[k];
      if (to.args[k].data == nullptr) continue;
      for (size_t i = 0; i < part.given_row.size(); ++i) {
        T* sum = grads[j].data() + part.given_row[i] * cols_[j];
        const T* from = given[j].data() + static_cast<int64_t>(i) * cols_[j];
        for (int64_t c = 0; c < cols_[j]; ++c) sum[c] += from[c];
      }
    }
    note(part, true, run.bytes());
  }

  // Bytes that are held beside a part's run.
  int64_t beside(const Part& part, bool backward) const {
    int64_t ends = static_cast<int64_t>(part.asked.size() + part.kept.size()), given = static_cast<int64_t>(part.given.size());
    int64_t numbers = 0, widest = 0;
    for (int64_t cols : cols_) {
      numbers += (backward ? ends : returned_) * cols;
      widest = std::max(widest, cols);
    }
    if (!backward) numbers += ends * widest;
    for (int32_t j : part.outputs) numbers += (parts_.rows + most_given_ + (backward ? parts_.rows + given : 0)) * cols_[j];
    return numbers * static_cast<int64_t>(sizeof(T));
  }

  void note(const Part& part, bool backward, int64_t own) { peak_ = std::max(peak_, beside(part, backward) + own); }

  using Looked = std::vector<int32_t>;
  const Program& p_;
  Forest forest_;
  Parts parts_;
  int64_t max_depth_, returned_, most_given_ = 0, peak_ = 0;
  Inputs inputs_;
  bool rows_given_ = false;                     // inputs_.tables are rows that were looked up, in our order
  std::vector<int64_t> cols_;                   // of each output of the root function
  std::vector<Buffer<T>> outputs_;              // what the caller asked for, until backward
  std::vector<Buffer<T>> rows_;                 // outputs at the cuts that calls read
  std::vector<Buffer<T>> given_;                // those of them that a part reads
  std::vector<Looked> looked_up_;               // by table
  std::vector<Ids> first_lookup_;               // by part, table
  std::vector<Buffer<T>> copied_shared_;
  std::vector<std::vector<char>> copied_fields_;
};

}  // namespace

std::unique_ptr<Execution> make_parted(const Plan& plan, Parts parts, int64_t max_depth) {
  if (plan.program.scalar == 8) return std::make_unique<Parted<double>>(plan, std::move(parts), max_depth);
  return std::make_unique<Parted<float>>(plan, std::move(parts), max_depth);
}

}  // namespace rg
