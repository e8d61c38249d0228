// Groups of processes for JavaScript: what was submitted is told to one callback a group, by number.
#include <node_api.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "backends.h"
#include "call.h"
#include "exports.h"
#include "process-group.h"
#include "synchronized.h"

#if LAYERWISE_CAN_DISTRIBUTE
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#endif

namespace layerwise {

namespace {

#if LAYERWISE_CAN_DISTRIBUTE

/** How an operation of a group went. */
struct Outcome {
  int32_t id;
  /** In words. */
  std::string operation;
  std::optional<Failure> failure;
};

/** A group as an environment knows it. */
struct Member {
  std::shared_ptr<ProcessGroup> group;
  int32_t operations = 0;
  /** Those that nobody was told of yet: while there are some, the event loop goes on. */
  int32_t pending = 0;
  std::mutex mutex;
  /** Null once nobody can be told any more. */
  napi_threadsafe_function tell = nullptr;
};

using SharedMember = std::shared_ptr<Member>;

struct Members {
  std::unordered_map<int32_t, SharedMember> joined;
  int32_t last = 0;
};

Members& membersOf(Call& call) {
  Environment& environment = *call.environment;
  if (environment.groups == nullptr) environment.groups = std::make_shared<Members>();
  return *static_cast<Members*>(environment.groups.get());
}

const SharedMember& memberOf(Call& call, size_t i) {
  Members& members = membersOf(call);
  const auto found = members.joined.find(static_cast<int32_t>(call.integer(i, "group")));
  if (found == members.joined.end()) throw CodedError("INVALID_ARGUMENT", "expected a group that was joined and not left");
  return found->second;
}

napi_value failureForJavaScript(napi_env env, const std::string& operation, const Failure& failure) {
  napi_value object;
  napi_value name;
  napi_value code;
  napi_value reason;
  napi_value missing;
  napi_create_object(env, &object);
  napi_create_string_utf8(env, failure.code, NAPI_AUTO_LENGTH, &code);
  napi_create_string_utf8(env, failure.reason.c_str(), failure.reason.size(), &reason);
  napi_create_array_with_length(env, failure.missing.size(), &missing);
  for (size_t i = 0; i < failure.missing.size(); i++) {
    napi_value rank;
    napi_create_int32(env, failure.missing[i], &rank);
    napi_set_element(env, missing, static_cast<uint32_t>(i), rank);
  }
  napi_create_string_utf8(env, operation.c_str(), operation.size(), &name);
  napi_set_named_property(env, object, "operation", name);
  napi_set_named_property(env, object, "code", code);
  napi_set_named_property(env, object, "reason", reason);
  napi_set_named_property(env, object, "missing", missing);
  return object;
}

/** In the environment's thread: tells the callback (operation, failure or undefined). */
void tellOutcome(napi_env env, napi_value callback, void* context, void* data) {
  const std::unique_ptr<Outcome> outcome(static_cast<Outcome*>(data));
  if (env == nullptr) return;
  Member& member = **static_cast<SharedMember*>(context);
  if (--member.pending == 0 && member.tell != nullptr) napi_unref_threadsafe_function(env, member.tell);
  napi_value undefined;
  napi_get_undefined(env, &undefined);
  napi_value values[2];
  napi_create_int32(env, outcome->id, &values[0]);
  values[1] = outcome->failure.has_value() ? failureForJavaScript(env, outcome->operation, *outcome->failure) : undefined;
  napi_call_function(env, undefined, callback, 2, values, nullptr);
}

/** The environment ends: nobody can be told any more. */
void abandonMember(void* data) {
  Member& member = **static_cast<SharedMember*>(data);
  {
    const std::lock_guard<std::mutex> lock(member.mutex);
    member.tell = nullptr;
  }
  member.group->abandon();
}

/** In the environment's thread: nothing of the group will be told any more. */
void forget(Call& call, int32_t id) {
  Members& members = membersOf(call);
  const auto found = members.joined.find(id);
  if (found == members.joined.end()) return;
  const SharedMember member = found->second;
  members.joined.erase(found);
  void* known = nullptr;
  napi_get_threadsafe_function_context(member->tell, &known);
  napi_remove_env_cleanup_hook(call.env, abandonMember, known);
  const napi_threadsafe_function tell = member->tell;
  {
    const std::lock_guard<std::mutex> lock(member->mutex);
    member->tell = nullptr;
  }
  if (member->group != nullptr) member->group->abandon();
  napi_release_threadsafe_function(tell, napi_tsfn_release);
}

/** A number for an operation, and what it is told by. */
std::pair<int32_t, Done> newOperation(napi_env env, const SharedMember& member) {
  const int32_t id = ++member->operations;
  if (member->pending++ == 0) napi_ref_threadsafe_function(env, member->tell);
  return {id, [member, id](const Failure* failure, const std::string& operation) {
            auto outcome = std::make_unique<Outcome>();
            outcome->id = id;
            outcome->operation = operation;
            if (failure != nullptr) outcome->failure.emplace(*failure);
            const std::lock_guard<std::mutex> lock(member->mutex);
            if (member->tell == nullptr) return;
            if (napi_call_threadsafe_function(member->tell, outcome.get(), napi_tsfn_nonblocking) == napi_ok) outcome.release();
          }};
}

int32_t rankOf(Call& call, size_t i, const char* name, int64_t size) {
  const int64_t rank = call.integer(i, name);
  if (rank >= 0 && rank < size) return static_cast<int32_t>(rank);
  throw CodedError("INVALID_ARGUMENT", std::string(name) + ": expected 0 to " + std::to_string(size - 1) + ", got " +
                                           std::to_string(rank));
}

GroupRequest groupRequestOf(Call& call) {
  GroupRequest request;
  request.backend = call.string(0, "backend");
  const std::string reason = whyNoBackend(request.backend);
  if (!reason.empty()) throw CodedError("DEVICE_UNAVAILABLE", request.backend + " is not available: " + reason);
  const int64_t size = call.integer(2, "size");
  if (size < 1 || size > std::numeric_limits<int32_t>::max()) {
    throw CodedError("INVALID_ARGUMENT", "size: expected at least 1, got " + std::to_string(size));
  }
  request.size = static_cast<int>(size);
  request.rank = rankOf(call, 1, "rank", size);
  request.store.path = call.string(3, "path");
  request.store.host = call.string(4, "host");
  const int64_t port = call.integer(5, "port");
  if (port < 0 || port > 65535) throw CodedError("INVALID_ARGUMENT", "port: expected 0 to 65535, got " + std::to_string(port));
  request.store.port = static_cast<uint16_t>(port);
  request.store.isHost = call.boolean(6, "isHost");
  request.store.prefix = call.string(7, "prefix");
  request.timeout = std::chrono::milliseconds(call.integer(8, "timeout"));
  request.verifies = call.boolean(9, "verifies");
  return request;
}

/** Begins to join a group, whose first operation that is. The callback is told how each operation went. */
napi_value joinGroup(napi_env env, napi_callback_info info) {
  return guarded<11>(env, info, "joinGroup", [](Call& call) {
    GroupRequest request = groupRequestOf(call);
    const SharedMember member = std::make_shared<Member>();
    auto* known = new SharedMember(member);
    const auto drop = [](napi_env, void* data, void*) { delete static_cast<SharedMember*>(data); };
    const napi_status made = napi_create_threadsafe_function(
        call.env, call.value(10), nullptr, call.fromString("layerwise collectives"), /*max_queue_size=*/0,
        /*initial_thread_count=*/1, known, drop, known, tellOutcome, &member->tell);
    if (made != napi_ok) {
      delete known;
      throw CodedError("INVALID_ARGUMENT", "expected a function for whenDone");
    }
    napi_unref_threadsafe_function(call.env, member->tell);
    // After the function was made: hooks run in the other order, so that no thread calls it when it is gone.
    napi_add_env_cleanup_hook(call.env, abandonMember, known);
    Members& members = membersOf(call);
    const int32_t id = ++members.last;
    members.joined.emplace(id, member);
    try {
      member->group = ProcessGroup::join(std::move(request), newOperation(call.env, member).second);
    } catch (const std::exception& error) {
      forget(call, id);
      throw CodedError("OUT_OF_MEMORY", std::string("no thread could be started to join a group: ") + error.what());
    }
    return call.fromNumber(id);
  });
}

/** What is sent is memory: one block of it, which another rank has in the same order. */
void requireBlock(const at::Tensor& tensor, const char* name) {
  if (tensor.is_non_overlapping_and_dense()) return;
  throw CodedError("INVALID_ARGUMENT",
                   std::string(name) + ": expected a tensor that is one block of memory; contiguous() makes one");
}

void requireDevice(const at::Tensor& tensor, const std::string& backend) {
  const bool isNccl = backend == "nccl";
  if (isNccl ? tensor.is_cuda() : tensor.is_cpu()) return;
  const char* const wanted = isNccl ? "on a CUDA device" : "on the CPU";
  throw CodedError("INVALID_ARGUMENT", backend + " takes tensors " + wanted + ", got one on " + tensor.device().str());
}

at::Tensor tensorOf(Call& call, size_t i, const char* name, const std::string& backend) {
  // Without its gradient: what is sent is no part of a graph.
  at::Tensor tensor = call.tensor(i, name).detach();
  requireDevice(tensor, backend);
  requireBlock(tensor, name);
  return tensor;
}

Reduction reductionOf(Call& call, size_t i, at::ScalarType dtype) {
  const int64_t code = call.integer(i, "reduction");
  if (code < 0 || code > static_cast<int64_t>(Reduction::kMax)) {
    throw CodedError("INVALID_ARGUMENT", "reduction: expected one, got " + std::to_string(code));
  }
  if (dtype == at::kBool) throw CodedError("INVALID_ARGUMENT", "a tensor of bool cannot be reduced");
  const auto reduction = static_cast<Reduction>(code);
  if (reduction == Reduction::kMean && !at::isFloatingType(dtype)) {
    throw CodedError("INVALID_ARGUMENT", "a mean takes a tensor of floating-point numbers");
  }
  return reduction;
}

at::Tensor outputOf(Call& call, size_t i, const at::Tensor& tensor, const GroupRequest& group) {
  at::Tensor output = tensorOf(call, i, "output", group.backend);
  std::vector<int64_t> sizes{group.size};
  sizes.insert(sizes.end(), tensor.sizes().begin(), tensor.sizes().end());
  if (output.sizes() != c10::IntArrayRef(sizes) || output.scalar_type() != tensor.scalar_type() ||
      output.device() != tensor.device()) {
    throw CodedError("INVALID_ARGUMENT", "output: expected " + describeShape(sizes) + " of the tensor's dtype and device");
  }
  if (!tensor.is_contiguous() || !output.is_contiguous()) {
    throw CodedError("INVALID_ARGUMENT", "expected contiguous tensors; contiguous() makes one");
  }
  return output;
}

template <Collective kind>
CollectiveRequest requestOf(Call& call, const GroupRequest& group) {
  CollectiveRequest request;
  request.kind = kind;
  if constexpr (kind == Collective::kBarrier) return request;
  request.tensor = tensorOf(call, 1, "tensor", group.backend);
  if constexpr (kind == Collective::kBroadcast) request.root = rankOf(call, 2, "root", group.size);
  if constexpr (kind == Collective::kSend || kind == Collective::kReceive) {
    request.root = rankOf(call, 2, kind == Collective::kSend ? "to" : "from", group.size);
    if (request.root == group.rank) throw CodedError("INVALID_ARGUMENT", "expected another rank, got this one");
  }
  if constexpr (kind == Collective::kAllReduce) request.reduction = reductionOf(call, 2, request.tensor.scalar_type());
  if constexpr (kind == Collective::kAllGather) request.output = outputOf(call, 2, request.tensor, group);
  if (request.tensor.is_cuda()) {
    request.stream = c10::impl::VirtualGuardImpl(at::kCUDA).getStream(request.tensor.device());
  }
  return request;
}

/** Submits a collective: (group, tensor, root, reduction or output). Gives the operation's number. */
template <Collective kind>
napi_value submit(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, nameOf(kind), [](Call& call) {
    const SharedMember& member = memberOf(call, 0);
    CollectiveRequest request = requestOf<kind>(call, member->group->request());
    auto [operation, done] = newOperation(call.env, member);
    member->group->submit(std::move(request), std::move(done));
    return call.fromNumber(operation);
  });
}

/** The ranks of a group as those of one batch. */
class GroupSynchronizer : public Synchronizer {
 public:
  explicit GroupSynchronizer(std::shared_ptr<ProcessGroup> group) : group_(std::move(group)) {}

