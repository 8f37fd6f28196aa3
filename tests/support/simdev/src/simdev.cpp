// A simulated accelerator for PyTorch (PrivateUse1): its own limited memory, everything computed on the CPU in place.
// Kernels run on CPU tensors that alias the device's memory, so that only what crosses between host and device is counted
// as a copy. What this shows and what it does not: docs/device.md.
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/Resize.h>
#include <fcntl.h>
#include <torch/library.h>
#include <unistd.h>
#include "device.h"
#include "memory.h"

namespace simdev {
static bool ours(const Tensor& t) { return t.defined() && t.device().type() == PU1; }

static Tensor make(c10::Storage storage, const Tensor& like, c10::DispatchKey key) {
  Tensor t = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), like.dtype());
  t.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.is_conj()) t._set_conj(true);
  if (like.is_neg()) t._set_neg(true);
  return t;
}

// CPU tensors over the same memory. Kept for one call, so that views in the results are known.
struct Aliases {
  std::vector<std::pair<c10::Storage, c10::Storage>> pairs;  // device, cpu
  Tensor cpu(const Tensor& t) {
    if (!ours(t)) return t;
    for (auto& [d, c] : pairs)
      if (d.unsafeGetStorageImpl() == t.storage().unsafeGetStorageImpl()) return make(c, t, c10::DispatchKey::CPU);
    const auto& d = t.storage();
    c10::Storage c(c10::Storage::use_byte_size_t(), d.nbytes(),
                   c10::DataPtr(const_cast<void*>(d.data()), c10::Device(c10::kCPU)), c10::GetCPUAllocator(), true);
    pairs.emplace_back(d, c);
    return make(c, t, c10::DispatchKey::CPU);
  }
  // Storage that a kernel had to enlarge (out=) is taken over by the device.
  void sync() {
    for (auto& [d, c] : pairs)
      if (c.data() != d.data() || c.nbytes() != d.nbytes()) {
        auto fresh = allocator.allocate(c.nbytes());
        if (c.nbytes()) memcpy(fresh.get(), c.data(), c.nbytes());
        d.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(fresh));
        d.unsafeGetStorageImpl()->set_nbytes(c.nbytes());
      }
  }
  Tensor device(const Tensor& t) {
    if (!t.defined() || ours(t)) return t;
    for (auto& [d, c] : pairs)
      if (c.unsafeGetStorageImpl() == t.storage().unsafeGetStorageImpl()) return make(d, t, c10::DispatchKey::PrivateUse1);
    size_t n = rounded(t.storage().nbytes());
    if (n) reserve(n);
    add(S->adopted, n);
    auto* a = new Adopted{t.storage(), n};
    c10::Storage s(c10::Storage::use_byte_size_t(), t.storage().nbytes(),
                   n ? c10::DataPtr(const_cast<void*>(t.storage().data()), a, &free_adopted, c10::Device(PU1, 0))
                     : c10::DataPtr(nullptr, c10::Device(PU1, 0)), &allocator, true);
    if (!n) delete a;
    return make(std::move(s), t, c10::DispatchKey::PrivateUse1);
  }
};

static bool mixes(const char* name) {  // operators that take a CPU tensor beside one of the device on CUDA too
  return strstr(name, "index") || strstr(name, "copy") || strstr(name, "_foreach") || strstr(name, "set_");
}

static bool slow_in_half(const std::string& n) {  // CPUs without AVX512-FP16 take 30 times as long: compute in float32
  return n == "aten::mm" || n == "aten::addmm" || n == "aten::bmm" || n == "aten::baddbmm";
}

