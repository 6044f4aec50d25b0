#include "parts.h"

#include <algorithm>
#include <map>

#include "plan.h"

namespace rg {
namespace {

// Lists of numbers, one for each of a range.
struct Lists {
  Ids start{0}, values;
  int64_t size() const { return static_cast<int64_t>(start.size()) - 1; }
  void close() { start.push_back(static_cast<int64_t>(values.size())); }
};

// The calls of one forest: frames of all functions in one numbering, and the frames that each calls.
class Calls {
 public:
  explicit Calls(const Plan& plan) : root_(plan.program.root) {
    const Program& p = plan.program;
    const Frames& frames = plan.frames;
    Ids offset(1, 0);
    for (const FrameTable& table : frames.tables) offset.push_back(offset.back() + table.size());
    first_ = offset[root_];
    last_ = offset[root_ + 1];
    Ids count(offset.back() + 1, 0);
    auto each = [&](auto visit) {
      for (size_t s = 0; s < p.sites.size(); ++s) {
        const Site& site = p.sites[s];
        for (size_t e = 0; e < frames.callee[s].size(); ++e) {
          int64_t caller = offset[site.function] + frames.block_frames[site.block][e];
          int64_t n = site.for_each ? frames.callee_count[s][e] : 1;
          for (int64_t k = 0; k < n; ++k) visit(caller, offset[site.callee] + frames.callee[s][e] + k);
        }
      }
    };
    each([&](int64_t caller, int64_t) { ++count[caller + 1]; });
    for (size_t i = 1; i < count.size(); ++i) count[i] += count[i - 1];
    callees_.resize(count.back());
    start_ = count;
    each([&](int64_t caller, int64_t callee) { callees_[count[caller]++] = callee; });
    seen_.assign(offset.back(), -1);
  }

  // The root function's frames below one, through frames of other functions, each once; returns how many frames lie
  // between, itself included.
  int64_t below(int64_t frame, Ids* found) {
    Ids stack{first_ + frame};
    int64_t own = 0;
    while (!stack.empty()) {
      int64_t at = stack.back();
      stack.pop_back();
      ++own;
      for (int64_t i = start_[at]; i < start_[at + 1]; ++i) {
        int64_t callee = callees_[i];
        if (seen_[callee] == frame) continue;
        seen_[callee] = frame;
        if (callee >= first_ && callee < last_) found->push_back(callee - first_);
        else stack.push_back(callee);
      }
    }
    return own;
  }

