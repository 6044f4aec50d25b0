// From a launch to a kernel and its threads.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "../backend.h"
#include "constants.cuh"
#include "kernels.cuh"
#include "products.cuh"

// How a kernel is started; the tests define it as loops over blocks and threads.
#ifndef RG_START_KERNEL
#define RG_START_KERNEL(kernel, blocks, threads, stream, ...) kernel<<<blocks, threads, 0, stream>>>(__VA_ARGS__)
#endif

namespace rg {
namespace cuda {

// One lane, as a launch needs it.
struct LaneOfDevice {
  cudaStream_t stream;
  Products* products;
  Constants* constants;
};

// `count` threads of a kernel, which is told how many they are as its last argument.
template <class... Parameters, class... Arguments>
void start(const LaneOfDevice& lane, int64_t count, void (*kernel)(Parameters...), const Arguments&... arguments) {
  constexpr int64_t kThreads = 256;
  if (count == 0) return;
  int64_t blocks = (count + kThreads - 1) / kThreads;
  check(blocks < (int64_t(1) << 31), Kind::kMemory, "a launch has more elements than a CUDA grid; make batches smaller");
  RG_START_KERNEL(kernel, static_cast<unsigned>(blocks), static_cast<unsigned>(kThreads), lane.stream, arguments..., count);
  ok(cudaGetLastError(), "launch a kernel");
}

template <class Item>
void append(std::string& bytes, const std::vector<Item>& items) {
  bytes.append(reinterpret_cast<const char*>(items.data()), items.size() * sizeof(Item));
}

// The program as the device reads it: buffers in place of values. Steps first, they ask for the widest alignment.
template <class T>
EwCode<T> uploaded(const EwProgram& p, Constants& constants) {
  std::vector<EwLoad> loads;
  std::vector<EwStep<T>> steps;
  std::vector<EwStore> stores;
  auto buffer = [&](int32_t value) { return value < 0 ? 0 : p.buffer[value]; };
  for (size_t v = 0; v < p.inputs.size(); ++v)
    loads.push_back({p.inputs[v].source, p.buffer[v], p.inputs[v].cell ? 1 : 0});
  for (size_t i = 0; i < p.code.size(); ++i) {
    const EwInstr& e = p.code[i];
    steps.push_back({e.op, buffer(e.a), buffer(e.b), buffer(e.c), p.buffer[p.inputs.size() + i], 0,
                     static_cast<T>(e.scalar)});
  }
  for (const EwOutput& o : p.outputs) stores.push_back({p.buffer[o.value], o.target});
  std::string bytes;
  append(bytes, steps);
  append(bytes, loads);
  append(bytes, stores);
  const char* at = static_cast<const char*>(constants.at(bytes));
  const char* after_steps = at + steps.size() * sizeof(EwStep<T>);
  return {reinterpret_cast<const EwLoad*>(after_steps), reinterpret_cast<const EwStep<T>*>(at),
          reinterpret_cast<const EwStore*>(after_steps + loads.size() * sizeof(EwLoad)),
          static_cast<int32_t>(loads.size()), static_cast<int32_t>(steps.size()), static_cast<int32_t>(stores.size())};
}

template <class T>
void run_program(const Launch<T>& l, const LaneOfDevice& lane) {
  static_assert(sizeof(EwOperands<T>) + sizeof(EwCode<T>) + 16 <= 4096, "what a kernel takes as arguments");
  static_assert(sizeof(EwStep<T>) == 24 + sizeof(T), "steps without holes");
  EwOperands<T> operands{};
  std::copy(l.in.begin(), l.in.end(), operands.in);
  std::copy(l.out.begin(), l.out.end(), operands.out);
  EwCode<T> code = uploaded<T>(*l.ew, *lane.constants);
  int64_t cols = l.ew->cols;
  // A thread's own memory is set aside for all threads that fit onto the device: no more than the program needs.
  auto* kernel = l.ew->buffers <= 16 ? ew_kernel<T, 16> : l.ew->buffers <= 128 ? ew_kernel<T, 128> : ew_kernel<T, 1024>;
  start(lane, l.rows * cols, kernel, code, operands, cols);
}

template <class T>
void run(const Launch<T>& l, const LaneOfDevice& lane) {
  switch (l.operation) {
    case Operation::kEw: return run_program(l, lane);
    case Operation::kMap: {
      std::string bytes(reinterpret_cast<const char*>(l.map), static_cast<size_t>(l.cols) * sizeof(int32_t));
      const int32_t* map = static_cast<const int32_t*>(lane.constants->at(bytes));
      return start(lane, l.rows * l.cols, map_kernel<T>, l.in[0], map, l.cols, l.out[0]);
    }
    case Operation::kReduce:
      return start(lane, l.rows * l.groups, reduce_kernel<T>, l.reduction, l.in[0], l.groups, l.length, l.out[0]);
    case Operation::kSoft:
      return start(lane, l.rows * l.groups, soft_kernel<T>, l.soft, static_cast<T>(l.temperature), l.in[0], l.groups,
                   l.length, l.out[0]);
    case Operation::kBdot:
      return start(lane, l.rows * l.m * l.n, bdot_kernel<T>, l.in[0], l.turn_a, l.in[1], l.turn_b, l.m, l.n, l.k,
                   l.out[0]);
    case Operation::kPick:
      return start(lane, l.rows * l.groups, pick_kernel<T>, l.in[0], l.in[1], l.wrap, l.groups, l.length, l.out[0]);
    case Operation::kOneHot:
      return start(lane, l.rows * l.groups * l.length, one_hot_kernel<T>, l.in[0], static_cast<T>(l.on),
                   static_cast<T>(l.off), l.groups, l.length, l.out[0]);
    case Operation::kColumnSums:
      return start(lane, l.cols, column_sums_kernel<T>, l.in[0].base, l.in[0].stride, l.rows, l.beta, l.out[0].base);
    case Operation::kTranspose:
      return start(lane, (l.last - l.first) * l.rows, transpose_kernel<T>, l.in[0].base, l.rows, l.cols, l.first,
                   l.out[0].base);
    case Operation::kGemm:
      if (lane.products->gemm(l)) return;
      return start(lane, l.m * l.n, gemm_kernel<T>, l.turn_a, l.turn_b, l.n, l.k, l.in[0].base, l.lda, l.in[1].base,
                   l.ldb, l.beta, l.out[0].base, l.ldc);
    case Operation::kCount: break;  // check_launch refuses it
  }
}

}  // namespace cuda
}  // namespace rg
