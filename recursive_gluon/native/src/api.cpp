// The core's C interface, for ctypes. Functions return 0, or -1 after which rg_error() says what went wrong.
#include <algorithm>
#include <cstring>
#include <new>

#include "api.h"
#include "blas.h"
#include "chunks.h"
#include "interrupt.h"
#include "lane_execution.h"
#include "parted.h"
#include "workers.h"

namespace rg {
namespace {

struct LastError {
  int32_t kind = 0;
  std::string text;
  std::vector<int64_t> detail, sites;
};
thread_local LastError t_error;

}  // namespace

void note_error() noexcept {
  try {
    throw;
  } catch (const Fault& e) {
    t_error = {static_cast<int32_t>(e.kind), e.what(), e.detail, e.sites};
  } catch (const Error& e) {
    t_error = {static_cast<int32_t>(e.kind), e.what(), {}, {}};
  } catch (const std::bad_alloc&) {
    t_error = {static_cast<int32_t>(Kind::kMemory), "no memory", {}, {}};
  } catch (const std::length_error&) {
    t_error = {static_cast<int32_t>(Kind::kMemory), "no memory", {}, {}};
  } catch (const std::exception& e) {
    t_error = {static_cast<int32_t>(Kind::kInternal), e.what(), {}, {}};
  } catch (...) {
    t_error = {static_cast<int32_t>(Kind::kInternal), "an unknown exception", {}, {}};
  }
}

std::unique_ptr<Run> make_run(const std::shared_ptr<const Program>& program, const RunArgs& a) {
  auto run = std::make_unique<Run>();
  run->program = program;
  run->forest = Forest(*a.structure);
  Forest& f = run->forest;
  // In training MXNet's threads want the cores before the run does.
  if (!program->keep && (f.nodes > 64 || program->largest_matrix > 100000)) expect_run();
  for (int32_t i = 0; i < a.num_fields; ++i) {
    check(a.field_types[i] >= 0 && a.field_types[i] < 6, Kind::kProgram, "the type of a field");
    f.fields.push_back({a.field_data[i], static_cast<int32_t>(a.field_types[i]), f.nodes, a.field_cols[i],
                        a.field_device == nullptr ? nullptr : a.field_device[i]});
  }
  f.check(*program);
  PlanArgs with{std::vector<int64_t>(a.ints, a.ints + a.num_ints), a.max_depth, a.returns_nodes != 0};
  bool parted = program->keep && a.recompute > 0;
  if (a.chunks != 0 && a.lanes == 0 && !parted && a.max_nodes <= 0) {
    std::vector<Chunk> chunks = cut_large(*program, f);
    run->chunks = static_cast<int64_t>(chunks.size());
    if (!chunks.empty()) {
      run->execution = make_chunked(*program, f, with, std::move(chunks));
      run->execution->recompute = a.recompute != 0;
      return run;
    }
  }
  run->plan = std::make_unique<Plan>(*program, f, with.ints, a.max_depth, with.nodes, a.max_nodes);
  if (run->plan->frames.waiting.empty())  // structure alone decides
    while (run->plan->next_round()) {}
  if (a.lanes < 0)
    throw Error(Kind::kProgram, "a run on " + std::to_string(a.lanes) + " lanes; expected 0 (the workers) or a number of lanes");
  if (parted && a.lanes == 0) {
    Parts parts = cut_forest(*run->plan, a.recompute);
    run->whole = a.trace ? "a trace shows one plan" : parts.whole;
    if (run->whole.empty()) {
      run->parts = static_cast<int64_t>(parts.parts.size());
      run->largest_part = parts.largest;
      run->execution = make_parted(*run->plan, std::move(parts), a.max_depth);
      return run;
    }
  }
  if (a.lanes == 0) run->execution = make_execution(*run->plan);
  else
    run->execution = make_lane_execution(*run->plan, lend_backend(a.lane_library, a.device, a.lanes), a.resident != 0);
  run->execution->recompute = a.recompute != 0;
  run->execution->trace = a.trace != 0;
  return run;
}

}  // namespace rg

