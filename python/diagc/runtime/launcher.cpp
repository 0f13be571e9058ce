// The native launcher: packs the parameters of a plan and starts its kernels in one call from Python.
//
// It finds libcuda at run time, like the launcher over ctypes (cuda/launcher.py), whose meaning it has:
// neither CUDA's headers nor its libraries are needed to build it. Results are those of the driver;
// Python makes errors of them.
#include <dlfcn.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;

namespace {

using Result = int; // CUresult
using Handle = void *;

/// Function, blocks along x, y, z, threads along x, y, z, bytes of shared memory.
using Start = std::array<std::uint64_t, 8>;

/// How far a launch came; `_launcher.pyi` names the numbers.
enum Stage { kDone = 0, kEntering = 1, kAsking = 2, kCapturing = 3, kStarting = 4 };

struct Functions {
  Result (*getCurrent)(Handle *);
  Result (*push)(Handle);
  Result (*pop)(Handle *);
  Result (*isCapturing)(Handle, int *);
  Result (*launch)(Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                   Handle, void **, void **);
};

template <typename Function>
void find(void *library, const char *symbol, Function &function) {
  function = reinterpret_cast<Function>(dlsym(library, symbol));
  if (!function)
    throw std::runtime_error(std::string("the NVIDIA driver has no ") + symbol);
}

Functions open(const std::string &path) {
  void *library = dlopen(path.c_str(), RTLD_NOW); // never closed, like the driver of ctypes
  if (!library)
    throw std::runtime_error(dlerror());
  Functions found{};
  find(library, "cuCtxGetCurrent", found.getCurrent);
  find(library, "cuCtxPushCurrent_v2", found.push);
  find(library, "cuCtxPopCurrent_v2", found.pop);
  find(library, "cuStreamIsCapturing", found.isCapturing);
  find(library, "cuLaunchKernel", found.launch);
  return found;
}

Handle handle(std::uint64_t number) { return reinterpret_cast<Handle>(number); }

/// The context of a GPU, current as long as this lives unless `code` says why not.
class Entered {
public:
  Entered(const Functions &driver, Handle context) : driver_(driver) {
    Handle found = nullptr;
    if (driver.getCurrent(&found) == 0 && found == context)
      return;
    code = driver.push(context);
    pushed_ = code == 0;
  }
  ~Entered() {
    Handle left = nullptr;
    if (pushed_)
      driver_.pop(&left);
  }
  Entered(const Entered &) = delete;
  Entered &operator=(const Entered &) = delete;

  Result code = 0;

private:
  const Functions &driver_;
  bool pushed_ = false;
};

/// The starts of one plan. Nothing changes after it is made, so threads share it.
class Launches {
public:
  Launches(const std::string &library, std::uint64_t context, nb::bytes memory,
           std::size_t pointers, std::vector<std::size_t> offsets, std::vector<Start> starts)
      : driver_(open(library)), context_(handle(context)), pointers_(pointers),
        memory_(memory.c_str(), memory.c_str() + memory.size()), offsets_(std::move(offsets)),
        starts_(std::move(starts)) {
    if (8 * pointers_ > memory_.size())
      throw std::invalid_argument("more pointers than memory");
    for (std::size_t offset : offsets_)
      if (offset + 4 > memory_.size())
        throw std::invalid_argument("a parameter lies outside of the memory");
  }

  /// Stage that was reached, and the driver's result there. With `ask`, a stream that is being
  /// captured stops the launch before anything has started.
  std::pair<int, Result> launch(std::uint64_t stream, nb::object pointers, bool ask) const {
    // one block per thread; std::vector's memory is aligned for every parameter
    thread_local std::vector<char> block;
    thread_local std::vector<void *> addresses;
    pack(pointers, block, addresses);
    Entered context(driver_, context_);
    if (context.code)
      return {kEntering, context.code};
    int capturing = 0;
    if (ask)
      if (Result code = driver_.isCapturing(handle(stream), &capturing))
        return {kAsking, code};
    if (capturing)
      return {kCapturing, 0};
    nb::gil_scoped_release others; // the driver waits when its queue is full
    return start(handle(stream), addresses.data());
  }

private:
  void pack(nb::object pointers, std::vector<char> &block, std::vector<void *> &addresses) const {
    nb::object items = nb::steal(PySequence_Fast(pointers.ptr(), "pointers are a sequence"));
    if (!items.is_valid())
      throw nb::python_error();
    if (static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr())) != pointers_)
      throw std::invalid_argument("wrong number of pointers");
    block.assign(memory_.begin(), memory_.end());
    for (std::size_t i = 0; i < pointers_; ++i) {
      PyObject *item = PySequence_Fast_GET_ITEM(items.ptr(), static_cast<Py_ssize_t>(i));
      std::uint64_t value = PyLong_AsUnsignedLongLong(item);
      if (value == static_cast<std::uint64_t>(-1) && PyErr_Occurred())
        throw nb::python_error();
      std::memcpy(block.data() + 8 * i, &value, 8);
    }
    addresses.clear();
    for (std::size_t offset : offsets_)
      addresses.push_back(block.data() + offset);
  }

  std::pair<int, Result> start(Handle stream, void **addresses) const {
    for (const Start &s : starts_) {
      auto [gx, gy, gz, bx, by, bz, shared] =
          std::array{unsigned(s[1]), unsigned(s[2]), unsigned(s[3]), unsigned(s[4]),
                     unsigned(s[5]), unsigned(s[6]), unsigned(s[7])};
      if (Result code = driver_.launch(handle(s[0]), gx, gy, gz, bx, by, bz, shared, stream,
                                       addresses, nullptr))
        return {kStarting, code};
    }
    return {kDone, 0};
  }

  Functions driver_;
  Handle context_;
  std::size_t pointers_;
  std::vector<char> memory_;
  std::vector<std::size_t> offsets_;
  std::vector<Start> starts_;
};

} // namespace

NB_MODULE(_launcher, module) {
  nb::set_leak_warnings(false); // plans live in caches until the process ends
  module.attr("INTERFACE") = 1;
  nb::class_<Launches>(module, "Launches")
      .def(nb::init<const std::string &, std::uint64_t, nb::bytes, std::size_t,
                    std::vector<std::size_t>, std::vector<Start>>())
      .def("launch", &Launches::launch);
}
