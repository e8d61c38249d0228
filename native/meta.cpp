// What LibTorch's C++ lacks of the meta device: kernels that make the outputs of an operator without values, where only
// PyTorch's Python has them, and an allocator that tells what memory the tensors would take. An output lies in memory as
// that of the CPU's kernel does.
#include "meta.h"

#include "convolution.h"

#include <c10/core/Allocator.h>

#if LAYERWISE_CAN_REHEARSE

#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>
#include <ATen/WrapDimUtils.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/ConvUtils.h>
#include <c10/util/accumulate.h>
#include <torch/library.h>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/result_type.h>

#include <algorithm>
#include <array>
#include <tuple>
#include <vector>

#endif

namespace layerwise {

namespace {

thread_local MultiplyAddCount* innermost = nullptr;

}  // namespace

MultiplyAddCount::MultiplyAddCount() : outer_(innermost) { innermost = this; }

MultiplyAddCount::~MultiplyAddCount() {
  innermost = outer_;
  if (outer_ != nullptr) outer_->count_ += count_;
}

void countMultiplyAdds(const at::Tensor& output, int64_t each) {
  if (innermost == nullptr || !output.is_meta()) return;
  innermost->count_ += static_cast<double>(output.numel()) * static_cast<double>(each);
}

#if !LAYERWISE_CAN_REHEARSE

at::Tensor castAsOnCpu(const at::Tensor& tensor) { return tensor; }

#else

at::Tensor castAsOnCpu(const at::Tensor& tensor) {
  const bool isCast = tensor.defined() && tensor.is_meta() && tensor.is_floating_point() &&
                      tensor.scalar_type() != at::kDouble && at::autocast::is_autocast_enabled(at::kCPU);
  return isCast ? tensor.to(at::autocast::get_autocast_dtype(at::kCPU)) : tensor;
}

namespace {

using Mask = std::array<bool, 3>;
using Three = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

/** As oneDNN's convolutions choose it: channels last where input or weight lies so. */
at::MemoryFormat formatOfConvolution(const at::Tensor& input, const at::Tensor& weight) {
  const auto liesLast = [](const at::Tensor& tensor) {
    return tensor.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
  };
  return input.dim() == 4 && (liesLast(input) || liesLast(weight)) ? at::MemoryFormat::ChannelsLast
                                                                   : at::MemoryFormat::Contiguous;
}

/** What oneDNN holds beside inputs and outputs: weights in an order of its own, which LibTorch's allocator gives it. */
std::vector<at::Tensor> weightsInOwnOrder(const at::Tensor& weight, int64_t copies) {
  std::vector<at::Tensor> held;
  for (int64_t i = 0; i < copies; i++) held.push_back(at::empty_like(weight));
  return held;
}

/** With 16 bits an element, each thread of oneDNN's transposes the maps of an image for the gradient of the weights. */
at::Tensor transposedMaps(const at::Tensor& input, const at::Tensor& outputGradient) {
  if (input.element_size() != 2 || input.size(0) == 0) return at::Tensor();
  const int64_t ofImage = (input.numel() + outputGradient.numel()) / input.size(0);
  return at::empty({std::min<int64_t>(at::get_num_threads(), input.size(0)) * ofImage}, input.options());
}

/** Whether oneDNN computes in bfloat16 here, as LibTorch asks for it (mkldnn_bf16_device_check): with AVX-512 on x86. */
bool oneDnnTakesBfloat16() {
#if defined(__x86_64__)
  static const bool takes = __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq");
  return takes;
#else
  return true;
#endif
}

/**
 * Where oneDNN does not compute in bfloat16, LibTorch's own convolution unfolds the windows of all images and multiplies
 * matrices.
 */
bool unfolds(const at::Tensor& input) { return input.scalar_type() == at::kBFloat16 && !oneDnnTakesBfloat16(); }

at::Tensor windows(const at::Tensor& input, const at::Tensor& weight, int64_t images, int64_t positions) {
  if (!unfolds(input) || weight.size(2) * weight.size(3) == 1) return at::Tensor();
  return at::empty({images, weight.numel() / weight.size(0), positions}, input.options());
}

/** Of the parts that threads work on at once. */
at::Tensor windowsOfParts(const at::Tensor& outputGradient, const at::Tensor& input, const at::Tensor& weight,
                          int64_t groups) {
  const WeightGradientParts parts = weightGradientParts(outputGradient, input, weight, groups);
  const int64_t atOnce = std::min<int64_t>(at::get_num_threads(), parts.count());
  const int64_t images = input.size(0) * atOnce / parts.ofBatch;
  return windows(input, weight, images, outputGradient.size(2) * outputGradient.size(3));
}

/** What native/convolution.cpp holds for a gradient of weights in parts: each thread's own, in both orders, and their float32 sum. */
std::vector<at::Tensor> gradientsOfParts(const at::Tensor& outputGradient, const at::Tensor& input,
                                         const at::Tensor& weight, int64_t groups) {
  const WeightGradientParts parts = weightGradientParts(outputGradient, input, weight, groups);
  if (parts.ofBatch == 1) return weightsInOwnOrder(weight, 2);
  std::vector<at::Tensor> held = weightsInOwnOrder(weight, 3 * at::get_num_threads());
  held.push_back(at::empty(weight.sizes(), weight.options().dtype(at::kFloat)));
  return held;
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const Optional<at::Tensor>&,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef, int64_t) {
  TORCH_CHECK_NOT_IMPLEMENTED(!transposed, "a transposed convolution has no kernel on meta");
  const at::MemoryFormat format = formatOfConvolution(input, weight);
  // The copies that the CPU's makes of what lies otherwise, while it computes.
  const at::Tensor x = input.contiguous(format), w = weight.contiguous(format);
  const std::vector<int64_t> sizes = at::native::conv_output_size(x.sizes(), w.sizes(), padding, stride, dilation);
  const auto held = weightsInOwnOrder(w, 1);
  const at::Tensor output = at::empty(sizes, x.options(), format);
  const auto unfolded = windows(x, w, x.size(0), sizes[2] * sizes[3]);
  return output;
}

Three convolutionBackward(const at::Tensor& outputGradient, const at::Tensor& input, const at::Tensor& weight,
                          at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, bool, at::IntArrayRef, int64_t groups,
                          Mask mask) {
  const at::MemoryFormat format = formatOfConvolution(input, weight);
  const at::Tensor g = outputGradient.contiguous(format), x = input.contiguous(format), w = weight.contiguous(format);
  at::Tensor ofInput, ofWeight, ofBias;
  if (mask[0]) {
    const auto held = weightsInOwnOrder(w, 1);
    ofInput = at::empty(x.sizes(), x.options(), format);
    const auto unfolded = windows(x, w, x.size(0), g.size(2) * g.size(3));
  }
  if (mask[1] || mask[2]) {
    const auto held = gradientsOfParts(g, x, w, groups);
    const auto transposed = unfolds(x) ? windowsOfParts(g, x, w, groups) : transposedMaps(x, g);
    ofWeight = at::empty(w.sizes(), w.options(), format);
    if (mask[2]) ofBias = at::empty({g.size(1)}, g.options());
  }
  return {ofInput, mask[1] ? ofWeight : at::Tensor(), ofBias};
}

at::Tensor sameAs(const at::Tensor& self) { return at::empty_like(self); }

at::Tensor& itself(at::Tensor& self) { return self; }

at::TensorOptions optionsOfStatistics(const at::Tensor& input) {
  return input.options().dtype(at::toOpMathType(input.scalar_type()));
}

Three batchNorm(const at::Tensor& input, const Optional<at::Tensor>&, const Optional<at::Tensor>&,
                const Optional<at::Tensor>&, const Optional<at::Tensor>&, bool training, double, double) {
  const at::TensorOptions options = optionsOfStatistics(input);
  const int64_t saved = training ? input.size(1) : 0;
  return {at::empty_like(input, input.suggest_memory_format()), at::empty({saved}, options), at::empty({saved}, options)};
}

Three batchNormBackward(const at::Tensor&, const at::Tensor& input, const Optional<at::Tensor>& weight,
                        const Optional<at::Tensor>&, const Optional<at::Tensor>&, const Optional<at::Tensor>&,
                        const Optional<at::Tensor>&, bool, double, Mask mask) {
  const at::TensorOptions options =
      weight.has_value() && weight->defined() ? weight->options() : optionsOfStatistics(input);
  const auto perChannel = [&](bool wanted) { return wanted ? at::empty({input.size(1)}, options) : at::Tensor(); };
  return {mask[0] ? at::empty_like(input, input.suggest_memory_format()) : at::Tensor(), perChannel(mask[1]),
          perChannel(mask[2])};
}

/** Of a group or a layer: float32 where 16-bit input meets float32 weights. */
at::TensorOptions optionsOfMoments(const at::Tensor& input, const Optional<at::Tensor>& weight) {
  return weight.has_value() && weight->defined() ? input.options().dtype(weight->scalar_type()) : input.options();
}

/** The gradients of weight and bias, where they are wanted. */
std::array<at::Tensor, 2> affineGradients(const Optional<at::Tensor>& weight, int64_t size, const at::Tensor& input,
                                          Mask mask) {
  const auto like = [&](bool wanted) {
    if (!wanted) return at::Tensor();
    return weight.has_value() && weight->defined() ? at::empty_like(*weight) : at::empty({size}, input.options());
  };
  return {like(mask[1]), like(mask[2])};
}

Three groupNorm(const at::Tensor& input, const Optional<at::Tensor>& weight, const Optional<at::Tensor>&, int64_t batch,
                int64_t, int64_t, int64_t groups, double) {
  const at::TensorOptions options = optionsOfMoments(input, weight);
  return {at::empty_like(input, input.suggest_memory_format()), at::empty({batch, groups}, options),
          at::empty({batch, groups}, options)};
}

Three groupNormBackward(const at::Tensor&, const at::Tensor& input, const at::Tensor&, const at::Tensor&,
                        const Optional<at::Tensor>& weight, int64_t, int64_t channels, int64_t, int64_t, Mask mask) {
  const auto [ofWeight, ofBias] = affineGradients(weight, channels, input, mask);
  return {mask[0] ? at::empty_like(input, input.suggest_memory_format()) : at::Tensor(), ofWeight, ofBias};
}

Three layerNorm(const at::Tensor& input, at::IntArrayRef normalizedShape, const Optional<at::Tensor>& weight,
                const Optional<at::Tensor>&, double) {
  TORCH_CHECK(!normalizedShape.empty() && input.dim() >= static_cast<int64_t>(normalizedShape.size()) &&
                  input.sizes().slice(static_cast<size_t>(input.dim()) - normalizedShape.size()) == normalizedShape,
              "expected an input of [*, ", normalizedShape, "], got ", input.sizes());
  const auto rows = static_cast<size_t>(input.dim()) - normalizedShape.size();
  std::vector<int64_t> sizes(static_cast<size_t>(input.dim()), 1);
  std::copy_n(input.sizes().begin(), rows, sizes.begin());
  const at::TensorOptions options = optionsOfMoments(input, weight);
  // The copy that the CPU's kernel reads, while it computes.
  const at::Tensor held = input.contiguous();
  return {at::empty_like(held), at::empty(sizes, options), at::empty(sizes, options)};
}

Three layerNormBackward(const at::Tensor&, const at::Tensor& input, at::IntArrayRef normalizedShape, const at::Tensor&,
                        const at::Tensor&, const Optional<at::Tensor>& weight, const Optional<at::Tensor>&, Mask mask) {
  const at::Tensor held = input.contiguous();
  const auto [ofWeight, ofBias] = affineGradients(weight, c10::multiply_integers(normalizedShape), input, mask);
  return {mask[0] ? at::empty_like(held) : at::Tensor(), ofWeight, ofBias};
}

at::Tensor adaptiveAverage(const at::Tensor& self, at::IntArrayRef outputSize) {
  std::vector<int64_t> sizes = self.sizes().vec();
  TORCH_CHECK((sizes.size() == 3 || sizes.size() == 4) && outputSize.size() == 2,
              "expected 3 or 4 dimensions and an output size of 2, got ", self.sizes(), " and ", outputSize);
  std::copy(outputSize.begin(), outputSize.end(), sizes.end() - 2);
  return at::empty(sizes, self.options(), self.suggest_memory_format());
}

at::Tensor adaptiveAverageBackward(const at::Tensor&, const at::Tensor& self) {
  return at::empty_like(self, self.suggest_memory_format());
}

at::Tensor indexSelect(const at::Tensor& self, int64_t dim, const at::Tensor& index) {
  std::vector<int64_t> sizes = self.sizes().vec();
  TORCH_CHECK_INDEX(index.dim() <= 1, "expected an index of one dimension, got ", index.sizes());
  if (!sizes.empty()) sizes[static_cast<size_t>(at::maybe_wrap_dim(dim, self.dim()))] = index.numel();
  return at::empty(sizes, self.options());
}

at::Tensor flip(const at::Tensor& self, at::IntArrayRef) { return at::empty_like(self); }

at::Tensor where(const at::Tensor& condition, const at::Tensor& self, const at::Tensor& other) {
  at::Tensor result = at::empty({0}, self.options().dtype(at::result_type(self, other)));
  at::TensorIteratorConfig()
      .check_all_same_dtype(false)
      .add_output(result)
      .add_const_input(condition)
      .add_const_input(self)
      .add_const_input(other)
      .build();
  return result;
}

at::Tensor& elementwise(const at::Tensor& self, at::Tensor& out) {
  at::TensorIterator::unary_op(out, self);
  return out;
}

std::tuple<at::Tensor, at::Tensor> logSigmoid(const at::Tensor& self) {
  return {at::empty_like(self, at::MemoryFormat::Contiguous), at::empty_like(self, at::MemoryFormat::Contiguous)};
}

at::Tensor logSigmoidBackward(const at::Tensor& gradient, const at::Tensor&, const at::Tensor&) {
  return at::empty_like(gradient);
}

at::Tensor dot(const at::Tensor& self, const at::Tensor& other) {
  TORCH_CHECK(self.sizes() == other.sizes(), "expected vectors of one length, got ", self.sizes(), " and ", other.sizes());
  return at::empty({}, self.options());
}

bool hasMetaKernel(const char* name, const char* overload) {
  const auto schema = c10::Dispatcher::singleton().findSchema({std::string("aten::") + name, overload});
  // An operator that this release does not have needs no kernel.
  return !schema.has_value() || schema->hasKernelForDispatchKey(c10::DispatchKey::Meta);
}

/** Registers a kernel where this release of LibTorch has none. */
template <typename Kernel>
void registerIfMissing(torch::Library& library, const char* name, Kernel kernel, const char* overload = "") {
  if (hasMetaKernel(name, overload)) return;
  library.impl(overload[0] == '\0' ? name : (std::string(name) + "." + overload).c_str(), kernel);
}

TORCH_LIBRARY_IMPL(aten, Meta, library) {
  registerIfMissing(library, "convolution_overrideable", convolution);
  registerIfMissing(library, "convolution_backward_overrideable", convolutionBackward);
  registerIfMissing(library, "relu", sameAs);
  registerIfMissing(library, "relu_", itself);
  registerIfMissing(library, "native_batch_norm", batchNorm);
  registerIfMissing(library, "native_batch_norm_backward", batchNormBackward);
  registerIfMissing(library, "native_group_norm", groupNorm);
  registerIfMissing(library, "native_group_norm_backward", groupNormBackward);
  registerIfMissing(library, "native_layer_norm", layerNorm);
  registerIfMissing(library, "native_layer_norm_backward", layerNormBackward);
  registerIfMissing(library, "_adaptive_avg_pool2d", adaptiveAverage);
  registerIfMissing(library, "_adaptive_avg_pool2d_backward", adaptiveAverageBackward);
  registerIfMissing(library, "index_select", indexSelect);
  registerIfMissing(library, "flip", flip);
  registerIfMissing(library, "where", where, "self");
  registerIfMissing(library, "abs", elementwise, "out");
  registerIfMissing(library, "log_sigmoid_forward", logSigmoid);
  registerIfMissing(library, "log_sigmoid_backward", logSigmoidBackward);
  registerIfMissing(library, "dot", dot);
}

/** LibTorch's own for meta gives no memory either, but tells nobody. The size is what the deleter is given. */
class MetaAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    tell(static_cast<int64_t>(bytes));
    return {nullptr, reinterpret_cast<void*>(bytes), release, c10::Device(c10::kMeta)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return release; }
  void copy_data(void*, const void*, size_t) const override {}

 private:
  static void release(void* bytes) { tell(-static_cast<int64_t>(reinterpret_cast<intptr_t>(bytes))); }
  static void tell(int64_t change) {
    if (change != 0) c10::reportMemoryUsageToProfiler(nullptr, change, 0, 0, c10::Device(c10::kMeta));
  }
};

MetaAllocator allocator;
const bool isInstalled = [] {
  c10::SetAllocator(c10::kMeta, &allocator);
  return true;
}();

}  // namespace

#endif

}  // namespace layerwise
