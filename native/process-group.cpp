#include "process-group.h"

#if LAYERWISE_CAN_DISTRIBUTE

#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>

#include <algorithm>
#include <array>
#include <future>
#include <thread>
#include <utility>

#include "call.h"
#include "parallel.h"

namespace layerwise {

namespace {

/** What the ranks compare: kind, reduction or root, dtype, dimensions, sizes, strides; a digest of those that have no place. */
constexpr size_t kMostDimensions = 6;
using Signature = std::array<int64_t, 4 + 2 * kMostDimensions + 1>;

int64_t digest(int64_t before, int64_t value) {
  // FNV-1a over the whole number.
  return static_cast<int64_t>((static_cast<uint64_t>(before) ^ static_cast<uint64_t>(value)) * 1099511628211ULL);
}

Signature signatureOf(const CollectiveRequest& request) {
  Signature signature{};
  signature[0] = static_cast<int64_t>(request.kind);
  signature[1] = request.kind == Collective::kAllReduce ? static_cast<int64_t>(request.reduction) : request.root;
  if (!request.tensor.defined()) return signature;
  const at::Tensor& tensor = request.tensor;
  signature[2] = static_cast<int64_t>(tensor.scalar_type());
  signature[3] = tensor.dim();
  for (size_t i = 0; i < static_cast<size_t>(tensor.dim()); i++) {
    const int64_t size = tensor.sizes()[i];
    // Where there is one row the step to the next means nothing.
    const int64_t stride = size < 2 ? 0 : tensor.strides()[i];
    if (i < kMostDimensions) {
      signature[4 + i] = size;
      signature[4 + kMostDimensions + i] = stride;
    } else {
      signature.back() = digest(digest(signature.back(), size), stride);
    }
  }
  return signature;
}

const char* nameOf(Reduction reduction) {
  switch (reduction) {
    case Reduction::kSum: return "sum";
    case Reduction::kMean: return "mean";
    case Reduction::kMax: return "max";
  }
  return "";
}

/** As PyTorch writes it. */
std::string nameOf(at::ScalarType dtype) {
  switch (dtype) {
    case at::kByte: return "uint8";
    case at::kLong: return "int64";
    case at::kHalf: return "float16";
    case at::kFloat: return "float32";
    case at::kDouble: return "float64";
    case at::kBool: return "bool";
    case at::kBFloat16: return "bfloat16";
    default: return c10::toString(dtype);
  }
}

std::string describe(Collective kind, int64_t detail, at::ScalarType dtype, c10::IntArrayRef sizes, bool isUnusual) {
  std::string text = nameOf(kind);
  if (kind == Collective::kBarrier) return text;
  text += " of " + nameOf(dtype) + describeShape(sizes) + (isUnusual ? " in another order of memory" : "");
  if (kind == Collective::kAllReduce) text += std::string(" (") + nameOf(static_cast<Reduction>(detail)) + ")";
  if (kind == Collective::kBroadcast || kind == Collective::kReceive) text += " from rank " + std::to_string(detail);
  if (kind == Collective::kSend) text += " to rank " + std::to_string(detail);
  return text;
}

std::string describe(const int64_t* signature) {
  const size_t dimensions = static_cast<size_t>(signature[3]);
  const size_t listed = std::min(dimensions, kMostDimensions);
  int64_t stride = 1;
  bool isUnusual = false;
  for (size_t i = listed; i-- > 0 && dimensions <= kMostDimensions;) {
    const int64_t own = signature[4 + kMostDimensions + i];
    if (own != 0 && own != stride) isUnusual = true;
    stride *= signature[4 + i];
  }
  return describe(static_cast<Collective>(signature[0]), signature[1], static_cast<at::ScalarType>(signature[2]),
                  c10::IntArrayRef(signature + 4, listed), isUnusual);
}

/** The tensor's block of memory, whatever the order of its dimensions in it. */
at::Tensor flat(const at::Tensor& tensor) { return tensor.as_strided({tensor.numel()}, {1}); }

/** While it lives this thread computes where the tensors of a request are computed on. */
class OnStreamOf {
 public:
  explicit OnStreamOf(const CollectiveRequest& request) {
    if (request.stream.has_value()) guard_.emplace(*request.stream);
  }

