// Instructions as launches of a backend.
#pragma once

#include "backend.h"
#include "program.h"

namespace rg {

// An instruction on `rows` rows. Sums over rows become beta times what is there, and the sum.
template <class T>
Launch<T> launch_of(const Instr& i, int64_t rows, std::vector<Source<T>> in, std::vector<Target<T>> out, T beta = T(0)) {
  const std::vector<int64_t>& z = i.n;
  Launch<T> l;
  l.rows = rows;
  l.in = std::move(in);
  l.out = std::move(out);
  l.beta = beta;
  // `repeat` products a row lie one after another, and then a row is as long as its columns are many (decode.cpp).
  auto leading = [&](int64_t repeat, int64_t stride, int64_t cols) { return repeat == 1 || stride == 0 ? stride : cols; };
  switch (i.code) {
    case Code::kEw:
      l.operation = Operation::kEw;
      l.ew = &i.ew;
      break;
    case Code::kGemm:
      l.operation = Operation::kGemm;
      l.m = rows * z[0], l.n = z[1], l.k = z[2];
      l.turn_b = z[3] != 0;
      l.lda = leading(z[0], l.in[0].stride, l.k);
      l.ldb = l.turn_b ? l.k : l.n;
      l.ldc = leading(z[0], l.out[0].stride, l.n);
      break;
    case Code::kMap:
      l.operation = Operation::kMap;
      l.map = i.map.data();
      l.cols = i.out[0].cols;
      break;
    case Code::kReduce:
      l.operation = Operation::kReduce;
      l.reduction = static_cast<Reduction>(z[0]);
      l.groups = z[1], l.length = z[2];
      break;
    case Code::kSoft:
      l.operation = Operation::kSoft;
      l.soft = static_cast<Soft>(z[0]);
      l.temperature = i.x[0];
      l.groups = z[1], l.length = z[2];
      break;
    case Code::kBdot:
      l.operation = Operation::kBdot;
      l.m = z[0], l.n = z[1], l.k = z[2];
      l.turn_a = z[3] != 0, l.turn_b = z[4] != 0;
      break;
    case Code::kPick:
      l.operation = Operation::kPick;
      l.wrap = z[0] != 0;
      l.groups = z[1], l.length = z[2];
      break;
    case Code::kOneHot:
      l.operation = Operation::kOneHot;
      l.on = i.x[0], l.off = i.x[1];
      l.groups = z[0], l.length = z[1];
      break;
    case Code::kGemmRows:
      l.operation = Operation::kGemm;
      l.m = z[1], l.n = z[2], l.k = rows * z[0];
      l.turn_a = true;
      l.lda = leading(z[0], l.in[0].stride, l.m);
      l.ldb = leading(z[0], l.in[1].stride, l.n);
      l.ldc = l.n;
      break;
    case Code::kColumnSums:
      l.operation = Operation::kColumnSums;
      l.rows = rows * z[0];
      l.cols = i.out[0].cols;
      l.in[0].stride = leading(z[0], l.in[0].stride, l.cols);
      break;
    case Code::kCount: throw Error(Kind::kInternal, "an instruction that is unknown");
  }
  return l;
}

}  // namespace rg
