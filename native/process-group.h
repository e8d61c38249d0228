// One rank of a group of processes: its collectives, in the order in which they were submitted, on threads of their own.
#pragma once

#include "rendezvous.h"

#if LAYERWISE_CAN_DISTRIBUTE

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace layerwise {

enum class Collective : uint8_t { kBroadcast = 0, kAllReduce = 1, kAllGather = 2, kBarrier = 3, kSend = 4, kReceive = 5 };
enum class Reduction : uint8_t { kSum = 0, kMean = 1, kMax = 2 };

/** What all ranks do together, or two of them. The tensors live as long as it does, whoever else lets go of them. */
struct CollectiveRequest {
  Collective kind;
  /** Changed in place, but for kAllGather and kSend; of one block of memory. Undefined for kBarrier. */
  at::Tensor tensor;
  /** Of kAllGather: [size, ...tensor]. */
  at::Tensor output;
  Reduction reduction = Reduction::kSum;
  /** Of kBroadcast; of kSend and kReceive the other rank. */
  int root = 0;
  /** Of CUDA tensors: what computes on them. */
  std::optional<c10::Stream> stream;
};

/**
 * Told once how an operation went, on a thread of the group's own; null: as it should. It must not wait for the group.
 * The operation is in words, such as "allReduce of float32[2, 3] (mean)".
 */
using Done = std::function<void(const Failure*, const std::string& operation)>;

const char* nameOf(Collective kind);

class ProcessGroup : public std::enable_shared_from_this<ProcessGroup> {
 public:
  /** Begins to join. `joined` is told when all ranks are there, or why not; after a failure the group is over. */
  static std::shared_ptr<ProcessGroup> join(GroupRequest request, Done joined);

  const GroupRequest& request() const { return request_; }

  void submit(CollectiveRequest request, Done done);
  /** Submits, and waits in this thread until it is done. Throws CodedError, COLLECTIVE_FAILED. */
  void perform(CollectiveRequest request);
  /** What was submitted and is not over fails, and the others hear why: "gave up in training: ...". To be followed by `leave`. */
  void giveUp(const std::string& reason);
  /** After what was submitted: leaves. Nothing may be submitted any more. */
  void leave(Done done);
  /** The same, and nobody waits for it: returns at once. */
  void abandon();

 private:
  struct Task {
    CollectiveRequest request;
    Done done;
    std::string name;
  };
  struct Begun {
    Task task;
    c10::intrusive_ptr<c10d::Work> work;
  };

  struct Connections {
    c10::intrusive_ptr<c10d::Backend> work;
    /** Gloo's, by which the ranks compare what they are about to do: NCCL takes no tensors of the CPU. */
    c10::intrusive_ptr<c10d::Backend> comparing;
  };

  explicit ProcessGroup(GroupRequest request) : request_(std::move(request)) {}

  void begin(const Done& joined);
  void beginTasks();
  /** Each is waited for by a thread of its own: what waits for one rank must not keep what another has done from being told. */
  enum class Lane : uint8_t { kAll = 0, kSend = 1, kReceive = 2 };
  static constexpr size_t kLanes = 3;
  static Lane laneOf(const CollectiveRequest& request);
  void endTasks();
  void endLane(Lane lane);
  void beginOne(Task task);
  void endOne(Begun begun);
  std::optional<Failure> compare(const CollectiveRequest& request);
  c10::intrusive_ptr<c10d::Work> issue(const CollectiveRequest& request);
  void fail(const Task& task, const Failure& failure);
  /** Throws where the connections have been closed, because an earlier task failed. */
  Connections connections();
  Connections takeConnections();

  const GroupRequest request_;
  /** Null where this rank is the only one. */
  std::shared_ptr<Rendezvous> rendezvous_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> waiting_;
  std::array<std::deque<Begun>, kLanes> begun_;
  size_t lanesOver_ = 0;
  bool isLeaving_ = false;
  Done left_;
  bool allBegun_ = false;
  /** Null where this rank is the only one, and after a failure. */
  Connections connections_;

  std::mutex failing_;
  std::optional<Failure> failure_;
  /** Over when the others were told that this rank has given up. */
  std::shared_future<void> givenUp_;
};

}  // namespace layerwise

#endif
