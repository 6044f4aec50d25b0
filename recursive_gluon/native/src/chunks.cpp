#include "chunks.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "interrupt.h"
#include "workers.h"

namespace rg {
namespace {

// Of some thousands of nodes, whose plan and narrow rows fit into a second-level cache; more where trees are so deep that
// their levels would have few rows. By structure alone. Empty where calls leave their tree.
std::vector<Chunk> cut_trees(const Forest& f) {
  constexpr int64_t kNodes = 8192, kLevelRows = 128;
  std::vector<Chunk> chunks;
  std::vector<int32_t> height;
  int64_t deepest = 0;
  Chunk now{0, 0, 0, 0};
  auto close = [&] {
    chunks.push_back(now);
    now.first_tree = now.last_tree;
    now.first_node = now.last_node;
    deepest = 0;
  };
  for (int64_t t = 0; t < f.trees; ++t) {
    int64_t first = f.tree_offsets[t], last = f.tree_offsets[t + 1];
    height.assign(static_cast<size_t>(last - first), 1);
    for (int64_t n = first; n < last; ++n)
      for (int32_t e = f.child_offsets[n]; e < f.child_offsets[n + 1]; ++e) {
        int64_t child = f.children[e];
        if (child < 0) continue;
        if (child < first) return {};
        height[n - first] = std::max(height[n - first], height[child - first] + 1);
      }
    for (int32_t h : height) deepest = std::max<int64_t>(deepest, h);
    now.last_tree = t + 1;
    now.last_node = last;
    int64_t nodes = now.last_node - now.first_node;
    bool last_chunk = f.nodes - last < std::max(kNodes, nodes) / 2;  // what is left is too little for another
    if (nodes >= kNodes && nodes >= kLevelRows * deepest && !last_chunk) close();
  }
  close();
  return chunks;
}

bool keeps_to_trees(const Program& p) {
  return std::all_of(p.sites.begin(), p.sites.end(), [](const Site& site) { return site.needs_node; }) &&
         std::none_of(p.blocks.begin(), p.blocks.end(), [](const Block& block) { return block.end == End::kValueBranch; });
}

void* shifted(void* data, int64_t bytes) { return data == nullptr ? nullptr : static_cast<char*>(data) + bytes; }
const void* shifted(const void* data, int64_t bytes) { return shifted(const_cast<void*>(data), bytes); }

class Chunked final : public Execution {
 public:
  Chunked(const Program& program, const Forest& forest, const PlanArgs& args, std::vector<Chunk> chunks)
      : p_(program), forest_(forest), args_(args), chunks_(std::move(chunks)), parts_(chunks_.size()),
        held_(chunks_.size(), 0) {}

  void forward(const Inputs& inputs) override { forward_into(inputs, {}); }

  void forward_into(const Inputs& inputs, const std::vector<Wanted>& wanted) override {
    LongRun here;
    inputs_ = inputs;
    try {
      Beside job(chunks_.size(), [&](size_t i) { forward(i, wanted); });
      run(job, at_once());
    } catch (const Fault&) {  // as the whole forest's run says it
      Plan whole(p_, forest_, args_.ints, args_.max_depth, args_.nodes, 0);
      while (whole.next_round()) {}
      make_execution(whole);
      throw;
    }
  }

  void output(int32_t index, void* to) override {
    for (size_t i = 0; i < chunks_.size(); ++i) write(i, {index, to});
  }

  // Chunk by chunk, each in the order of its plan; known after forward.
  int64_t lookups(int32_t table) const override {
    int64_t total = 0;
    for (const Part& part : parts_) total += part.execution->lookups(table);
    return total;
  }
  void looked_up(int32_t table, int32_t* to) const override {
    for (const Part& part : parts_) {
      part.execution->looked_up(table, to);
      to += part.execution->lookups(table);
    }
  }
  void use_rows(const std::vector<const void*>& rows) override { rows_ = rows; }
  int64_t bytes() override { return together(held_); }
  Footprint planned() override {
    std::vector<int64_t> block, apart, without_reuse;
    for (size_t i = 0; i < chunks_.size(); ++i) {
      Footprint own = part_of(i).execution->planned();
      block.push_back(own.block);
      apart.push_back(own.apart);
      without_reuse.push_back(own.without_reuse);
    }
    return {together(block), together(apart), together(without_reuse)};
  }

  // Chunks are computed beside one another, but their sums go to the same places: one after another. They stay, because
  // a gradient may be asked for again.
  void backward(const Outputs& outputs) override {
    LongRun here;
    std::vector<int64_t> looked_up(p_.table_rows.size(), 0);
    std::vector<Outputs> own;
    for (size_t i = 0; i < chunks_.size(); ++i) own.push_back(share(i, outputs, &looked_up));
    bool beside = !recompute && at_once() > 1;
    size_t group = beside ? 2 * static_cast<size_t>(at_once()) : 1;
    for (size_t first = 0; first < chunks_.size(); first += group) {
      size_t last = std::min(first + group, chunks_.size());
      for (size_t i = first; i < last; ++i) parts_[i].execution->alone = beside;
      Beside job(last - first, [&](size_t i) { parts_[first + i].execution->backward_rows(own[first + i]); });
      run(job, beside ? at_once() : 1);
      for (size_t i = first; i < last; ++i) {
        parts_[i].execution->alone = false;
        parts_[i].execution->backward_sums();
      }
      here.check();
    }
  }

 private:
  struct Part {
    std::unique_ptr<Forest> forest;
    std::unique_ptr<Plan> plan;
    std::unique_ptr<Execution> execution;
  };

