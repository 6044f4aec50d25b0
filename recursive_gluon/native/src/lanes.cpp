#include "lanes.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <set>
#include <string>
#include <utility>

#include "common.h"

namespace rg {
namespace {

// Where and when each chain runs.
struct Schedule {
  std::vector<int32_t> order;  // chains in the order in which they start
  std::vector<int32_t> lane;   // of each chain
  std::vector<double> finish;  // of each chain
};

class Scheduler {
 public:
  Scheduler(const std::vector<std::vector<int32_t>>& after, const std::vector<double>& cost, int32_t lanes)
      : after_(after), cost_(cost), chains_(static_cast<int32_t>(after.size())), tail_(lanes, -1) {
    check_input(lanes);
    if (cost_.empty()) cost_.assign(after.size(), 1.0);
    before_.resize(after.size());
    for (int32_t c = 0; c < chains_; ++c)
      for (int32_t next : after_[c]) before_[next].push_back(c);
  }

  const std::vector<std::vector<int32_t>>& before() const { return before_; }
  double cost(int32_t chain) const { return cost_[chain]; }

  // The cost from each chain's begin to the end of all that waits for it. Throws where chains wait in a circle.
  std::vector<double> remaining() const {
    std::vector<int32_t> waits = counts(after_), ready;
    std::vector<double> path(after_.size(), 0);
    for (int32_t c = 0; c < chains_; ++c)
      if (waits[c] == 0) ready.push_back(c);
    for (size_t i = 0; i < ready.size(); ++i) {  // from the ends backwards
      int32_t c = ready[i];
      for (int32_t next : after_[c]) path[c] = std::max(path[c], path[next]);
      path[c] += cost_[c];
      for (int32_t prior : before_[c])
        if (--waits[prior] == 0) ready.push_back(prior);
    }
    if (ready.size() == after_.size()) return path;
    int32_t stuck = static_cast<int32_t>(std::find_if(waits.begin(), waits.end(), [](int32_t w) { return w > 0; }) -
                                         waits.begin());
    throw Error(Kind::kProgram, "chains wait for one another in a circle, which chain " + std::to_string(stuck) +
                                    " leads into; expected a graph without circles");
  }

  Schedule schedule(const std::vector<double>& remaining) {
    Schedule s;
    s.lane.assign(after_.size(), -1);
    s.finish.assign(after_.size(), 0);
    std::vector<int32_t> waits = counts(before_);
    auto later = [&](int32_t a, int32_t b) {
      return remaining[a] != remaining[b] ? remaining[a] < remaining[b] : a > b;
    };
    std::priority_queue<int32_t, std::vector<int32_t>, decltype(later)> ready(later);
    for (int32_t c = 0; c < chains_; ++c)
      if (waits[c] == 0) ready.push(c);
    std::set<std::pair<double, int32_t>> idle;  // (since when, lane)
    for (size_t l = 0; l < tail_.size(); ++l) idle.insert({0.0, static_cast<int32_t>(l)});
    using End = std::pair<double, int32_t>;  // (when, chain)
    std::priority_queue<End, std::vector<End>, std::greater<End>> running;
    double now = 0;
    for (;;) {
      while (!ready.empty() && !idle.empty()) {
        int32_t c = ready.top();
        ready.pop();
        auto lane = choose(s, c, idle);
        s.lane[c] = lane->second;
        s.finish[c] = now + cost_[c];
        tail_[lane->second] = c;
        idle.erase(lane);
        s.order.push_back(c);
        running.push({s.finish[c], c});
      }
      if (running.empty()) return s;
      now = running.top().first;
      while (!running.empty() && running.top().first <= now) {
        int32_t c = running.top().second;
        running.pop();
        idle.insert({now, s.lane[c]});
        for (int32_t next : after_[c])
          if (--waits[next] == 0) ready.push(next);
      }
    }
  }

 private:
  void check_input(int32_t lanes) const {
    check(lanes >= 1, Kind::kProgram, "a plan needs at least one lane");
    check(cost_.empty() || cost_.size() == after_.size(), Kind::kProgram, "a plan of lanes needs one cost a chain, or none");
    for (double c : cost_)
      if (!(c >= 0) || std::isinf(c))
        throw Error(Kind::kProgram, "a chain costs " + std::to_string(c) + "; expected a number that is finite and not "
                                    "negative");
    for (const auto& list : after_)
      for (int32_t next : list)
        if (next < 0 || next >= chains_)
          throw Error(Kind::kProgram, "chain " + std::to_string(next) + " is to wait, but there are chains 0 to " +
                                          std::to_string(chains_ - 1));
  }

