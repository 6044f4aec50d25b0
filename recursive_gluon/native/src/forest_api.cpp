// Forests: trees joined into NDArrays in one call, and structures for runs.
#include <algorithm>
#include <cstring>

#include "api.h"
#include "crc32.h"
#include "mxnet_arrays.h"

namespace rg {
namespace {

// A tree as numpy arrays of the caller; the same layout as TreeView of native/forests.py. Fields have a row a node.
struct TreeView {
  int64_t nodes, edges;
  const int32_t *child_offsets, *children;
  const void* const* fields;
  int64_t dag;
};

// What the trees of a forest have in common; the same layout as LayoutView of native/forests.py. Every number is of
// four bytes: MXNet's type 0 (float32) or 4 (int32).
struct LayoutView {
  int64_t num_fields, name_words;
  const int32_t *names, *types;
  const int64_t *ndims, *dims;  // of a row of each field, one after another
};

constexpr int32_t kMagic = 0x52474631, kVersion = 1, kHeader = 8, kDag = 1;  // as structure.py

std::shared_ptr<const Structure> join(int64_t n, const TreeView* const* trees) {
  int64_t nodes = 0, edges = 0;
  for (int64_t t = 0; t < n; ++t) {
    nodes += trees[t]->nodes;
    edges += trees[t]->edges;
  }
  auto made = std::make_shared<Structure>(n, nodes, edges);
  int32_t node = 0, edge = 0;
  made->tree_offsets[0] = made->child_offsets[0] = 0;
  for (int64_t t = 0; t < n; ++t) {
    const TreeView& tree = *trees[t];
    for (int64_t i = 1; i <= tree.nodes; ++i) made->child_offsets[node + i] = edge + tree.child_offsets[i];
    for (int64_t i = 0; i < tree.edges; ++i)
      made->children[edge + i] = tree.children[i] < 0 ? -1 : node + tree.children[i];
    node += static_cast<int32_t>(tree.nodes);
    edge += static_cast<int32_t>(tree.edges);
    made->tree_offsets[t + 1] = node;
    made->roots[t] = node - 1;
  }
  made->check();
  return made;
}

// Nobody else knows these arrays yet: they are filled without MXNet's engine.
NDArrayHandle packed(const Structure& s, const LayoutView& layout, bool dag, int32_t device) {
  int64_t used = kHeader + layout.name_words + static_cast<int64_t>(s.words.size());
  int64_t width = (used + s.trees - 1) / s.trees;
  NDArrayHandle array = make_array({s.trees, width}, 4, {1, device});
  auto* to = static_cast<int32_t*>(data_of(array));
  const int32_t header[kHeader] = {kMagic, kVersion, static_cast<int32_t>(s.trees), static_cast<int32_t>(s.nodes),
                                   static_cast<int32_t>(s.edges), static_cast<int32_t>(layout.name_words), dag ? kDag : 0, 0};
  std::copy_n(header, kHeader, to);
  std::copy_n(layout.names, layout.name_words, to + kHeader);
  std::copy(s.words.begin(), s.words.end(), to + kHeader + layout.name_words);
  std::fill(to + used, to + s.trees * width, 0);
  uint32_t checksum = crc32(to, static_cast<size_t>(s.trees * width) * sizeof *to);
  std::memcpy(to + kHeader - 1, &checksum, sizeof checksum);
  return array;
}

NDArrayHandle joined(int64_t n, const TreeView* const* trees, int64_t nodes, int64_t field, const LayoutView& layout,
                     const int64_t* dims, int32_t device) {
  std::vector<int64_t> shape{nodes};
  shape.insert(shape.end(), dims, dims + layout.ndims[field]);
  int64_t row = 4;
  for (int64_t d = 0; d < layout.ndims[field]; ++d) row *= dims[d];
  NDArrayHandle array = make_array(shape, layout.types[field], {1, device});
  auto* to = static_cast<char*>(data_of(array));
  for (int64_t t = 0; t < n; ++t) {
    size_t bytes = static_cast<size_t>(trees[t]->nodes * row);
    std::memcpy(to, trees[t]->fields[field], bytes);
    to += bytes;
  }
  return array;
}

std::shared_ptr<const Structure>* owned(std::shared_ptr<const Structure> structure) {
  return new std::shared_ptr<const Structure>(std::move(structure));
}

const Structure& of(void* structure) { return **static_cast<std::shared_ptr<const Structure>*>(structure); }

}  // namespace
}  // namespace rg

using namespace rg;

extern "C" {

RG_API void* rg_structure_new(int64_t trees, int64_t nodes, int64_t edges, const int32_t* tree_offsets,
                              const int32_t* roots, const int32_t* child_offsets, const int32_t* children) {
  void* made = nullptr;
  guarded([&] {
    auto structure = std::make_shared<Structure>(trees, nodes, edges);
    std::copy_n(tree_offsets, trees + 1, structure->tree_offsets);
    std::copy_n(roots, trees, structure->roots);
    std::copy_n(child_offsets, nodes + 1, structure->child_offsets);
    std::copy_n(children, edges, structure->children);
    structure->check();
    made = owned(std::move(structure));
  });
  return made;
}
RG_API void rg_structure_free(void* structure) { delete static_cast<std::shared_ptr<const Structure>*>(structure); }
RG_API void rg_structure_sizes(void* structure, int64_t* sizes) {
  const Structure& s = of(structure);
  sizes[0] = s.trees;
  sizes[1] = s.nodes;
  sizes[2] = s.edges;
}
// The four arrays, one after another.
RG_API void rg_structure_read(void* structure, int32_t* to) {
  const Structure& s = of(structure);
  std::copy(s.words.begin(), s.words.end(), to);
}

// A forest of trees with the same fields: `arrays` gets the packed structure and the fields, and the structure itself
// is returned. Null after an error.
RG_API void* rg_forest_join(int64_t n, const TreeView* const* trees, const LayoutView* layout, int32_t device,
                            NDArrayHandle* arrays, int64_t* sizes) {
  void* made = nullptr;
  std::fill_n(arrays, layout->num_fields + 1, nullptr);
  int failed = guarded([&] {
    auto structure = join(n, trees);
    bool dag = std::any_of(trees, trees + n, [](const TreeView* tree) { return tree->dag != 0; });
    arrays[0] = packed(*structure, *layout, dag, device);
    const int64_t* dims = layout->dims;
    for (int64_t f = 0; f < layout->num_fields; dims += layout->ndims[f++])
      arrays[f + 1] = joined(n, trees, structure->nodes, f, *layout, dims, device);
    sizes[0] = structure->nodes;
    sizes[1] = dag;
    made = owned(std::move(structure));
  });
  for (int64_t f = 0; failed != 0 && f <= layout->num_fields; ++f)
    if (arrays[f] != nullptr) MXNDArrayFree(arrays[f]);
  return made;
}

}  // extern "C"