  Moments merge(const Moments& own, at::Device device) const override {
    const size_t channels = own.mean.size();
    at::Tensor sent = at::empty({static_cast<int64_t>(1 + 2 * channels)}, at::kDouble);
    double* const values = sent.mutable_data_ptr<double>();
    values[0] = own.count;
    std::copy(own.mean.begin(), own.mean.end(), values + 1);
    std::copy(own.squares.begin(), own.squares.end(), values + 1 + channels);
    const at::Tensor all = gather(sent, device);
    Moments merged{0, std::vector<double>(channels), std::vector<double>(channels)};
    for (int64_t rank = 0; rank < all.size(0); rank++) {
      const double* const theirs = all.const_data_ptr<double>() + rank * all.size(1);
      merged.add(theirs[0], theirs + 1);
    }
    return merged;
  }

  std::vector<double> sum(std::vector<double> own, at::Device device) const override {
    at::Tensor sent = at::empty({static_cast<int64_t>(own.size())}, at::kDouble);
    std::copy(own.begin(), own.end(), sent.mutable_data_ptr<double>());
    // Gathered and not reduced, so that the order of the sum is the same for each number of values.
    const at::Tensor all = gather(sent, device);
    std::fill(own.begin(), own.end(), 0.);
    for (int64_t rank = 0; rank < all.size(0); rank++) {
      const double* const theirs = all.const_data_ptr<double>() + rank * all.size(1);
      for (size_t i = 0; i < own.size(); i++) own[i] += theirs[i];
    }
    return own;
  }

