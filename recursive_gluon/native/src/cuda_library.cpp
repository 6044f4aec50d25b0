// The CUDA backend lies in a library of its own, which is opened only where it is asked for.
#include <dlfcn.h>

#include <string>

#include "backend.h"
#include "common.h"

namespace rg {

std::unique_ptr<Backend> make_cuda_backend(const char* library, int32_t device, int32_t lanes) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);  // once opened it stays: its kernels are on the device
  if (handle == nullptr)
    throw Error(Kind::kInternal, std::string("the CUDA backend cannot be opened: ") + dlerror() +
                                     "; build it with recursive_gluon.native.build_cuda()");
  auto make = reinterpret_cast<Backend* (*)(int32_t, int32_t)>(dlsym(handle, "rg_cuda_backend"));
  if (make == nullptr)
    throw Error(Kind::kInternal, std::string(library) + " has no rg_cuda_backend; it is not the library of this version, "
                                                        "build it with recursive_gluon.native.build_cuda()");
  return std::unique_ptr<Backend>(make(device, lanes));
}

}  // namespace rg