using namespace rg;

extern "C" {

RG_API int rg_error(int32_t* kind, char* text, int64_t room, int64_t* detail, int64_t* num_detail, int64_t* sites,
                    int64_t* num_sites) {
  const auto& e = t_error;
  *kind = e.kind;
  if (room > 0) {
    size_t n = std::min(e.text.size(), static_cast<size_t>(room - 1));
    std::memcpy(text, e.text.data(), n);
    text[n] = 0;
  }
  auto give = [](const std::vector<int64_t>& from, int64_t* to, int64_t* n) {
    *n = std::min<int64_t>(*n, static_cast<int64_t>(from.size()));
    std::copy_n(from.begin(), *n, to);
  };
  give(e.detail, detail, num_detail);
  give(e.sites, sites, num_sites);
  return 0;
}

RG_API void* rg_program_new(const int64_t* words, int64_t count) {
  void* made = nullptr;
  guarded([&] { made = new std::shared_ptr<const Program>(decode(words, static_cast<size_t>(count))); });
  return made;
}
RG_API void rg_program_free(void* program) { delete static_cast<std::shared_ptr<const Program>*>(program); }

RG_API void* rg_run_new(void* program, const RunArgs* args) {
  void* made = nullptr;
  guarded([&] { made = make_run(*static_cast<std::shared_ptr<const Program>*>(program), *args).release(); });
  return made;
}
RG_API void rg_run_free(void* run) { delete static_cast<Run*>(run); }

RG_API int64_t rg_run_lookups(void* run, int32_t table) {
  int64_t rows = -1;
  guarded([&] { rows = static_cast<Run*>(run)->execution->lookups(table); });
  return rows;
}
RG_API int rg_run_looked_up(void* run, int32_t table, int32_t* to) {
  return guarded([&] { static_cast<Run*>(run)->execution->looked_up(table, to); });
}

RG_API int rg_run_forward(void* run, const void** shared, const void** tables, const void** args, uint64_t seed) {
  return guarded([&] {
    Run& r = *static_cast<Run*>(run);
    const Program& p = *r.program;
    Inputs in;
    in.shared.assign(shared, shared + p.shared_inputs);
    in.tables.assign(tables, tables + p.table_rows.size());
    in.args.assign(args, args + p.functions[p.root].arg_ports.size());
    in.seed = seed;
    r.execution->forward(in);
  });
}

RG_API int64_t rg_run_rows(void* run) {
  Run& r = *static_cast<Run*>(run);
  return static_cast<int64_t>(r.plan->returned.size());
}
RG_API int rg_run_output(void* run, int32_t index, void* to) {
  return guarded([&] { static_cast<Run*>(run)->execution->output(index, to); });
}
RG_API int rg_run_counts(void* run, int32_t* to) {
  return guarded([&] {
    const Ids& counts = static_cast<Run*>(run)->plan->counts;
    std::copy(counts.begin(), counts.end(), to);
  });
}

// Gradients in the order of shared inputs, tables, fields, arguments: `count` of each; data and requests of all.
RG_API int rg_run_backward(void* run, const void** ograds, const int64_t* counts, void** data, const int32_t* reqs) {
  return guarded([&] {
    Run& r = *static_cast<Run*>(run);
    Outputs out;
    out.ograds.assign(ograds, ograds + r.program->functions[r.program->root].out_ports.size());
    int64_t at = 0, part = 0;
    for (auto* list : {&out.shared, &out.tables, &out.fields, &out.args}) {
      for (int64_t i = 0; i < counts[part]; ++i, ++at)
        list->push_back({data[at], data[at] == nullptr ? Req::kNull : static_cast<Req>(reqs[at])});
      ++part;
    }
    r.execution->backward(out);
  });
}

// Figures of a run; -1 for what there is not, or where it cannot be planned.
RG_API int64_t rg_run_figure(void* run, int32_t what, int64_t index) {
  const Run& r = *static_cast<Run*>(run);
  auto of = [&](const std::vector<int64_t>& list) {
    return index >= 0 && index < static_cast<int64_t>(list.size()) ? list[static_cast<size_t>(index)] : -1;
  };
  auto figure = [&]() -> int64_t {
    switch (what) {
      case 2: return r.execution->bytes();
      case 7: {
        Footprint bytes = r.execution->planned();
        return of({bytes.block, bytes.apart, bytes.without_reuse});
      }
      case 8: return r.parts;               // 0: the forest is not cut
      case 9: return r.largest_part;        // frames
      case 10: return r.chunks;             // 0: the forest is not cut
      default: break;
    }
    if (r.plan == nullptr) return -1;
    switch (what) {
      case 0: return r.plan->rounds;
      case 1: return static_cast<int64_t>(r.plan->batches.size());
      case 3: return of(r.plan->segment_size);
      case 4: return of(r.plan->layout_size);  // rows of a buffer
      case 5: return of(r.plan->layout_rows);  // the same, if no row were used again
      case 6: return r.plan->shards;
      default: return -1;
    }
  };
  int64_t found = -1;
  guarded([&] { found = figure(); });
  return found;
}
// Why a run that was to be computed part by part is not; empty where it is.
RG_API const char* rg_run_whole(void* run) { return static_cast<Run*>(run)->whole.c_str(); }
// segment, start, stop, level, round, shard of a batch
RG_API int rg_run_batch(void* run, int64_t index, int64_t* to) {
  const Batch& b = static_cast<Run*>(run)->plan->batches[static_cast<size_t>(index)];
  int64_t values[] = {b.segment, b.start, b.stop, b.level, b.round, b.shard};
  std::copy_n(values, 6, to);
  return 0;
}
RG_API int64_t rg_run_after(void* run, int64_t index, int32_t* to) {
  const Batch& b = static_cast<Run*>(run)->plan->batches[static_cast<size_t>(index)];
  if (to != nullptr) std::copy(b.after.begin(), b.after.end(), to);
  return static_cast<int64_t>(b.after.size());
}
// Spans of a traced run, five numbers each: batch, step, worker, begin, end.
RG_API int64_t rg_run_spans(void* run, int64_t* to) {
  int64_t n = 0;
  for (const auto& list : static_cast<Run*>(run)->execution->spans)
    for (const Span& s : list) {
      if (to != nullptr) {
        int64_t values[] = {s.batch, s.step, s.worker, s.begin_ns, s.end_ns};
        std::copy_n(values, 5, to + 5 * n);
      }
      ++n;
    }
  return n;
}

// Whether a backend can be made, and computes; see rg_error() for why not.
RG_API int rg_try_lanes(const char* library, int32_t device, int32_t lanes) {
  return guarded([&] { try_backend(*lend_backend(library, device, lanes)); });
}

RG_API int32_t rg_workers(int32_t count) {  // sets it where `count` is positive
  if (count > 0) set_worker_count(count);
  return worker_count();
}
RG_API void rg_set_poll(Poll poll) { set_poll(poll); }
RG_API void rg_trim() { trim(0); }
RG_API int64_t rg_borrowed_bytes() { return borrowed_bytes(); }
RG_API int rg_blas_open(const char* kind, const char* path) { return blas_open(kind, path) ? 1 : 0; }
RG_API const char* rg_blas_name() { return blas_name(); }
RG_API const char* rg_isa_name() { return isa_name(best_isa()); }
RG_API int64_t rg_ew_names(char* to, int64_t room) {
  std::string all;
#define RG_EW(name, operands) all += #name "," #operands ";";
#include "ew_ops.def"
#undef RG_EW
  if (static_cast<int64_t>(all.size()) < room) std::memcpy(to, all.c_str(), all.size() + 1);
  return static_cast<int64_t>(all.size());
}
RG_API int rg_gemm(int32_t turn_a, int32_t turn_b, int64_t m, int64_t n, int64_t k, const float* a, const float* b,
                   float* c) {
  return guarded([&] { gemm<float>(turn_a != 0, turn_b != 0, m, n, k, a, turn_a ? m : k, b, turn_b ? k : n, 0.0f, c, n); });
}

}  // extern "C"