static void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  check_fault();
  add(S->kernels, 1);
  const auto& schema = op.schema();
  const size_t nargs = schema.arguments().size();
  const size_t begin = stack->size() - nargs;
  Aliases al;
  std::vector<Tensor> originals(nargs), casts(nargs);
  bool any = false, host = false;
  auto look = [&](const Tensor& t) { if (ours(t)) any = true; else if (t.defined() && t.dim() > 0) host = true; };
  for (size_t i = 0; i < nargs; i++) {
    c10::IValue& v = (*stack)[begin + i];
    if (v.isTensor()) {
      originals[i] = v.toTensor();
      look(originals[i]);
      v = casts[i] = al.cpu(originals[i]);
    } else if (v.isTensorList()) {
      std::vector<Tensor> l;
      for (const Tensor& t : v.toTensorVector()) { look(t); l.push_back(al.cpu(t)); }
      v = c10::IValue(c10::List<Tensor>(l));
    } else if (v.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> l;
      for (const std::optional<Tensor>& t : v.toOptionalTensorList().vec()) {
        if (t) look(*t);
        l.push_back(t ? std::optional<Tensor>(al.cpu(*t)) : t);
      }
      v = c10::IValue(l);
    } else if (v.isDevice() && v.toDevice().type() == PU1) {
      v = c10::IValue(c10::Device(c10::kCPU)); any = true;
    }
  }
  if (any && host && !mixes(schema.name().c_str())) {
    add(S->mixed, 1);
    TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two devices, npu:0 and cpu! (", schema.name(), ")");
  }
  bool widen = schema.overload_name().empty() && slow_in_half(schema.name()) && casts[0].scalar_type() == at::kHalf;
  if (widen)
    for (size_t i = 0; i < nargs; i++)
      if (casts[i].defined()) (*stack)[begin + i] = casts[i].to(at::kFloat);
  c10::DispatchKeySet ks(c10::DispatchKey::CPU);
  op.redispatchBoxed(ks, stack);
  if (widen) stack->back() = stack->back().toTensor().to(at::kHalf);
  al.sync();
  for (size_t i = 0; i < nargs; i++)  // in place and out=: sizes may have changed
    if (ours(originals[i]) && schema.arguments()[i].alias_info() && schema.arguments()[i].alias_info()->isWrite()) {
      auto &o = originals[i], &c = casts[i];
      if (!o.sizes().equals(c.sizes()) || !o.strides().equals(c.strides()) || o.storage_offset() != c.storage_offset())
        o.unsafeGetTensorImpl()->set_sizes_and_strides(c.sizes(), c.strides(), c.storage_offset());
    }
  const size_t nret = schema.returns().size();
  const size_t rbegin = stack->size() - nret;
  for (size_t r = 0; r < nret; r++) {
    c10::IValue& v = (*stack)[rbegin + r];
    const auto* info = schema.returns()[r].alias_info();
    if (v.isTensor()) {
      bool same = false;
      if (info && info->isWrite())
        for (size_t i = 0; i < nargs && !same; i++)
          if (originals[i].defined() && schema.arguments()[i].alias_info() && *schema.arguments()[i].alias_info() == *info) {
            v = originals[i]; same = true;
          }
      if (!same) v = al.device(v.toTensor());
    } else if (v.isTensorList()) {
      std::vector<Tensor> l;
      for (const Tensor& t : v.toTensorVector()) l.push_back(al.device(t));
      v = c10::IValue(c10::List<Tensor>(l));
    }
  }
}

static Tensor empty_memory_format(c10::IntArrayRef size, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout>,
    std::optional<c10::Device>, std::optional<bool>, std::optional<c10::MemoryFormat> mf) {
  return at::detail::empty_generic(size, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype), mf);
}
static Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<c10::ScalarType> dtype,
    std::optional<c10::Layout>, std::optional<c10::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype));
}

Tensor _copy_from(const Tensor& self, const Tensor& dst, bool) {
  check_fault();
  int64_t n = (int64_t)self.numel() * std::max(self.element_size(), dst.element_size());
  if (ours(dst) && !ours(self)) { add(S->h2d_bytes, n); add(S->h2d_count, 1); }
  else if (ours(self) && !ours(dst)) { add(S->d2h_bytes, n); add(S->d2h_count, 1); }
  else add(S->d2d_bytes, n);
  if (S->slow_ns_per_mb && ours(dst) != ours(self)) usleep(n / 1000000.0 * S->slow_ns_per_mb / 1000);
  Aliases al;
  Tensor d = al.cpu(dst);
  d.copy_(al.cpu(self));
  return dst;
}
Tensor _copy_from_and_resize(const Tensor& self, const Tensor& dst) {
  dst.resize_(self.sizes());
  return simdev::_copy_from(self, dst, false);
}
static c10::Scalar _local_scalar_dense(const Tensor& self) {
  check_fault();
  Aliases al;
  return al.cpu(self).item();
}
static const Tensor& resize_(const Tensor& self, c10::SymIntArrayRef size, std::optional<c10::MemoryFormat>) {
  auto s = C10_AS_INTARRAYREF_SLOW(size);
  int64_t n = 1; for (auto x : s) n *= x;
  size_t need = (n + self.storage_offset()) * self.element_size();
  if (need > self.storage().nbytes()) at::detail::getPrivateUse1Hooks().resizePrivateUse1Bytes(self.storage(), need);
  self.unsafeGetTensorImpl()->set_sizes_contiguous(s);
  return self;
}
static Tensor& set_storage_offset(Tensor& self, at::Storage s, c10::SymInt off, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(s));
  self.unsafeGetTensorImpl()->set_sizes_and_strides(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), off.expect_int());
  return self;
}
static Tensor& set_storage(Tensor& self, at::Storage s) {
  int64_t n = s.nbytes() / self.element_size();
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(s));
  self.unsafeGetTensorImpl()->set_sizes_contiguous({n});
  return self;
}
static Tensor& set_tensor(Tensor& self, const Tensor& src) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(src.storage());
  self.unsafeGetTensorImpl()->set_sizes_and_strides(src.sizes(), src.strides(), src.storage_offset());
  return self;
}
static Tensor convolution_overrideable(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, c10::SymIntArrayRef st,
    c10::SymIntArrayRef pad, c10::SymIntArrayRef dil, bool tr, c10::SymIntArrayRef op, c10::SymInt groups) {
  check_fault();
  add(S->kernels, 1);
  TORCH_CHECK(ours(x) && ours(w) && (!b || !b->defined() || ours(*b)), "Expected all tensors to be on the same device (convolution)");
  Aliases al;
  std::optional<Tensor> bias = b && b->defined() ? std::optional<Tensor>(al.cpu(*b)) : std::nullopt;
  if (x.scalar_type() == at::kHalf) {
    if (bias) bias = bias->to(at::kFloat);
    return al.device(at::convolution_symint(al.cpu(x).to(at::kFloat), al.cpu(w).to(at::kFloat), bias, st, pad, dil, tr, op, groups).to(at::kHalf));
  }
  return al.device(at::convolution_symint(al.cpu(x), al.cpu(w), bias, st, pad, dil, tr, op, groups));
}

