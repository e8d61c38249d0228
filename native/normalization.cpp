#include "normalization.h"

#include <torch/csrc/autograd/custom_function.h>

#include "compat.h"
#include "parallel.h"
#include "synchronized.h"

#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <ATen/Context.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

// The loops over channels below are written for the compiler to vectorise, for each kind of processor.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#if defined(__x86_64__)
#define LAYERWISE_VECTORISED __attribute__((target_clones("arch=skylake-avx512", "avx2", "default")))
#endif
#endif
#ifndef LAYERWISE_VECTORISED
#define LAYERWISE_VECTORISED
#endif

namespace layerwise {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/** bfloat16 as its bits: the upper half of a float's. */
struct Bits16 {
  uint16_t bits;
};

inline float toFloat(float value) { return value; }

inline float toFloat(Bits16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

inline void store(float* target, float value) { *target = value; }

/** To the nearest, ties to even; NaN stays NaN. */
inline void store(Bits16* target, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  target->bits = static_cast<uint16_t>(value != value ? 0x7fc0 : rounded);
}

/** Rows of a tensor that lies channels last, and which of them a block has. */
struct Rows {
  int64_t count;
  int64_t channels;
};

/**
 * Rows are summed in blocks, and the blocks in order: the result does not depend on the number of threads. A block fits
 * into a core's cache, so that its second reading costs nothing, and has so few rows that float32 sums them well.
 */
constexpr int64_t kBlockElements = 32 * 1024;
constexpr int64_t kBlockRows = 128;

int64_t rowsOfBlock(const Rows& rows) {
  return std::clamp<int64_t>(kBlockElements / rows.channels, 1, kBlockRows);
}

int64_t countBlocks(const Rows& rows) {
  const int64_t size = rowsOfBlock(rows);
  return (rows.count + size - 1) / size;
}

/** The mean and the summed squares of deviations of each channel of a block. */
template <typename T>
LAYERWISE_VECTORISED void blockMoments(const T* __restrict input, int64_t rows, int64_t channels, float* __restrict mean, float* __restrict squares) {
  std::fill(mean, mean + channels, 0.f);
  std::fill(squares, squares + channels, 0.f);
  for (int64_t r = 0; r < rows; r++) {
    const T* __restrict row = input + r * channels;
    for (int64_t c = 0; c < channels; c++) mean[c] += toFloat(row[c]);
  }
  const float scale = 1.f / static_cast<float>(rows);
  for (int64_t c = 0; c < channels; c++) mean[c] *= scale;
  for (int64_t r = 0; r < rows; r++) {
    const T* __restrict row = input + r * channels;
    for (int64_t c = 0; c < channels; c++) {
      const float deviation = toFloat(row[c]) - mean[c];
      squares[c] += deviation * deviation;
    }
  }
}

/** Batch norm of one value. The mean is subtracted first, so that a large mean does not cost the digits of small deviations. */
inline float normalized(float value, float mean, float gain, float offset) { return (value - mean) * gain + offset; }

/** max(normalized, 0). */
template <typename T>
LAYERWISE_VECTORISED void blockForward(const T* __restrict input, T* __restrict output, int64_t rows, int64_t channels,
                                       const float* __restrict mean, const float* __restrict gain,
                                       const float* __restrict offset) {
  for (int64_t r = 0; r < rows; r++) {
    const T* __restrict from = input + r * channels;
    T* __restrict to = output + r * channels;
    for (int64_t c = 0; c < channels; c++) {
      const float value = normalized(toFloat(from[c]), mean[c], gain[c], offset[c]);
      store(to + c, value <= 0.f ? 0.f : value);
    }
  }
}

/** The gradient at the output where the ReLU passes it, else 0. */
inline float passed(float gradient, float value, float mean, float gain, float offset) {
  return normalized(value, mean, gain, offset) <= 0.f ? 0.f : gradient;
}

/** Sums of the gradient behind the ReLU, and of its product with the input's deviation from the mean. */
template <typename T>
LAYERWISE_VECTORISED void blockGradientSums(const T* __restrict input, const T* __restrict gradient, int64_t rows,
                                            int64_t channels, const float* __restrict mean,
                                            const float* __restrict gain, const float* __restrict offset,
                                            float* __restrict sum, float* __restrict product) {
  std::fill(sum, sum + channels, 0.f);
  std::fill(product, product + channels, 0.f);
  for (int64_t r = 0; r < rows; r++) {
    const T* __restrict x = input + r * channels;
    const T* __restrict g = gradient + r * channels;
    for (int64_t c = 0; c < channels; c++) {
      const float value = toFloat(x[c]), given = toFloat(g[c]);
      const float behind = passed(given, value, mean[c], gain[c], offset[c]);
      sum[c] += behind;
      product[c] += behind * (value - mean[c]);
    }
  }
}

/** gain * gradient + slope * deviation + base, the gradient behind the ReLU. */
template <typename T>
LAYERWISE_VECTORISED void blockBackward(const T* __restrict input, const T* __restrict gradient, T* __restrict result,
                                        int64_t rows, int64_t channels, const float* __restrict mean,
                                        const float* __restrict gain, const float* __restrict offset,
                                        const float* __restrict slope, const float* __restrict base) {
  for (int64_t r = 0; r < rows; r++) {
    const T* __restrict x = input + r * channels;
    const T* __restrict g = gradient + r * channels;
    T* __restrict to = result + r * channels;
    for (int64_t c = 0; c < channels; c++) {
      const float value = toFloat(x[c]), given = toFloat(g[c]);
      const float behind = passed(given, value, mean[c], gain[c], offset[c]);
      store(to + c, gain[c] * behind + (slope[c] * (value - mean[c]) + base[c]));
    }
  }
}

template <typename T>
T* dataOf(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

/** Calls body(T*) with the element type of the tensor: float32 or bfloat16. */
template <typename Body>
void withElements(const at::Tensor& tensor, const Body& body) {
  if (tensor.scalar_type() == at::kFloat) {
    body(static_cast<float*>(nullptr));
  } else {
    body(static_cast<Bits16*>(nullptr));
  }
}

Rows rowsOf(const at::Tensor& tensor) {
  return {tensor.size(0) * tensor.size(2) * tensor.size(3), tensor.size(1)};
}

/** Batch norm and ReLU of a tensor that lies channels last on a CPU (Ioffe and Szegedy 2015, algorithm 1), or on meta. */
struct BatchNormRelu : torch::autograd::Function<BatchNormRelu> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const at::Tensor& bias, at::Tensor runningMean, at::Tensor runningVar, double momentum,
                            double eps, const std::shared_ptr<Synchronizer>& synchronizer) {
    const Rows rows = rowsOf(input);
    const int64_t channels = rows.channels, size = rowsOfBlock(rows), blocks = countBlocks(rows);
    at::Tensor output = at::empty_like(input);
    // For each channel: mean, 1 / standard deviation, gain, offset.
    at::Tensor statistics = at::empty({4, channels}, input.options().dtype(at::kFloat));
    context->save_for_backward({input, statistics});
    if (synchronizer != nullptr) remember(context, synchronizer);
    if (input.is_meta()) return output;
    float* const mean = dataOf<float>(statistics);
    float *const inverse = mean + channels, *const gain = inverse + channels, *const offset = gain + channels;
    withElements(input, [&](auto* element) {
      using T = std::remove_pointer_t<decltype(element)>;
      const T* const x = dataOf<T>(input);
      T* const y = dataOf<T>(output);
      std::vector<float> moments(2 * blocks * channels);
      const auto lengthOf = [&](int64_t block) { return std::min(size, rows.count - block * size); };
      forEachIndex(blocks, [&](int64_t block) {
        float* const own = moments.data() + 2 * block * channels;
        blockMoments(x + block * size * channels, lengthOf(block), channels, own, own + channels);
      });
      const float *const w = dataOf<float>(weight), *const b = dataOf<float>(bias);
      float *const movingMean = dataOf<float>(runningMean), *const movingVar = dataOf<float>(runningVar);
      // Chan, Golub and LeVeque 1979: moments of parts make those of the whole.
      Moments whole{0, std::vector<double>(channels), std::vector<double>(channels)};
      for (int64_t block = 0; block < blocks; block++) {
        whole.add(static_cast<double>(lengthOf(block)), moments.data() + 2 * block * channels);
      }
      if (synchronizer != nullptr) {
        whole = synchronizer->merge(whole, input.device());
        requireSeveral(whole);
      }
      context->saved_data["count"] = whole.count;
      const auto &average = whole.mean, &squares = whole.squares;
      const double count = whole.count;
      for (int64_t c = 0; c < channels; c++) {
        const double deviation = 1 / std::sqrt(squares[c] / count + eps);
        mean[c] = static_cast<float>(average[c]);
        inverse[c] = static_cast<float>(deviation);
        gain[c] = static_cast<float>(w[c] * deviation);
        // Of the mean, too, what its float32 lacks.
        offset[c] = static_cast<float>(b[c] - (average[c] - mean[c]) * w[c] * deviation);
        movingMean[c] = static_cast<float>((1 - momentum) * movingMean[c] + momentum * average[c]);
        movingVar[c] = static_cast<float>((1 - momentum) * movingVar[c] + momentum * squares[c] / (count - 1));
      }
      forEachIndex(blocks, [&](int64_t block) {
        const int64_t start = block * size * channels;
        blockForward(x + start, y + start, lengthOf(block), channels, mean, gain, offset);
      });
    });
    return output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &statistics = saved[1];
    const at::Tensor gradient = gradients[0].to(input.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
    const Rows rows = rowsOf(input);
    const int64_t channels = rows.channels, size = rowsOfBlock(rows), blocks = countBlocks(rows);
    at::Tensor inputGradient = at::empty_like(input);
    at::Tensor ofParameters = at::empty({2, channels}, statistics.options());
    const variable_list results = {inputGradient, ofParameters[0], ofParameters[1], {}, {}, {}, {}, {}};
    if (input.is_meta()) return results;
    const float* const mean = dataOf<float>(statistics);
    const float *const inverse = mean + channels, *const gain = inverse + channels, *const offset = gain + channels;
    float* const ofWeight = dataOf<float>(ofParameters);
    float* const ofBias = ofWeight + channels;
    withElements(input, [&](auto* element) {
      using T = std::remove_pointer_t<decltype(element)>;
      const T *const x = dataOf<T>(input), *const g = dataOf<T>(gradient);
      T* const result = dataOf<T>(inputGradient);
      std::vector<float> sums(2 * blocks * channels), slope(channels), base(channels);
      const auto lengthOf = [&](int64_t block) { return std::min(size, rows.count - block * size); };
      forEachIndex(blocks, [&](int64_t block) {
        const int64_t start = block * size * channels;
        float* const own = sums.data() + 2 * block * channels;
        blockGradientSums(x + start, g + start, lengthOf(block), channels, mean, gain, offset, own,
                          own + channels);
      });
      const double count = context->saved_data["count"].toDouble();
      // Of each channel, and then the products.
      std::vector<double> totals(2 * channels);
      for (int64_t block = 0; block < blocks; block++) {
        const float* const own = sums.data() + 2 * block * channels;
        for (int64_t i = 0; i < 2 * channels; i++) totals[i] += own[i];
      }
      const double *sum = totals.data(), *product = sum + channels;
      for (int64_t c = 0; c < channels; c++) {
        ofWeight[c] = static_cast<float>(product[c] * inverse[c]);
        ofBias[c] = static_cast<float>(sum[c]);
      }
      if (const std::shared_ptr<Synchronizer> synchronizer = recall(context)) {
        totals = synchronizer->sum(std::move(totals), input.device());
        sum = totals.data();
        product = sum + channels;
      }
      for (int64_t c = 0; c < channels; c++) {
        // gain * (g - mean of g - deviation * inverse^2 * mean of g * deviation)
        slope[c] = static_cast<float>(-gain[c] * product[c] / count * inverse[c] * inverse[c]);
        base[c] = static_cast<float>(-gain[c] * sum[c] / count);
      }
      forEachIndex(blocks, [&](int64_t block) {
        const int64_t start = block * size * channels;
        blockBackward(x + start, g + start, result + start, lengthOf(block), channels, mean, gain, offset,
                      slope.data(), base.data());
      });
    });
    return results;
  }
};

bool fitsFused(const at::Tensor& input, std::initializer_list<const at::Tensor*> perChannel) {
  const bool isKnown = input.scalar_type() == at::kFloat || input.scalar_type() == at::kBFloat16;
  return isKnown && (input.is_cpu() || input.is_meta()) && input.dim() == 4 && input.numel() > 0 &&
         input.is_contiguous(at::MemoryFormat::ChannelsLast) &&
         std::all_of(perChannel.begin(), perChannel.end(), [&](const at::Tensor* tensor) {
           return tensor->defined() && tensor->device() == input.device() && tensor->scalar_type() == at::kFloat &&
                  tensor->is_contiguous() && tensor->dim() == 1 && tensor->numel() == input.size(1);
         });
}

struct AverageWindows : torch::autograd::Function<AverageWindows> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, int64_t height, int64_t width) {
    context->saved_data["height"] = input.size(2);
    context->saved_data["width"] = input.size(3);
    return at::adaptive_avg_pool2d(input, {height, width});
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const int64_t height = context->saved_data["height"].toInt(), width = context->saved_data["width"].toInt();
    const at::Tensor& gradient = gradients[0];
    const double values = static_cast<double>(height / gradient.size(2)) * static_cast<double>(width / gradient.size(3));
    // Each value of a window has had the same share in its mean.
    return {at::upsample_nearest2d(gradient.div(values), {height, width}), {}, {}};
  }
};

}  // namespace

at::Tensor batchNormRelu(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                         const at::Tensor& runningMean, const at::Tensor& runningVar, double momentum, double eps) {
  if (fitsFused(input, {&weight, &bias, &runningMean, &runningVar})) {
    return BatchNormRelu::apply(input, weight, bias, runningMean, runningVar, momentum, eps, synchronizer());
  }
  if (synchronizer() != nullptr) {
    return synchronizedBatchNorm(input, weight, bias, runningMean, runningVar, momentum, eps, synchronizer()).relu_();
  }
  return at::batch_norm(input, weight, bias, runningMean, runningVar, /*training=*/true, momentum, eps,
                        at::globalContext().userEnabledCuDNN())
      .relu_();
}

at::Tensor averageWindows(const at::Tensor& input, int64_t outputHeight, int64_t outputWidth) {
  return AverageWindows::apply(input, outputHeight, outputWidth);
}

}  // namespace layerwise