  // Chunks, each on one worker.
  class Beside final : public Job {
   public:
    Beside(size_t chunks, std::function<void(size_t)> compute) : chunks_(chunks), compute_(std::move(compute)) {}
    int32_t chains() const override { return 1; }
    int32_t waits(int32_t) const override { return 0; }
    const std::vector<int32_t>& after(int32_t) const override { return none_; }
    int32_t steps(int32_t) const override { return 1; }
    int64_t tiles(int32_t, int32_t) override { return static_cast<int64_t>(chunks_); }
    void tile(int32_t, int32_t, int64_t tile, int32_t) override { compute_(static_cast<size_t>(tile)); }

   private:
    size_t chunks_;
    std::function<void(size_t)> compute_;
    std::vector<int32_t> none_;
  };

  int64_t bytes_of(int64_t numbers) const { return numbers * p_.scalar; }
  // Rows of outputs before a chunk's.
  int64_t first_row(size_t i) const { return args_.nodes ? chunks_[i].first_node : chunks_[i].first_tree; }

  // Chunks that run beside one another, each on one worker. Where there are few, workers share each.
  int32_t at_once() const {
    int32_t workers = worker_count();
    return chunks_.size() >= 2 * static_cast<size_t>(workers) ? workers : 1;
  }
  // What chunks hold at once, from what each holds: all of them for a gradient, else those that run beside one another.
  int64_t together(std::vector<int64_t> each) const {
    std::sort(each.begin(), each.end(), std::greater<>());
    if (!p_.keep) each.resize(std::min(each.size(), static_cast<size_t>(at_once())));
    return std::accumulate(each.begin(), each.end(), int64_t(0));
  }

  Part part_of(size_t i) const {
    Part part;
    part.forest = std::make_unique<Forest>(forest_, chunks_[i].first_tree, chunks_[i].last_tree);
    part.plan = std::make_unique<Plan>(p_, *part.forest, args_.ints, args_.max_depth, args_.nodes, 0);
    while (part.plan->next_round()) {}
    part.execution = make_execution(*part.plan);
    part.execution->recompute = recompute;
    return part;
  }

  void forward(size_t i, const std::vector<Wanted>& wanted) {
    Part& part = parts_[i] = part_of(i);
    part.execution->alone = at_once() > 1;
    Inputs in = inputs_;
    for (size_t a = 0; a < in.args.size(); ++a)
      in.args[a] = shifted(in.args[a], bytes_of(chunks_[i].first_tree * p_.ports[p_.functions[p_.root].arg_ports[a]].cols));
    part.execution->forward(in);
    part.execution->alone = false;
    for (const Wanted& output : wanted) write(i, output);
    held_[i] = part.execution->bytes();
    if (!p_.keep) part = Part();
  }

  void write(size_t i, const Wanted& output) {
    int64_t cols = p_.ports[p_.functions[p_.root].out_ports[output.index]].cols;
    parts_[i].execution->output(output.index, shifted(output.to, bytes_of(first_row(i) * cols)));
  }

  // A chunk's share of gradients; `looked_up` counts the rows of each table.
  Outputs share(size_t i, const Outputs& outputs, std::vector<int64_t>* looked_up) {
    Execution& execution = *parts_[i].execution;
    const Function& root = p_.functions[p_.root];
    Outputs to = outputs;
    for (size_t j = 0; j < to.ograds.size(); ++j)
      to.ograds[j] = shifted(to.ograds[j], bytes_of(first_row(i) * p_.ports[root.out_ports[j]].cols));
    for (Gradient& grad : to.shared)
      if (i > 0 && grad.req != Req::kNull) grad.req = Req::kAdd;
    std::vector<const void*> rows = rows_;
    for (size_t t = 0; t < looked_up->size(); ++t) {
      int64_t before = bytes_of((*looked_up)[t] * p_.table_cols[t]), own = execution.lookups(static_cast<int32_t>(t));
      if (t < rows.size()) rows[t] = shifted(rows[t], before);
      if (t < to.tables.size()) {
        to.tables[t].data = shifted(to.tables[t].data, before);
        bool none = own == 0 && (i > 0 || lookups(static_cast<int32_t>(t)) > 0);  // of no rows at all the caller has one
        if (none) to.tables[t] = Gradient();
      }
      (*looked_up)[t] += own;
    }
    for (size_t f = 0; f < to.fields.size(); ++f)
      to.fields[f].data = shifted(to.fields[f].data, bytes_of(chunks_[i].first_node * p_.field_cols[f]));
    for (size_t a = 0; a < to.args.size(); ++a)
      to.args[a].data = shifted(to.args[a].data, bytes_of(chunks_[i].first_tree * p_.ports[root.arg_ports[a]].cols));
    execution.use_rows(rows);
    return to;
  }

  const Program& p_;
  const Forest& forest_;
  PlanArgs args_;
  std::vector<Chunk> chunks_;
  std::vector<Part> parts_;
  std::vector<int64_t> held_;           // bytes, by chunk
  Inputs inputs_;
  std::vector<const void*> rows_;  // that were looked up, in our order
};

}  // namespace

std::vector<Chunk> cut_large(const Program& program, const Forest& forest) {
  constexpr int64_t kFrom = 16384;
  if (forest.nodes < kFrom || !keeps_to_trees(program)) return {};
  std::vector<Chunk> chunks = cut_trees(forest);
  if (chunks.size() < 2) chunks.clear();
  return chunks;
}

std::unique_ptr<Execution> make_chunked(const Program& program, const Forest& forest, const PlanArgs& args,
                                        std::vector<Chunk> chunks) {
  return std::make_unique<Chunked>(program, forest, args, std::move(chunks));
}

}  // namespace rg