 private:
  std::optional<c10::StreamGuard> guard_;
};

/**
 * Gloo returns when the work is done, or failed; NCCL as soon as the stream waits for it. What comes from one rank alone may be long in
 * coming: the stream, which others' work is on, is not to wait for it before it is there.
 */
void waitFor(const c10::intrusive_ptr<c10d::Work>& work, std::chrono::milliseconds timeout, bool isLongInComing = false) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  while (isLongInComing && !work->isCompleted() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  work->wait();
  while (!work->isCompleted()) {
    if (std::chrono::steady_clock::now() > end) throw std::runtime_error("timed out");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

const char* nameOf(Collective kind) {
  switch (kind) {
    case Collective::kBroadcast: return "broadcast";
    case Collective::kAllReduce: return "allReduce";
    case Collective::kAllGather: return "allGather";
    case Collective::kBarrier: return "barrier";
    case Collective::kSend: return "send";
    case Collective::kReceive: return "receive";
  }
  return "";
}

std::shared_ptr<ProcessGroup> ProcessGroup::join(GroupRequest request, Done joined) {
  std::shared_ptr<ProcessGroup> group(new ProcessGroup(std::move(request)));
  std::thread([group, joined = std::move(joined)] { group->begin(joined); }).detach();
  return group;
}

void ProcessGroup::begin(const Done& joined) {
  if (request_.size > 1) {
    try {
      rendezvous_ = std::make_shared<Rendezvous>(request_);
      rendezvous_->meet();
      const auto connect = [this](const std::string& backend, const std::string& prefix) {
        return makeBackend(backend, rendezvous_->storeFor(prefix), request_.rank, request_.size, request_.timeout);
      };
      connections_.work = connect(request_.backend, "backend");
      if (request_.verifies) connections_.comparing = request_.backend == "gloo" ? connections_.work : connect("gloo", "compare");
      rendezvous_->begin();
    } catch (const GroupError& error) {
      joined(&error.failure, "join");
      return;
    } catch (const std::exception& error) {
      Failure failure = failureOf(error, request_.timeout);
      failure.reason = "the ranks met, but could not be connected: " + failure.reason;
      joined(&failure, "join");
      return;
    }
  }
  std::thread([group = shared_from_this()] { group->endTasks(); }).detach();
  for (const Lane lane : {Lane::kSend, Lane::kReceive}) {
    std::thread([group = shared_from_this(), lane] {
      group->endLane(lane);
      const std::lock_guard<std::mutex> lock(group->mutex_);
      group->lanesOver_++;
      group->changed_.notify_all();
    }).detach();
  }
  joined(nullptr, "join");
  beginTasks();
}

void ProcessGroup::submit(CollectiveRequest request, Done done) {
  std::string name = describe(signatureOf(request).data());
  const std::lock_guard<std::mutex> lock(mutex_);
  waiting_.push_back({std::move(request), std::move(done), std::move(name)});
  changed_.notify_all();
}

void ProcessGroup::perform(CollectiveRequest request) {
  std::promise<std::optional<std::string>> ended;
  submit(std::move(request), [&ended](const Failure* failure, const std::string& operation) {
    ended.set_value(failure == nullptr ? std::nullopt : std::optional(operation + ": " + failure->reason));
  });
  const std::optional<std::string> failure = ended.get_future().get();
  if (failure.has_value()) throw CodedError("COLLECTIVE_FAILED", *failure);
}

void ProcessGroup::giveUp(const std::string& reason) {
  const std::lock_guard<std::mutex> lock(failing_);
  if (failure_.has_value()) return;
  failure_ = Failure{"GROUP_LEFT", "this rank has given up: " + reason, {}};
  std::promise<void> told;
  givenUp_ = told.get_future().share();
  std::thread([group = shared_from_this(), rendezvous = rendezvous_, reason, told = std::move(told)]() mutable {
    const auto closeConnections = [&] { std::thread([connections = group->takeConnections()] {}).detach(); };
    if (rendezvous == nullptr) {
      closeConnections();
    } else {
      rendezvous->explain({"GROUP_LEFT", reason, {}}, "training", closeConnections);
    }
    told.set_value();
  }).detach();
}

void ProcessGroup::leave(Done done) {
  const std::lock_guard<std::mutex> lock(mutex_);
  isLeaving_ = true;
  left_ = std::move(done);
  changed_.notify_all();
}

void ProcessGroup::abandon() {
  const std::lock_guard<std::mutex> lock(mutex_);
  isLeaving_ = true;
  changed_.notify_all();
}

ProcessGroup::Connections ProcessGroup::connections() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (connections_.work == nullptr) throw std::runtime_error("the connections were closed when another call failed");
  return connections_;
}

ProcessGroup::Connections ProcessGroup::takeConnections() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(connections_, Connections{});
}

/** The first thread: compares and issues. */
void ProcessGroup::beginTasks() {
  const SingleThread single;
  const c10::InferenceMode noGradients;
  for (;;) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return isLeaving_ || !waiting_.empty(); });
    if (waiting_.empty()) {
      allBegun_ = true;
      changed_.notify_all();
      return;
    }
    Task task = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    beginOne(std::move(task));
  }
}