 private:
  /** [values] of each rank on the CPU: [ranks, values]. */
  at::Tensor gather(const at::Tensor& sent, at::Device device) const {
    const bool isNccl = group_->request().backend == "nccl";
    CollectiveRequest request;
    request.kind = Collective::kAllGather;
    request.tensor = isNccl ? sent.to(device) : sent;
    request.output = at::empty({group_->request().size, sent.size(0)}, request.tensor.options());
    if (isNccl) request.stream = c10::impl::VirtualGuardImpl(at::kCUDA).getStream(request.tensor.device());
    const at::Tensor output = request.output;
    group_->perform(std::move(request));
    return output.to(at::kCPU);
  }

  const std::shared_ptr<ProcessGroup> group_;
};

/**
 * Copies between tensors and one block of memory, [values], that has their values one after another, each in the order of its own
 * memory: (tensors, block). Each tensor is one block of memory itself.
 */
template <bool intoBlock>
napi_value copyBlock(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, intoBlock ? "packTensors" : "unpackTensors", [](Call& call) {
    const c10::InferenceMode noGradients;
    const std::vector<at::Tensor> tensors = call.tensors(0, "tensors");
    const at::Tensor block = call.tensor(1, "block").detach();
    int64_t values = 0;
    for (const at::Tensor& tensor : tensors) {
      requireBlock(tensor, "tensors");
      values += tensor.numel();
    }
    if (block.dim() != 1 || block.numel() != values || !block.is_contiguous()) {
      throw CodedError("INVALID_ARGUMENT", "block: expected [" + std::to_string(values) + "], got " + describeShape(block.sizes()));
    }
    int64_t at = 0;
    for (const at::Tensor& tensor : tensors) {
      at::Tensor part = block.narrow(0, at, tensor.numel());
      at::Tensor flat = tensor.detach().as_strided({tensor.numel()}, {1});
      if constexpr (intoBlock) part.copy_(flat); else flat.copy_(part);
      at += tensor.numel();
    }
    return call.nothing();
  });
}

