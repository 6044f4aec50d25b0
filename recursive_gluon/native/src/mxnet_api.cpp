// Runs on NDArrays in the caller's thread, and their gradients on MXNet's tape. Through MXNet's C API alone, whose binary
// interface is stable; why this way is in docs/design/0005.
#include <algorithm>
#include <memory>
#include <mutex>

#include "api.h"
#include "mxnet_arrays.h"

namespace rg {
namespace {

// Data of an array that others may still be writing.
const void* ready(NDArrayHandle array) {
  want(MXNDArrayWaitToRead(array));
  return data_of(array);
}

std::mutex g_mutex;
struct Failure {
  Kind kind = Kind::kOk;
  std::string text;
} g_failed;  // the last backward that failed

// NDArrays that are let go of together.
struct Held {
  std::vector<NDArrayHandle> arrays;
  Held() = default;
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    for (NDArrayHandle handle : arrays)
      if (handle != nullptr) MXNDArrayFree(handle);
  }
};

// A field's rows in the host's memory; `type` as in FieldView.
std::vector<char> host_copy(NDArrayHandle array, int64_t count, int64_t type) {
  std::vector<char> copy(static_cast<size_t>(count * FieldView::kBytes[type]));
  if (count > 0) want(MXNDArraySyncCopyToCPU(array, copy.data(), static_cast<size_t>(count)));
  return copy;
}

enum Part : int32_t { kSharedPart, kTablePart, kFieldPart, kArgPart, kParts };

// A run on the tape: what its gradient needs, until MXNet lets go of it.
struct Recorded {
  std::unique_ptr<Run> run;
  Held rows;                            // what was looked up, a table each
  std::vector<int32_t> part, index;     // of each input on the tape: shared, table, field or argument; its number
  std::vector<int32_t> outputs;         // the program's output that each output on the tape is
  size_t counts[kParts] = {0, 0, 0, 0};
  MXCallbackList callbacks{};
  int (*functions[2])(void) = {nullptr, nullptr};
  void* contexts[2] = {nullptr, nullptr};
};

int failed(Kind kind, const char* text) {
  std::lock_guard<std::mutex> guard(g_mutex);
  g_failed = {kind, text};
  return 0;
}

int backward(int num_ograds, int num_igrads, void** arrays, const int* reqs, const int, void* state) {
  Recorded& r = *static_cast<Recorded*>(state);
  int ok = 1;
  try {
    Outputs out;
    out.ograds.assign(r.run->program->functions[r.run->program->root].out_ports.size(), nullptr);
    for (int i = 0; i < num_ograds; ++i) out.ograds[static_cast<size_t>(r.outputs[i])] = data_of(arrays[i]);
    std::vector<Gradient>* parts[] = {&out.shared, &out.tables, &out.fields, &out.args};
    for (int p = 0; p < kParts; ++p) parts[p]->resize(r.counts[p]);
    for (int i = 0; i < num_igrads; ++i) {
      Req req = static_cast<Req>(reqs[i]);
      (*parts[r.part[i]])[r.index[i]] = {req == Req::kNull ? nullptr : data_of(arrays[num_ograds + i]), req};
    }
    std::vector<const void*> rows;
    for (NDArrayHandle array : r.rows.arrays) rows.push_back(ready(array));
    r.run->execution->use_rows(rows);
    r.run->execution->backward(out);
  } catch (const Error& error) {
    ok = failed(error.kind, error.what());
  } catch (const std::exception& error) {
    ok = failed(Kind::kInternal, error.what());
  }
  for (int i = 0; i < num_ograds + num_igrads; ++i) MXNDArrayFree(arrays[i]);
  return ok;
}

int forget(void* state) {
  delete static_cast<Recorded*>(state);
  return 1;
}

// An operator's attributes as MXNet takes them.
struct Attributes {
  std::vector<std::string> text;
  std::vector<const char*> keys, values;
};

// What does not change from call to call.
struct Caller {
  std::shared_ptr<const Program> program;
  std::vector<NDArrayHandle> shared, tables;   // the caller's, who keeps them; null: computed for each call
  std::vector<uint8_t> shared_wanted, table_wanted;
  std::vector<int32_t> fields;                 // of the program's fields: their place among the forest's arrays
  std::vector<int64_t> field_types, field_cols;
  std::vector<uint8_t> field_taped;            // whether it is an input on the tape
  std::vector<std::vector<int64_t>> outputs;   // shapes without the axis of rows
  std::vector<Attributes> embeddings;          // of each table, for MXNet's operator
  int32_t type = 0, lanes = 0;
  Context context;
  std::string lane_library;                    // of the backend for arrays on a GPU, else empty
  bool record = false;
  int64_t recompute = 0;
};

void* embedding_op() {
  static void* op = [] {
    void* found = nullptr;
    want(NNGetOpHandle("Embedding", &found));
    return found;
  }();
  return op;
}

// The rows of a table that a run looks up, by MXNet's operator: an input on the tape, whose gradient is the user's,
// sparse or dense. Nobody waits for it before the gradient does: the run itself reads the table.
NDArrayHandle look_up(const Caller& caller, const Run& run, size_t table) {
  int64_t count = run.execution->lookups(static_cast<int32_t>(table));
  // Of no rows one that nobody reads: the table's gradient is zero, not missing.
  NDArrayHandle index = make_integers(std::max<int64_t>(count, 1), caller.context, [&](int32_t* to) {
    to[0] = 0;
    run.execution->looked_up(static_cast<int32_t>(table), to);
  });
  Held holds_index;
  holds_index.arrays.push_back(index);
  NDArrayHandle inputs[2] = {index, caller.tables[table]};
  int num_outputs = 0;
  NDArrayHandle* outputs = nullptr;
  const int* types = nullptr;
  const Attributes& with = caller.embeddings[table];
  auto* keys = const_cast<const char**>(with.keys.data());
  auto* values = const_cast<const char**>(with.values.data());
  want(MXImperativeInvokeEx(embedding_op(), 2, inputs, &num_outputs, &outputs, static_cast<int>(with.keys.size()), keys,
                            values, &types));
  return outputs[0];
}

}  // namespace

