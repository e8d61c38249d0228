// Batch statistics over all ranks of a group: what batch norm in training takes them from.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>
#include <vector>

namespace layerwise {

/** Of each channel of some values: how many there are, their mean, and the sum of the squares of their deviations from it. */
struct Moments {
  double count = 0;
  std::vector<double> mean;
  std::vector<double> squares;

  /** Takes in those of `number` other values: their means, and then their squares, of each channel (Chan, Golub and LeVeque 1979). */
  template <typename T>
  void add(double number, const T* others) {
    if (number == 0) return;
    const size_t channels = mean.size();
    const double share = number / (count + number);
    for (size_t c = 0; c < channels; c++) {
      const double delta = others[c] - mean[c];
      mean[c] += delta * share;
      squares[c] += others[channels + c] + delta * delta * share * count;
    }
    count += number;
  }
};

/** Throws INVALID_ARGUMENT for a single value, which has no variance. */
void requireSeveral(const Moments& moments);

/** What ranks that compute parts of one batch, on a device each, tell each other. Both calls wait for all ranks; they throw CodedError. */
class Synchronizer {
 public:
  virtual ~Synchronizer() = default;
  /** The moments of the values of all ranks, the same bits on each. */
  virtual Moments merge(const Moments& own, at::Device device) const = 0;
  /** The sums over all ranks of as many numbers, the same bits on each. */
  virtual std::vector<double> sum(std::vector<double> own, at::Device device) const = 0;
};

/** What batch norm in this thread takes its statistics from in training; null: its own input alone. */
const std::shared_ptr<Synchronizer>& synchronizer();

/** While it lives, batch norm in this thread takes its statistics of all ranks. */
class SynchronizedGuard {
 public:
  explicit SynchronizedGuard(std::shared_ptr<Synchronizer> synchronizer);
  ~SynchronizedGuard();
  SynchronizedGuard(const SynchronizedGuard&) = delete;
  SynchronizedGuard& operator=(const SynchronizedGuard&) = delete;

 private:
  std::shared_ptr<Synchronizer> before_;
};

/** What a backward pass needs of its forward pass; `recall` gives what `remember` was given, or null. */
void remember(torch::autograd::AutogradContext* context, const std::shared_ptr<Synchronizer>& synchronizer);
std::shared_ptr<Synchronizer> recall(torch::autograd::AutogradContext* context);

/**
 * Batch norm in training by the statistics of all ranks (as torch.nn.SyncBatchNorm): input [n, channels, ...] of any device and
 * floating-point dtype, weight and bias [channels], or undefined. The running statistics are updated in place. Gradients of weight
 * and bias are those of this rank's values alone: their sum over the ranks is that of the whole batch.
 */
at::Tensor synchronizedBatchNorm(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                 const at::Tensor& runningMean, const at::Tensor& runningVar, double momentum, double eps,
                                 const std::shared_ptr<Synchronizer>& synchronizer);

}  // namespace layerwise