/** Runs a function under which batch norm in training takes its statistics of all ranks: (group, body). */
napi_value withSynchronizedBatchNorm(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "synchronizedBatchNorm", [](Call& call) {
    const SynchronizedGuard guard(std::make_shared<GroupSynchronizer>(memberOf(call, 0)->group));
    call.invoke(1, "body");
    return call.nothing();
  });
}

/** What was submitted fails, and the others are told why: (group, reason). `leaveGroup` follows. */
napi_value giveUpGroup(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, "giveUpGroup", [](Call& call) {
    memberOf(call, 0)->group->giveUp(call.string(1, "reason"));
    return call.nothing();
  });
}

/** Leaves a group after what was submitted. Gives the operation's number; it is the last. */
napi_value leaveGroup(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "leaveGroup", [](Call& call) {
    const SharedMember& member = memberOf(call, 0);
    auto [operation, done] = newOperation(call.env, member);
    member->group->leave(std::move(done));
    return call.fromNumber(operation);
  });
}

/** After a group was left, or not joined. */
napi_value forgetGroup(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "forgetGroup", [](Call& call) {
    forget(call, static_cast<int32_t>(call.integer(0, "group")));
    return call.nothing();
  });
}

#else

napi_value tooOld(napi_env env, napi_callback_info info) {
  return guarded<0>(env, info, "joinGroup",
                    [](Call&) -> napi_value { throw CodedError("DEVICE_UNAVAILABLE", whyNoBackend("gloo")); });
}