static bool shallow_copy_type(const Tensor& a, const Tensor& b) {  // `param.data = …` keeps the Parameter, as on CUDA
  return (a.is_cpu() || ours(a)) && (b.is_cpu() || ours(b)) && a.layout() == b.layout();
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_has_compatible_shallow_copy_type", shallow_copy_type);
  m.impl("empty.memory_format", empty_memory_format);
  m.impl("empty_strided", &simdev::empty_strided);
  m.impl("_copy_from", &simdev::_copy_from);
  m.impl("_copy_from_and_resize", &simdev::_copy_from_and_resize);
  m.impl("_local_scalar_dense", &simdev::_local_scalar_dense);
  m.impl("resize_", &simdev::resize_);
  m.impl("set_.source_Storage", set_storage);
  m.impl("set_.source_Storage_storage_offset", set_storage_offset);
  m.impl("set_.source_Tensor", set_tensor);
  m.impl("convolution_overrideable", &simdev::convolution_overrideable);
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);
REGISTER_ALLOCATOR(PU1, &allocator);

struct Init {
  Init() {
    if (const char* path = getenv("SIMDEV_STATE")) {
      int fd = open(path, O_RDWR | O_CREAT, 0600);
      if (fd >= 0 && !ftruncate(fd, sizeof(State))) {
        void* p = mmap(nullptr, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p != MAP_FAILED) S = static_cast<State*>(p);
        close(fd);
      }
    }
    *S = State{};
    S->magic = 0x51D;
    const char* mb = getenv("SIMDEV_MB");
    S->limit = (mb ? atoll(mb) : 16384) << 20;
    at::RegisterPrivateUse1HooksInterface(new Hooks);
  }
} init;
}  // namespace simdev
using at::Tensor;

// For the stand-in for comfy_aimdo: a tensor over memory that is managed elsewhere.
static Tensor from_ptr(int64_t ptr, int64_t size) {
  c10::Storage s(c10::Storage::use_byte_size_t(), size, c10::DataPtr(reinterpret_cast<void*>(ptr), c10::Device(simdev::PU1, 0)), nullptr, false);
  Tensor t = at::detail::make_tensor<c10::TensorImpl>(std::move(s), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), caffe2::TypeMeta::Make<uint8_t>());
  t.unsafeGetTensorImpl()->set_sizes_contiguous({size});
  return t;
}
TORCH_LIBRARY(simdev, m) { m.def("from_ptr(int ptr, int size) -> Tensor", &from_ptr); }

extern "C" {  // for ctypes
int simdev_reserve(int64_t n) { try { simdev::check_fault(); simdev::reserve(n); return 0; } catch (const c10::OutOfMemoryError&) { return 1; } catch (...) { return 2; } }
void simdev_release(int64_t n) { simdev::release(n); }
int64_t* simdev_state() { return reinterpret_cast<int64_t*>(simdev::S); }
const char* simdev_fault_text() { return simdev::fault_text(); }
void simdev_empty_cache() { std::lock_guard<std::mutex> g(simdev::mu); simdev::S->reserved = simdev::S->active; simdev::S->emptied++; }
}
