// Lanes on a CUDA device: each is a stream.
#include <memory>
#include <string>
#include <vector>

#include "../backend.h"
#include "dispatch.cuh"
#include "errors.cuh"

#define RG_CUDA_API __attribute__((visibility("default")))

namespace rg {
namespace cuda {
namespace {

Cublas g_cublas;

class Stream {
 public:
  Stream() { ok(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "make a stream"); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(stream_); }
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { ok(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "make an event"); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { cudaEventDestroy(event_); }
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

struct LaneOfStream {
  Stream stream;
  Products products{g_cublas, stream};
};

// Streams are made on the device that is chosen; so it is before the members are made, and at every call.
class Device {
 public:
  explicit Device(int32_t device) : device_(device) {
    use();
    cudaMemPool_t pool;
    ok(cudaDeviceGetDefaultMemPool(&pool, device_), "use the memory pool of device " + std::to_string(device_));
    uint64_t all = ~uint64_t(0);  // what is freed stays in the pool for the next run
    ok(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all), "keep memory in the pool");
  }
  void use() const { ok(cudaSetDevice(device_), "use device " + std::to_string(device_)); }

 private:
  int32_t device_;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(int32_t device, int32_t lanes) : device_(device), constants_(memory_) {
    for (int32_t l = 0; l < lanes; ++l) lanes_.push_back(std::make_unique<LaneOfStream>());
  }
  ~CudaBackend() override {
    try {
      synchronise();  // what lanes still do uses what goes now
    } catch (const Error&) {  // nobody is left to tell
    }
  }

  const char* name() const override { return "CUDA"; }
  int32_t lanes() const override { return static_cast<int32_t>(lanes_.size()); }

  // On a stream of its own that has nothing else to do, so that memory is there when the call returns.
  void* alloc(size_t bytes) override {
    device_.use();
    void* block = nullptr;
    ok(cudaMallocAsync(&block, bytes == 0 ? 1 : bytes, memory_), "get " + std::to_string(bytes) + " bytes");
    ok(cudaStreamSynchronize(memory_), "get " + std::to_string(bytes) + " bytes");
    return block;
  }
  void free(void* block) override {
    device_.use();
    if (block != nullptr) ok(cudaFreeAsync(block, memory_), "free memory");
  }

  void upload(int32_t lane, void* device, const void* host, size_t bytes) override {
    copy(lane, device, host, bytes, cudaMemcpyHostToDevice);
  }
  void download(int32_t lane, void* host, const void* device, size_t bytes) override {
    copy(lane, host, device, bytes, cudaMemcpyDeviceToHost);
  }
  void copy(int32_t lane, void* to, const void* from, size_t bytes) override {
    copy(lane, to, from, bytes, cudaMemcpyDeviceToDevice);
  }
  void launch(int32_t lane, const Launch<float>& launch) override { enqueue(lane, launch); }
  void launch(int32_t lane, const Launch<double>& launch) override { enqueue(lane, launch); }

  void events(int32_t count) override {
    device_.use();
    while (events_.size() < static_cast<size_t>(count)) events_.push_back(std::make_unique<Event>());
  }
  void record(int32_t lane, int32_t event) override {
    device_.use();
    ok(cudaEventRecord(at(event), at_lane(lane).stream), "record an event");
  }
  void wait(int32_t lane, int32_t event) override {
    device_.use();
    ok(cudaStreamWaitEvent(at_lane(lane).stream, at(event), 0), "wait for an event");
  }
  void stamp(int32_t lane, int64_t* when) override {
    device_.use();
    auto look = [](void* to) { *static_cast<int64_t*>(to) = steady_ns(); };
    ok(cudaLaunchHostFunc(at_lane(lane).stream, look, when), "look at the clock");
  }
  void stop() override {}  // a stream gives nothing back; it takes no more than some thousand launches before its caller waits
  void synchronise() override {
    device_.use();
    for (auto& lane : lanes_) ok(cudaStreamSynchronize(lane->stream), "run what a lane was given");
  }

 private:
  LaneOfStream& at_lane(int32_t lane) {
    if (lane < 0 || lane >= lanes())
      throw Error(Kind::kInternal, "lane " + std::to_string(lane) + " of " + std::to_string(lanes()));
    return *lanes_[lane];
  }
  cudaEvent_t at(int32_t event) const {
    if (event < 0 || static_cast<size_t>(event) >= events_.size())
      throw Error(Kind::kInternal, "event " + std::to_string(event) + " of " + std::to_string(events_.size()) +
                                       "; ask for it with events() first");
    return *events_[event];
  }
  void copy(int32_t lane, void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    device_.use();
    ok(cudaMemcpyAsync(to, from, bytes, kind, at_lane(lane).stream), "copy " + std::to_string(bytes) + " bytes");
  }
  template <class T>
  void enqueue(int32_t lane, const Launch<T>& launch) {
    check_launch(launch);
    device_.use();
    LaneOfStream& on = at_lane(lane);
    run(launch, LaneOfDevice{on.stream, &on.products, &constants_});
  }

  Device device_;  // first: the others are made on it
  Stream memory_;
  Constants constants_;
  std::vector<std::unique_ptr<Event>> events_;
  std::vector<std::unique_ptr<LaneOfStream>> lanes_;
};

}  // namespace
}  // namespace cuda
}  // namespace rg

extern "C" {

// How many devices there are; 0 where there is no driver. `text` gets CUDA's words for why there is none.
RG_CUDA_API int32_t rg_cuda_devices(const char** text) {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  *text = error == cudaSuccess ? "" : cudaGetErrorString(error);
  cudaGetLastError();
  return error == cudaSuccess ? count : 0;
}

// Opens cuBLAS for the backends that are made from now on; 0 where it is not one.
RG_CUDA_API int32_t rg_cuda_blas_open(const char* path) { return rg::cuda::g_cublas.open(path) ? 1 : 0; }

RG_CUDA_API rg::Backend* rg_cuda_backend(int32_t device, int32_t lanes) {
  rg::check(lanes >= 1, rg::Kind::kProgram, "a backend needs at least one lane");
  return new rg::cuda::CudaBackend(device, lanes);
}

}  // extern "C"
