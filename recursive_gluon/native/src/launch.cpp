// What every backend asks of a launch before it runs it.
#include <algorithm>
#include <string>

#include "backend.h"
#include "common.h"

namespace rg {
namespace {

struct Needs {
  const char* name;
  size_t in, out;
};
constexpr Needs kNeeds[] = {{"kEw", 0, 0},     {"kMap", 1, 1},    {"kReduce", 1, 1},     {"kSoft", 1, 1},
                            {"kBdot", 2, 1},   {"kPick", 2, 1},   {"kOneHot", 1, 1},     {"kColumnSums", 1, 1},
                            {"kTranspose", 1, 1}, {"kGemm", 2, 1}};

void operands(const char* name, const char* which, size_t seen, size_t wanted) {
  if (seen != wanted)
    throw Error(Kind::kProgram, std::string("a launch of ") + name + " has " + std::to_string(seen) + " " + which +
                                    ", expected " + std::to_string(wanted));
}

// Sources and targets of an element-wise program: as many as it names.
void check_program(const EwProgram* ew, size_t in, size_t out) {
  check(ew != nullptr, Kind::kProgram, "a launch of kEw has no program");
  check(ew->buffer.size() == ew->inputs.size() + ew->code.size(), Kind::kProgram,
        "a launch of kEw has a program that was not prepared; call prepare() first");
  int32_t sources = 0, targets = 0;
  for (const EwInput& i : ew->inputs) sources = std::max(sources, i.source + 1);
  for (const EwOutput& o : ew->outputs) targets = std::max(targets, o.target + 1);
  operands("kEw", "sources", std::min(in, static_cast<size_t>(sources)), static_cast<size_t>(sources));
  operands("kEw", "targets", std::min(out, static_cast<size_t>(targets)), static_cast<size_t>(targets));
}

}  // namespace

template <class T>
void check_launch(const Launch<T>& l) {
  size_t operation = static_cast<size_t>(l.operation);
  check(operation < static_cast<size_t>(Operation::kCount), Kind::kProgram, "a launch of an operation that is unknown");
  check(l.in.size() <= kMostOperands && l.out.size() <= kMostOperands, Kind::kProgram,
        "a launch has more than 64 operands");
  if (l.operation == Operation::kEw) return check_program(l.ew, l.in.size(), l.out.size());
  const Needs& needs = kNeeds[operation];
  operands(needs.name, "sources", l.in.size(), needs.in);
  operands(needs.name, "targets", l.out.size(), needs.out);
  check(l.operation != Operation::kMap || l.map != nullptr, Kind::kProgram, "a launch of kMap has no map");
  for (int64_t size : {l.rows, l.cols, l.groups, l.length, l.m, l.n, l.k})
    check(size >= 0, Kind::kProgram, "a launch has a negative size");
}

template void check_launch(const Launch<float>&);
template void check_launch(const Launch<double>&);

}  // namespace rg