#endif

}  // namespace

void exportDistributed(napi_env env, napi_value exports, Environment* environment) {
#if LAYERWISE_CAN_DISTRIBUTE
  const NativeFunction functions[] = {
      {"joinGroup", joinGroup},
      {"broadcastInGroup", submit<Collective::kBroadcast>},
      {"allReduceInGroup", submit<Collective::kAllReduce>},
      {"allGatherInGroup", submit<Collective::kAllGather>},
      {"barrierOfGroup", submit<Collective::kBarrier>},
      {"sendInGroup", submit<Collective::kSend>},
      {"receiveInGroup", submit<Collective::kReceive>},
      {"withSynchronizedBatchNorm", withSynchronizedBatchNorm},
      {"packTensors", copyBlock<true>},
      {"unpackTensors", copyBlock<false>},
      {"giveUpGroup", giveUpGroup},
      {"leaveGroup", leaveGroup},
      {"forgetGroup", forgetGroup},
  };
#else
  const NativeFunction functions[] = {
      {"joinGroup", tooOld},
      {"broadcastInGroup", tooOld},
      {"allReduceInGroup", tooOld},
      {"allGatherInGroup", tooOld},
      {"barrierOfGroup", tooOld},
      {"sendInGroup", tooOld},
      {"receiveInGroup", tooOld},
      {"withSynchronizedBatchNorm", tooOld},
      {"packTensors", tooOld},
      {"unpackTensors", tooOld},
      {"giveUpGroup", tooOld},
      {"leaveGroup", tooOld},
      {"forgetGroup", tooOld},
  };
#endif
  exportFunctions(env, exports, environment, functions);
}

}  // namespace layerwise