  static std::vector<int32_t> counts(const std::vector<std::vector<int32_t>>& lists) {
    std::vector<int32_t> n;
    n.reserve(lists.size());
    for (const auto& list : lists) n.push_back(static_cast<int32_t>(list.size()));
    return n;
  }

  // Behind the predecessor that ended last, where nothing is behind it: that dependency then needs no event.
  std::set<std::pair<double, int32_t>>::const_iterator choose(const Schedule& s, int32_t chain,
                                                              const std::set<std::pair<double, int32_t>>& idle) const {
    double last = 0;
    for (int32_t prior : before_[chain]) last = std::max(last, s.finish[prior]);
    for (int32_t prior : before_[chain]) {
      if (s.finish[prior] < last || tail_[s.lane[prior]] != prior) continue;
      auto found = idle.find({last, s.lane[prior]});
      if (found != idle.end()) return found;
    }
    return idle.begin();
  }

  const std::vector<std::vector<int32_t>>& after_;
  std::vector<std::vector<int32_t>> before_;
  std::vector<double> cost_;
  int32_t chains_;
  std::vector<int32_t> tail_;  // of each lane: its last chain
};

// Which chains each chain must wait for by an event. A clock holds, for each lane, how many of its chains are known to
// have ended.
std::vector<std::vector<int32_t>> find_waits(const Schedule& s, const std::vector<std::vector<int32_t>>& before,
                                             size_t lanes) {
  size_t chains = before.size();
  std::vector<int32_t> place(chains), turn(chains), count(lanes, 0);  // in its lane; in the order of all
  std::vector<int32_t> ended(chains * lanes, 0), known(lanes * lanes, 0);
  std::vector<std::vector<int32_t>> waits(chains);
  for (size_t i = 0; i < chains; ++i) {
    int32_t c = s.order[i], lane = s.lane[c];
    turn[c] = static_cast<int32_t>(i);
    int32_t* clock = &known[static_cast<size_t>(lane) * lanes];
    // The latest first: what it waited for itself needs no wait here, and nothing earlier can have waited for it.
    std::vector<int32_t> priors = before[c];
    std::sort(priors.begin(), priors.end(), [&](int32_t a, int32_t b) { return turn[a] > turn[b]; });
    for (int32_t prior : priors) {
      if (place[prior] < clock[s.lane[prior]]) continue;
      waits[c].push_back(prior);
      const int32_t* theirs = &ended[static_cast<size_t>(prior) * lanes];
      for (size_t l = 0; l < lanes; ++l) clock[l] = std::max(clock[l], theirs[l]);
    }
    place[c] = count[lane]++;
    clock[lane] = count[lane];  // what comes behind it in the lane starts after it
    std::copy(clock, clock + lanes, ended.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(c) * lanes));
  }
  return waits;
}

}  // namespace

LanePlan plan_lanes(const std::vector<std::vector<int32_t>>& after, const std::vector<double>& cost, int32_t lanes) {
  Scheduler scheduler(after, cost, lanes);
  std::vector<double> remaining = scheduler.remaining();
  Schedule s = scheduler.schedule(remaining);
  std::vector<std::vector<int32_t>> waits = find_waits(s, scheduler.before(), static_cast<size_t>(lanes));

  LanePlan plan;
  plan.lanes.resize(lanes);
  plan.lane_cost.assign(lanes, 0);
  std::vector<int32_t> event(after.size(), -1);
  for (int32_t c : s.order)
    for (int32_t prior : waits[c])
      if (event[prior] < 0) event[prior] = plan.events++;
  for (int32_t c : s.order) {
    int32_t lane = s.lane[c];
    auto put = [&](LaneStep step, int32_t id) {
      plan.lanes[lane].push_back({step, id});
      plan.issue.push_back(lane);
    };
    for (int32_t prior : waits[c]) put(LaneStep::kWait, event[prior]);
    put(LaneStep::kLaunch, c);
    if (event[c] >= 0) put(LaneStep::kRecord, event[c]);
    plan.lane_cost[lane] += scheduler.cost(c);
    plan.critical_path = std::max(plan.critical_path, remaining[c]);
    plan.makespan = std::max(plan.makespan, s.finish[c]);
  }
  return plan;
}

}  // namespace rg