void ProcessGroup::beginOne(Task task) {
  c10::intrusive_ptr<c10d::Work> work;
  try {
    {
      const std::lock_guard<std::mutex> lock(failing_);
      if (failure_.has_value()) throw GroupError(*failure_);
    }
    const OnStreamOf stream(task.request);
    if (request_.verifies) {
      const std::optional<Failure> mismatch = compare(task.request);
      if (mismatch.has_value()) return task.done(&*mismatch, task.name);
    }
    work = issue(task.request);
  } catch (const GroupError& error) {
    return task.done(&error.failure, task.name);
  } catch (const std::exception& error) {
    return fail(task, failureOf(error, request_.timeout));
  }
  const Lane lane = laneOf(task.request);
  const std::lock_guard<std::mutex> lock(mutex_);
  begun_[static_cast<size_t>(lane)].push_back({std::move(task), std::move(work)});
  changed_.notify_all();
}

/** The ranks tell each other what they are about to do. All of them find the same, so that after a mismatch the group goes on. */
std::optional<Failure> ProcessGroup::compare(const CollectiveRequest& request) {
  if (request_.size == 1 || laneOf(request) != Lane::kAll) return std::nullopt;
  const c10::intrusive_ptr<c10d::Backend> by = connections().comparing;
  const Signature signature = signatureOf(request);
  const int64_t length = static_cast<int64_t>(signature.size());
  // Not the array itself: after a time-out Gloo may still read it.
  at::Tensor own = at::empty({length}, at::kLong);
  std::copy(signature.begin(), signature.end(), own.mutable_data_ptr<int64_t>());
  at::Tensor all = at::empty({request_.size * length}, own.options());
  waitFor(by->_allgather_base(all, own, c10d::AllgatherOptions()), request_.timeout);
  const int64_t* const theirs = all.const_data_ptr<int64_t>();
  const auto of = [&](int rank) { return theirs + rank * length; };
  const auto isAs = [&](int rank, int other) { return std::equal(of(rank), of(rank) + length, of(other)); };
  for (int rank = 1; rank < request_.size; rank++) {
    if (isAs(rank, 0)) continue;
    return Failure{"MISMATCH",
                   "the ranks call different things: rank 0 " + describe(of(0)) + ", rank " + std::to_string(rank) + " " +
                       describe(of(rank)),
                   {}};
  }
  return std::nullopt;
}

