#include "lent_backend.h"

#include <map>
#include <string>
#include <tuple>

#include "common.h"
#include "device_buffer.h"

namespace rg {

std::shared_ptr<LentBackend> lend_backend(const char* library, int32_t device, int32_t lanes) {
  if (library == nullptr) return std::make_shared<LentBackend>(make_cpu_backend(lanes));
  using Key = std::tuple<std::string, int32_t, int32_t>;
  struct Made {
    std::mutex mutex;
    std::map<Key, std::shared_ptr<LentBackend>> backends;
  };
  static Made* made = new Made;  // CUDA may be gone before what is static is destroyed
  std::lock_guard<std::mutex> guard(made->mutex);
  std::shared_ptr<LentBackend>& found = made->backends[Key(library, device, lanes)];
  if (found == nullptr) found = std::make_shared<LentBackend>(make_cuda_backend(library, device, lanes));
  return found;
}

void try_backend(LentBackend& lent) {
  std::lock_guard<std::mutex> guard(lent.mutex);
  Backend& backend = *lent.backend;
  float host[4] = {1, 2, 3, 4}, product = 0;
  DeviceBuffer<float> there;
  there.reserve(backend, 5);
  backend.upload(0, there.data(), host, sizeof host);
  Launch<float> l;
  l.operation = Operation::kGemm;
  l.m = l.n = 1, l.k = 2;
  l.lda = 2, l.ldb = l.ldc = 1;
  l.in = {{there.data(), 2, nullptr, nullptr}, {there.data() + 2, 1, nullptr, nullptr}};
  l.out = {{there.data() + 4, 1}};
  backend.launch(0, l);
  backend.download(0, &product, there.data() + 4, sizeof product);
  backend.synchronise();
  if (product != 11)
    throw Error(Kind::kInternal, "the device says that 1 * 3 + 2 * 4 is " + std::to_string(product));
}

}  // namespace rg
