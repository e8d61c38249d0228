#include "synchronized.h"

#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "call.h"

namespace layerwise {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Numbers = std::vector<double>;

thread_local std::shared_ptr<Synchronizer> current;

/** A synchronizer as autograd keeps it. */
struct Remembered : torch::CustomClassHolder {
  explicit Remembered(std::shared_ptr<Synchronizer> given) : synchronizer(std::move(given)) {}
  const std::shared_ptr<Synchronizer> synchronizer;
};

Numbers numbersOf(const at::Tensor& values) {
  const at::Tensor onCpu = values.to(at::device(at::kCPU).dtype(at::kDouble)).contiguous();
  const double* const data = onCpu.data_ptr<double>();
  return {data, data + onCpu.numel()};
}

/** float32 [1, channels, 1, ...], to be combined with `values`. */
at::Tensor alongChannels(const Numbers& numbers, const at::Tensor& values) {
  at::Tensor onCpu = at::empty({static_cast<int64_t>(numbers.size())}, at::kDouble);
  std::copy(numbers.begin(), numbers.end(), onCpu.data_ptr<double>());
  IntegerList shape(static_cast<size_t>(values.dim()), 1);
  shape[1] = onCpu.numel();
  return onCpu.to(values.options().dtype(at::kFloat)).view(shape);
}

/** The sum over all dimensions but that of the channels. */
Numbers sumsOf(const at::Tensor& values) {
  IntegerList others;
  for (int64_t i = 0; i < values.dim(); i++) {
    if (i != 1) others.push_back(i);
  }
  return numbersOf(values.sum(others));
}

Moments momentsOf(const at::Tensor& values) {
  Moments moments;
  const int64_t channels = values.size(1);
  moments.count = static_cast<double>(values.numel() / channels);
  moments.mean = sumsOf(values);
  for (double& mean : moments.mean) mean /= moments.count;
  moments.squares = sumsOf(values.sub(alongChannels(moments.mean, values)).square_());
  return moments;
}

/** running = (1 - momentum) * running + momentum * value, in place. */
void move(at::Tensor running, const Numbers& values, double momentum) {
  if (!running.defined()) return;
  at::Tensor onCpu = at::empty({static_cast<int64_t>(values.size())}, at::kDouble);
  std::copy(values.begin(), values.end(), onCpu.data_ptr<double>());
  running.mul_(1 - momentum).add_(onCpu.to(running.options()), momentum);
}

/** Ioffe and Szegedy 2015, algorithm 1, of a batch whose parts the ranks have. */
struct SynchronizedBatchNorm : torch::autograd::Function<SynchronizedBatchNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const at::Tensor& bias, const at::Tensor& runningMean, const at::Tensor& runningVar,
                            double momentum, double eps, const std::shared_ptr<Synchronizer>& synchronizer) {
    const at::Tensor values = input.to(at::kFloat);
    const Moments moments = synchronizer->merge(momentsOf(values), values.device());
    requireSeveral(moments);
    Numbers inverse, unbiased, shift;
    for (size_t c = 0; c < moments.squares.size(); c++) {
      inverse.push_back(1 / std::sqrt(moments.squares[c] / moments.count + eps));
      unbiased.push_back(moments.squares[c] / (moments.count - 1));
      // Of the mean, what its float32 lacks, where the values are normalised.
      shift.push_back((static_cast<float>(moments.mean[c]) - moments.mean[c]) * inverse.back());
    }
    move(runningMean, moments.mean, momentum);
    move(runningVar, unbiased, momentum);
    const at::Tensor mean = alongChannels(moments.mean, values), scale = alongChannels(inverse, values);
    context->save_for_backward({input, weight, mean, scale});
    context->saved_data["count"] = moments.count;
    remember(context, synchronizer);
    at::Tensor output = values.sub(mean).mul_(scale).add_(alongChannels(shift, values));
    if (weight.defined()) output.mul_(weight.view(scale.sizes()));
    if (bias.defined()) output.add_(bias.view(scale.sizes()));
    return output.to(input.scalar_type());
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &weight = saved[1], &mean = saved[2], &scale = saved[3];
    const at::Tensor gradient = gradients[0].to(at::kFloat);
    const at::Tensor normalized = input.to(at::kFloat).sub_(mean).mul_(scale);
    const Numbers ofBias = sumsOf(gradient), ofWeight = sumsOf(gradient.mul(normalized));
    Numbers both = ofBias;
    both.insert(both.end(), ofWeight.begin(), ofWeight.end());
    both = recall(context)->sum(std::move(both), gradient.device());
    const double count = context->saved_data["count"].toDouble();
    for (double& sum : both) sum /= count;
    const auto middle = both.begin() + static_cast<std::ptrdiff_t>(ofBias.size());
    const at::Tensor base = alongChannels({both.begin(), middle}, gradient);
    const at::Tensor slope = alongChannels({middle, both.end()}, gradient);
    at::Tensor ofInput = gradient.sub(base).sub_(normalized.mul(slope)).mul_(scale);
    if (weight.defined()) ofInput.mul_(weight.view(scale.sizes()));
    const auto ofParameter = [&](const Numbers& sums) {
      return weight.defined() ? alongChannels(sums, gradient).view({-1}).to(weight.scalar_type()) : at::Tensor();
    };
    return {ofInput.to(input.scalar_type()), ofParameter(ofWeight), ofParameter(ofBias), {}, {}, {}, {}, {}};
  }
};

}  // namespace

void requireSeveral(const Moments& moments) {
  if (moments.count > 1) return;
  throw CodedError("INVALID_ARGUMENT", "expected more than one value a channel in training");
}

const std::shared_ptr<Synchronizer>& synchronizer() { return current; }

SynchronizedGuard::SynchronizedGuard(std::shared_ptr<Synchronizer> synchronizer)
    : before_(std::exchange(current, std::move(synchronizer))) {}

SynchronizedGuard::~SynchronizedGuard() { current = std::move(before_); }

void remember(AutogradContext* context, const std::shared_ptr<Synchronizer>& synchronizer) {
  context->saved_data["synchronizer"] = c10::IValue::make_capsule(c10::make_intrusive<Remembered>(synchronizer));
}

std::shared_ptr<Synchronizer> recall(AutogradContext* context) {
  const auto found = context->saved_data.find("synchronizer");
  if (found == context->saved_data.end()) return nullptr;
  return c10::static_intrusive_pointer_cast<Remembered>(found->second.toCapsule())->synchronizer;
}

at::Tensor synchronizedBatchNorm(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                                 const at::Tensor& runningMean, const at::Tensor& runningVar, double momentum, double eps,
                                 const std::shared_ptr<Synchronizer>& synchronizer) {
  return SynchronizedBatchNorm::apply(input, weight, bias, runningMean, runningVar, momentum, eps, synchronizer);
}

}  // namespace layerwise
