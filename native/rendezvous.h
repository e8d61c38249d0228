// Where the ranks of a group meet: c10d's key-value store. They join it here, and here they learn which of them is missing.
#pragma once

#include "backends.h"

#if LAYERWISE_CAN_DISTRIBUTE

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace layerwise {

/** A store that all ranks reach, and keys of it that are the group's own. */
struct StorePlace {
  /** Of a file; empty where it is a TCP store. */
  std::string path;
  std::string host;
  uint16_t port = 0;
  /** Whether this process serves it. */
  bool isHost = false;
  std::string prefix;
};

struct GroupRequest {
  std::string backend;
  int rank;
  int size;
  StorePlace store;
  std::chrono::milliseconds timeout;
  /** Whether the ranks compare what they call before they do it. */
  bool verifies;
};

/** What went wrong, as far as a rank can know. */
struct Failure {
  /** TIMEOUT, CONNECTION_LOST, MISMATCH, RANK_TAKEN, STORE_UNAVAILABLE or BACKEND_FAILED. */
  const char* code;
  std::string reason;
  /** Ranks that did not take part, as far as it is known. */
  std::vector<int> missing;
};

class GroupError : public std::exception {
 public:
  explicit GroupError(Failure given) : failure(std::move(given)) {}
  const char* what() const noexcept override { return failure.reason.c_str(); }
  const Failure failure;
};

/** What c10d or Gloo threw: TIMEOUT, CONNECTION_LOST or BACKEND_FAILED, with the first line of their own words. */
Failure failureOf(const std::exception& error, std::chrono::milliseconds timeout);

class Rendezvous : public std::enable_shared_from_this<Rendezvous> {
 public:
  /** Opens the store: blocks until it answers. Throws GroupError. */
  explicit Rendezvous(const GroupRequest& request);

  /** Blocks until all ranks are there and want the same group. Throws GroupError. */
  void meet();

  /** The ranks are connected: from here on the store is asked for what may be learned within some seconds. */
  void begin();

  /** The store, for keys of c10d's own, behind a prefix. */
  c10::intrusive_ptr<c10d::Store> storeFor(const std::string& prefix) const;

  /**
   * Tells the others that this rank gave up in `operation`, and learns within some seconds who else did: the others are missing.
   * `meanwhile` runs beside that. Gives the failure with what it learned. Never throws.
   */
  Failure explain(Failure failure, const std::string& operation, const std::function<void()>& meanwhile);

  /** Tells the others that this rank leaves, and waits some seconds for the same from them. The one that serves the store leaves last. */
  void leave();

 private:
  using Clock = std::chrono::steady_clock;

  std::string key(const char* what, int rank) const;
  std::string wanted() const;
  void compare(int rank, const std::string& theirs) const;
  Failure whoIsMissing(Failure failure);
  void tellEnd(const std::string& how);
  /** Until every rank has set a key of this name, or the time is over. */
  void waitForAll(const char* what, Clock::time_point end);
  Failure learn(Failure failure);
  std::string placeOfStore() const;

  const GroupRequest request_;
  const Clock::time_point deadline_;
  c10::intrusive_ptr<c10d::Store> store_;
  /** The rank that serves the store; -1: none of them, or not known yet. */
  int host_ = -1;
};

}  // namespace layerwise

#endif