 private:
  int32_t root_;
  int64_t first_ = 0, last_ = 0;
  Ids start_, callees_, seen_;
};

// Frames in an order in which callees come first; false where calls go round.
bool callees_first(const Lists& below, Ids* order) {
  std::vector<uint8_t> state(below.size(), 0);
  for (int64_t from = 0; from < below.size(); ++from) {
    if (state[from]) continue;
    std::vector<std::pair<int64_t, int64_t>> stack{{from, below.start[from]}};
    state[from] = 1;
    while (!stack.empty()) {
      auto& [frame, next] = stack.back();
      if (next == below.start[frame + 1]) {
        state[frame] = 2;
        order->push_back(frame);
        stack.pop_back();
        continue;
      }
      int64_t callee = below.values[next++];
      if (state[callee] == 1) return false;
      if (state[callee] == 0) {
        state[callee] = 1;
        stack.push_back({callee, below.start[callee]});
      }
    }
  }
  return true;
}

std::string why_whole(const Plan& plan) {
  const Program& p = plan.program;
  const Function& root = p.functions[p.root];
  if (!plan.finished()) return "values decide which calls are made";
  if (plan.grows()) return "the trees grow while they are computed";
  if (!root.shared()) return "the root function takes tensors beside its node";
  if (root.num_ints > 0) return "the root function takes integers beside its node";
  const FrameTable& table = plan.frames.tables[p.root];
  for (int32_t node : table.node)
    if (node < 0) return "the root function is called on empty slots (None)";
  return "";
}

// Outputs of the root function that calls read.
std::vector<int32_t> outputs_read(const Program& p) {
  std::vector<uint8_t> read(p.functions[p.root].out_ports.size(), 0);
  for (const Segment& segment : p.segments)
    for (const Slot& slot : segment.slots)
      if ((slot.kind == SlotKind::kCall || slot.kind == SlotKind::kSum || slot.kind == SlotKind::kLast) &&
          p.sites[slot.source].callee == p.root)
        read[slot.output] = 1;
  std::vector<int32_t> found;
  for (size_t j = 0; j < read.size(); ++j)
    if (read[j]) found.push_back(static_cast<int32_t>(j));
  return found;
}

}  // namespace

// Bottom-up, and where a frame and what hangs on it become too large, the largest sub-trees are cut off first: the fewest
// cuts that a tree can have (Kundu and Misra, "A Linear Tree Partitioning Algorithm", SIAM J. Comput. 1977). A frame with
// several callers is cut off too, so that each frame lies in one part.
Parts cut_forest(const Plan& plan, int64_t most) {
  Parts made;
  made.whole = why_whole(plan);
  if (!made.whole.empty()) return made;
  const FrameTable& table = plan.frames.tables[plan.program.root];
  int64_t n = table.size();
  Calls calls(plan);
  Lists below;
  Ids weight(n), callers(n, 0), order;
  for (int64_t f = 0; f < n; ++f) {
    weight[f] = calls.below(f, &below.values);
    below.close();
  }
  for (int64_t f : below.values) ++callers[f];
  if (!callees_first(below, &order)) {
    made.whole = "calls of the root function go round";
    return made;
  }
  std::vector<uint8_t> cut(n, 0);
  for (int64_t f : plan.roots) cut[f] = 1;
  for (int64_t f = 0; f < n; ++f) cut[f] |= callers[f] != 1;
  Ids open_height(n, 0), hanging;  // how many cuts lie below one another
  for (int64_t f : order) {
    hanging.assign(below.values.begin() + below.start[f], below.values.begin() + below.start[f + 1]);
    std::stable_sort(hanging.begin(), hanging.end(), [&](int64_t a, int64_t b) { return weight[a] < weight[b]; });
    for (int64_t callee : hanging) {
      if (!cut[callee] && weight[f] + weight[callee] > most) cut[callee] = 1;
      if (!cut[callee]) weight[f] += weight[callee];
      int64_t height = cut[callee] ? open_height[callee] + 1 : open_height[callee];
      open_height[f] = std::max(open_height[f], height);
    }
  }
  // Sub-trees that wait for equally many others go together, up to `most` frames.
  std::map<int64_t, Ids> by_height;
  for (int64_t f : order)
    if (cut[f]) by_height[open_height[f]].push_back(f);
  Ids row(n, -1);  // in what is kept between parts
  for (int64_t f = 0; f < n; ++f)
    if (cut[f] && callers[f] > 0) row[f] = made.rows++;
  std::vector<Ids> asked(n);
  for (size_t i = 0; i < plan.returned.size(); ++i) asked[plan.returned[i]].push_back(static_cast<int64_t>(i));
  std::vector<int32_t> outputs = outputs_read(plan.program);
  Ids given_to(n, -1), stack;
  for (const auto& [height, frames] : by_height) {
    bool fresh = true;
    for (int64_t f : frames) {
      if (fresh || made.parts.back().frames + weight[f] > most) {
        made.parts.emplace_back();
        made.parts.back().outputs = outputs;
        fresh = false;
      }
      Part& part = made.parts.back();
      part.frames += weight[f];
      part.starts.push_back(table.node[f]);
      if (row[f] >= 0) {
        part.kept.push_back(table.node[f]);
        part.kept_row.push_back(row[f]);
      }
      for (stack.assign(1, f); !stack.empty();) {
        int64_t at = stack.back();
        stack.pop_back();
        for (int64_t i : asked[at]) {
          part.asked.push_back(table.node[at]);
          part.asked_row.push_back(i);
        }
        for (int64_t k = below.start[at]; k < below.start[at + 1]; ++k) {
          int64_t callee = below.values[k], number = static_cast<int64_t>(made.parts.size());
          if (!cut[callee]) stack.push_back(callee);
          else if (given_to[callee] != number) {
            given_to[callee] = number;
            part.given.push_back(table.node[callee]);
            part.given_row.push_back(row[callee]);
          }
        }
      }
      made.largest = std::max(made.largest, part.frames);
    }
  }
  return made;
}

}  // namespace rg