// The same layout as CallerArgs of runtime/core/calls.py.
struct CallerArgs {
  NDArrayHandle *shared, *tables;
  const int32_t *shared_wanted, *table_wanted, *fields, *field_taped;
  const int64_t *field_types, *field_cols;
  const int64_t *output_ndims, *output_dims;
  const char* const* embeddings;  // key, value, ..., null; a table each
  int64_t recompute;
  const char* lane_library;       // of the backend for arrays on a GPU, else null
  int32_t num_fields, num_outputs, type, device_type, device, record;
  int32_t lanes;                  // 0: the workers
};

// The same layout as Invocation of runtime/core/calls.py.
struct Invocation {
  const std::shared_ptr<const Structure>* structure;
  NDArrayHandle *arrays, *args, *computed;  // the forest's; tensors for the roots; shared values of this call, or null
  const int64_t* ints;
  int64_t max_depth, max_nodes;
  uint64_t seed;
  int32_t num_args, num_ints, returns_nodes, only;  // only: the one output that is asked for, or -1
};

}  // namespace rg

using namespace rg;

extern "C" {

RG_API void* rg_caller_new(void* program, const CallerArgs* a) {
  void* made = nullptr;
  guarded([&] {
    auto c = std::make_unique<Caller>();
    c->program = *static_cast<std::shared_ptr<const Program>*>(program);
    c->shared.assign(a->shared, a->shared + c->program->shared_inputs);
    c->shared_wanted.assign(a->shared_wanted, a->shared_wanted + c->program->shared_inputs);
    size_t tables = c->program->table_rows.size();
    c->tables.assign(a->tables, a->tables + tables);
    c->table_wanted.assign(a->table_wanted, a->table_wanted + tables);
    c->embeddings.resize(tables);
    const char* const* text = a->embeddings;
    for (Attributes& with : c->embeddings) {
      for (; *text != nullptr; ++text) with.text.push_back(*text);
      ++text;
      for (size_t i = 0; i < with.text.size(); i += 2) {
        with.keys.push_back(with.text[i].c_str());
        with.values.push_back(with.text[i + 1].c_str());
      }
    }
    c->fields.assign(a->fields, a->fields + a->num_fields);
    c->field_taped.assign(a->field_taped, a->field_taped + a->num_fields);
    c->field_types.assign(a->field_types, a->field_types + a->num_fields);
    c->field_cols.assign(a->field_cols, a->field_cols + a->num_fields);
    const int64_t* dims = a->output_dims;
    for (int32_t j = 0; j < a->num_outputs; dims += a->output_ndims[j++])
      c->outputs.emplace_back(dims, dims + a->output_ndims[j]);
    c->type = a->type;
    c->context = {a->device_type, a->device};
    c->lanes = a->lanes;
    if (a->lane_library != nullptr) c->lane_library = a->lane_library;
    c->record = a->record != 0;
    c->recompute = a->recompute;
    made = c.release();
  });
  return made;
}
RG_API void rg_caller_free(void* caller) { delete static_cast<Caller*>(caller); }

// Runs a call in the caller's thread and, where asked to, records it on MXNet's tape, which then owns the run. `outs`
// gets the outputs (one, if `only` says so) and, for max_nodes, the counts.
RG_API int rg_invoke(void* caller, const Invocation* a, NDArrayHandle* outs) {
  Held made;
  int failed = guarded([&] {
    const Caller& c = *static_cast<Caller*>(caller);
    std::vector<const void*> fields;
    for (int32_t place : c.fields) fields.push_back(ready(a->arrays[place]));
    std::vector<std::vector<char>> copies;  // of what lies on a GPU: the plan is made on the host
    std::vector<const void*> seen;
    for (size_t f = 0; f < fields.size() && c.context.gpu(); ++f) {
      copies.push_back(host_copy(a->arrays[c.fields[f]], (*a->structure)->nodes * c.field_cols[f], c.field_types[f]));
      seen.push_back(copies[f].data());
    }
    RunArgs args{a->structure, c.context.gpu() ? seen.data() : fields.data(), c.field_types.data(), c.field_cols.data(),
                 a->ints, a->max_depth, a->max_nodes, c.recompute, static_cast<int32_t>(fields.size()), a->num_ints,
                 a->returns_nodes, 0, c.lanes, c.lane_library.empty() ? nullptr : c.lane_library.c_str(), fields.data(),
                 c.context.id, 1, 1};
    std::unique_ptr<Run> run = make_run(c.program, args);
    auto recorded = std::make_unique<Recorded>();
    // What is computed from parameters for each call comes in `computed`.
    std::vector<NDArrayHandle> shared = c.shared;
    for (size_t i = 0; i < shared.size(); ++i)
      if (shared[i] == nullptr) shared[i] = a->computed[i];
    bool planned = run->plan != nullptr && run->plan->finished();
    int64_t rows = planned ? static_cast<int64_t>(run->plan->returned.size())
                           : a->returns_nodes ? run->forest.nodes : run->forest.trees;
    std::vector<int32_t> asked;
    for (int32_t j = 0; j < static_cast<int32_t>(c.outputs.size()); ++j)
      if (a->only < 0 || a->only == j) asked.push_back(j);
    for (int32_t j : asked) {
      std::vector<int64_t> shape{rows};
      if (a->max_nodes > 0) shape = {run->forest.trees, a->max_nodes};
      shape.insert(shape.end(), c.outputs[j].begin(), c.outputs[j].end());
      made.arrays.push_back(make_array(shape, c.type, c.context));
    }
    auto look_ups = [&] {
      for (size_t t = 0; t < c.tables.size(); ++t) recorded->rows.arrays.push_back(look_up(c, *run, t));
    };
    // Where the order of rows is known, before anybody waits for parameters, which the step before may still write.
    bool ahead = planned && run->parts == 0;
    if (c.record && ahead) look_ups();
    Inputs in;
    for (NDArrayHandle array : shared) in.shared.push_back(ready(array));
    for (NDArrayHandle array : c.tables) in.tables.push_back(ready(array));
    for (int32_t i = 0; i < a->num_args; ++i) in.args.push_back(ready(a->args[i]));
    in.seed = a->seed;
    in.snapshot = c.record;
    std::vector<Wanted> wanted;
    for (size_t i = 0; i < asked.size(); ++i) wanted.push_back({asked[i], data_of(made.arrays[i])});
    run->execution->forward_into(in, wanted);
    if (a->max_nodes > 0) {
      made.arrays.push_back(make_integers(run->forest.trees, c.context, [&](int32_t* to) {
        std::copy(run->plan->counts.begin(), run->plan->counts.end(), to);
      }));
    }
    std::vector<NDArrayHandle> inputs;
    if (c.record) {
      if (!ahead) look_ups();
      auto tape = [&](NDArrayHandle array, int32_t part, size_t index) {
        inputs.push_back(array);
        recorded->part.push_back(part);
        recorded->index.push_back(static_cast<int32_t>(index));
      };
      for (size_t t = 0; t < c.tables.size(); ++t)
        if (c.table_wanted[t]) tape(recorded->rows.arrays[t], kTablePart, t);
      for (size_t i = 0; i < shared.size(); ++i)
        if (c.shared_wanted[i]) tape(shared[i], kSharedPart, i);
      for (size_t f = 0; f < c.fields.size(); ++f)
        if (c.field_taped[f]) tape(a->arrays[c.fields[f]], kFieldPart, f);
      for (int32_t i = 0; i < a->num_args; ++i) tape(a->args[i], kArgPart, static_cast<size_t>(i));
    }
    if (!inputs.empty()) {
      recorded->counts[kSharedPart] = shared.size();
      recorded->counts[kTablePart] = c.tables.size();
      recorded->counts[kFieldPart] = c.fields.size();
      recorded->counts[kArgPart] = static_cast<size_t>(a->num_args);
      recorded->outputs = asked;
      recorded->functions[kCustomFunctionBackward] = reinterpret_cast<int (*)(void)>(backward);
      recorded->functions[kCustomFunctionDelete] = reinterpret_cast<int (*)(void)>(forget);
      recorded->contexts[0] = recorded->contexts[1] = recorded.get();
      recorded->callbacks = {2, recorded->functions, recorded->contexts};
      recorded->run = std::move(run);
      Recorded* owned = recorded.release();  // MXNet's tape deletes it, at once where recording fails
      want(MXCustomFunctionRecord(static_cast<int>(inputs.size()), inputs.data(), static_cast<int>(asked.size()),
                                  made.arrays.data(), &owned->callbacks));
    }
    std::copy(made.arrays.begin(), made.arrays.end(), outs);
    made.arrays.clear();
  });
  return failed;
}

// The kind of error of a backward that failed, and what it said; 0 where none did since the last time.
RG_API int32_t rg_backward_failure(char* to, int64_t room) {
  std::lock_guard<std::mutex> guard(g_mutex);
  Failure failure;
  std::swap(failure, g_failed);
  size_t n = std::min(failure.text.size(), static_cast<size_t>(room - 1));
  failure.text.copy(to, n);
  to[n] = 0;
  return static_cast<int32_t>(failure.kind);
}

}  // extern "C"