c10::intrusive_ptr<c10d::Work> ProcessGroup::issue(const CollectiveRequest& request) {
  const bool isEmpty = request.tensor.defined() && request.tensor.numel() == 0;
  if (request_.size == 1 || isEmpty) {
    if (request.kind == Collective::kAllGather && !isEmpty) flat(request.output).copy_(flat(request.tensor));
    return nullptr;
  }
  const c10::intrusive_ptr<c10d::Backend> by = connections().work;
  switch (request.kind) {
    case Collective::kBroadcast: {
      std::vector<at::Tensor> tensors{flat(request.tensor)};
      c10d::BroadcastOptions options;
      options.rootRank = request.root;
      return by->broadcast(tensors, options);
    }
    case Collective::kAllReduce: {
      std::vector<at::Tensor> tensors{flat(request.tensor)};
      c10d::AllreduceOptions options;
      options.reduceOp = request.reduction == Reduction::kMax ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM;
      return by->allreduce(tensors, options);
    }
    case Collective::kAllGather: {
      at::Tensor output = flat(request.output);
      at::Tensor input = flat(request.tensor);
      return by->_allgather_base(output, input, c10d::AllgatherOptions());
    }
    case Collective::kBarrier: return by->barrier(c10d::BarrierOptions());
    case Collective::kSend: {
      std::vector<at::Tensor> tensors{flat(request.tensor)};
      return by->send(tensors, request.root, /*tag=*/0);
    }
    case Collective::kReceive: {
      std::vector<at::Tensor> tensors{flat(request.tensor)};
      return by->recv(tensors, request.root, /*tag=*/0);
    }
  }
  return nullptr;
}

ProcessGroup::Lane ProcessGroup::laneOf(const CollectiveRequest& request) {
  if (request.kind == Collective::kSend) return Lane::kSend;
  return request.kind == Collective::kReceive ? Lane::kReceive : Lane::kAll;
}

/** A thread of each lane: waits for what was issued. */
void ProcessGroup::endLane(Lane lane) {
  const SingleThread single;
  const c10::InferenceMode noGradients;
  std::deque<Begun>& mine = begun_[static_cast<size_t>(lane)];
  for (;;) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return allBegun_ || !mine.empty(); });
    if (mine.empty()) break;
    Begun begun = std::move(mine.front());
    mine.pop_front();
    lock.unlock();
    endOne(std::move(begun));
  }
}

/** The second thread: leaves in the end. */
void ProcessGroup::endTasks() {
  endLane(Lane::kAll);
  {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return lanesOver_ + 1 == kLanes; });
  }
  std::shared_future<void> givenUp;
  {
    const std::lock_guard<std::mutex> lock(failing_);
    givenUp = givenUp_;
  }
  if (givenUp.valid()) givenUp.wait();
  const Done left = std::move(left_);
  bool isOrderly = left != nullptr && rendezvous_ != nullptr;
  {
    const std::lock_guard<std::mutex> lock(failing_);
    isOrderly = isOrderly && !failure_.has_value();
  }
  if (isOrderly) rendezvous_->leave();
  // The connections close, and then the store.
  takeConnections();
  rendezvous_ = nullptr;
  if (left != nullptr) left(nullptr, "leave");
}

void ProcessGroup::endOne(Begun begun) {
  const CollectiveRequest& request = begun.task.request;
  try {
    const OnStreamOf stream(request);
    const bool isOnDevice = request.stream.has_value();
    if (begun.work != nullptr) waitFor(begun.work, request_.timeout, isOnDevice && laneOf(request) != Lane::kAll);
    // Gloo has no mean.
    if (request.kind == Collective::kAllReduce && request.reduction == Reduction::kMean && request_.size > 1) {
      flat(request.tensor).div_(request_.size);
    }
  } catch (const std::exception& error) {
    // It keeps the connections.
    begun.work = nullptr;
    return fail(begun.task, failureOf(error, request_.timeout));
  }
  begun.task.done(nullptr, begun.task.name);
}

/** A group that failed once has lost connections: everything after it fails by the same cause. */
void ProcessGroup::fail(const Task& task, const Failure& failure) {
  const std::lock_guard<std::mutex> lock(failing_);
  if (!failure_.has_value()) {
    // Without it the connections close, so that a rank that waits for this one hears of it now; not before all work on them has
    // ended, which may take until its time-out.
    const auto closeConnections = [this] { std::thread([connections = takeConnections()] {}).detach(); };
    failure_ = rendezvous_ == nullptr ? failure : rendezvous_->explain(failure, task.name, closeConnections);
  }
  task.done(&*failure_, task.name);
}

}  // namespace layerwise

#endif
