// CUDA's runtime, as far as native/src/cuda uses it, on the processor: to run the kernels and the backend without a device.
// Streams put off what they are given until someone synchronises; then they take turns by lot, held back by events alone.
// So an order that only luck would keep on a device is not kept here.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <vector>

#define __global__
#define __device__

struct Dim3 {
  unsigned x;
};
inline Dim3 blockIdx{0}, blockDim{0}, threadIdx{0};

enum cudaError_t { cudaSuccess = 0, cudaErrorMemoryAllocation = 2, cudaErrorInvalidDevice = 101 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold };
using cudaMemPool_t = void*;

struct EventOnCpu {
  int64_t given = 0, passed = 0;  // records
};
using cudaEvent_t = EventOnCpu*;

struct StreamOnCpu {
  struct Task {
    std::function<bool()> may;  // empty: always
    std::function<void()> run;
  };
  std::deque<Task> tasks;
  bool runnable() const { return !tasks.empty() && (!tasks.front().may || tasks.front().may()); }
};
using cudaStream_t = StreamOnCpu*;

inline std::vector<cudaStream_t> g_streams;
inline uint64_t g_lot = 1;

#define RG_START_KERNEL(kernel, blocks, threads, stream, ...)          \
  (stream)->tasks.push_back({{}, [=] {                                 \
    blockDim.x = threads;                                              \
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)            \
      for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) kernel(__VA_ARGS__); \
  }})

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : error == cudaSuccess ? "no error" : "invalid device ordinal";
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  g_streams.push_back(*stream = new StreamOnCpu);
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  for (cudaStream_t& s : g_streams)
    if (s == stream) std::swap(s, g_streams.back());
  g_streams.pop_back();
  delete stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  while (!stream->tasks.empty()) {
    std::vector<cudaStream_t> able;
    for (cudaStream_t s : g_streams)
      if (s->runnable()) able.push_back(s);
    if (able.empty()) std::abort();  // all wait: a deadlock
    g_lot = g_lot * 6364136223846793005u + 1442695040888963407u;
    cudaStream_t next = able[(g_lot >> 33) % able.size()];
    StreamOnCpu::Task task = next->tasks.front();
    next->tasks.pop_front();
    if (task.run) task.run();
  }
  return cudaSuccess;
}

inline cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* argument) {
  stream->tasks.push_back({{}, [=] { function(argument); }});
  return cudaSuccess;
}

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = new EventOnCpu, cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  int64_t number = ++event->given;
  stream->tasks.push_back({{}, [=] { event->passed = number; }});
  return cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  int64_t number = event->given;
  stream->tasks.push_back({[=] { return event->passed >= number; }, {}});
  return cudaSuccess;
}

inline cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) { return *pool = nullptr, cudaSuccess; }
inline cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
inline cudaError_t cudaMallocAsync(void** block, size_t bytes, cudaStream_t) {
  *block = bytes < (size_t(1) << 40) ? std::malloc(bytes) : nullptr;
  return *block == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFreeAsync(void* block, cudaStream_t) { return std::free(block), cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  stream->tasks.push_back({{}, [=] { std::memcpy(to, from, bytes); }});
  return cudaSuccess;
}
