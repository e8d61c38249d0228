#include "rendezvous.h"

#if LAYERWISE_CAN_DISTRIBUTE

#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <cstring>
#include <future>
#include <thread>

namespace layerwise {

namespace {

using std::chrono::milliseconds;

/** How long a rank that gave up waits for the others to say the same. Those that wait for each other hear of it at once. */
constexpr milliseconds kGrace{2000};
/** How long a rank that leaves waits for the others. */
constexpr milliseconds kFarewell{5000};
constexpr milliseconds kPoll{20};
/** Other ranks whose end a failure tells of, at most. */
constexpr int kMostTold = 4;
/** What a rank says at its end where nothing went wrong. */
constexpr const char* kLeft = "left";

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

std::string seconds(milliseconds time) {
  const int64_t count = time.count();
  return count % 1000 == 0 ? std::to_string(count / 1000) + " s" : std::to_string(count) + " ms";
}

/** Asks a store on a thread of its own: one whose host hangs can block for ever, and the thread is left behind then. */
template <typename Answer>
std::future<Answer> apart(std::function<Answer()> ask) {
  auto task = std::make_shared<std::packaged_task<Answer()>>(std::move(ask));
  std::future<Answer> answer = task->get_future();
  std::thread([task] { (*task)(); }).detach();
  return answer;
}

/** The first line of c10d's or Gloo's own words, without the place in their sources. */
std::string reasonOf(const std::exception& error) {
  const auto* ours = dynamic_cast<const c10::Error*>(&error);
  std::string text = ours == nullptr ? error.what() : ours->what_without_backtrace();
  // As Gloo begins its messages: [/path/pair.cc:123]
  if (!text.empty() && text[0] == '[') {
    const size_t end = text.find("] ");
    if (end != std::string::npos && contains(text.substr(0, end), ".cc:")) text.erase(0, end + 2);
  }
  // Advice of c10d's, which this does better.
  text = text.substr(0, text.find(". This is typically caused"));
  return text.substr(0, text.find('\n'));
}

const char* codeOf(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char* sign : {"timed out", "timeout", "time out"}) {
    if (contains(text, sign)) return "TIMEOUT";
  }
  for (const char* sign : {"connection closed", "connection reset", "connection refused", "broken pipe", "pair closure"}) {
    if (contains(text, sign)) return "CONNECTION_LOST";
  }
  return "BACKEND_FAILED";
}

}  // namespace

Failure failureOf(const std::exception& error, milliseconds timeout) {
  std::string reason = reasonOf(error);
  const char* const code = codeOf(reason);
  if (std::strcmp(code, "TIMEOUT") == 0) reason = "no answer within " + seconds(timeout);
  return {code, std::move(reason), {}};
}

Rendezvous::Rendezvous(const GroupRequest& request) : request_(request), deadline_(Clock::now() + request.timeout) {
  const StorePlace& place = request_.store;
  try {
    if (!place.path.empty()) {
      // Of no number of ranks: when so many have closed it, it would remove the file of those that have just opened it.
      store_ = c10::make_intrusive<c10d::FileStore>(place.path, -1);
      store_->setTimeout(request_.timeout);
    } else {
      c10d::TCPStoreOptions options;
      options.port = place.port;
      options.isServer = place.isHost;
      options.waitWorkers = false;
      options.timeout = request_.timeout;
      // LibTorch's libuv would be mixed with Node's, whose functions have the same names.
      options.useLibUV = false;
      store_ = c10::make_intrusive<c10d::TCPStore>(place.host, options);
    }
  } catch (const std::exception& error) {
    const std::string reason = reasonOf(error);
    if (std::strcmp(codeOf(reason), "TIMEOUT") == 0) {
      throw GroupError({"TIMEOUT", "no store answered at " + placeOfStore() + " within " + seconds(request_.timeout), {}});
    }
    const std::string what = place.isHost ? "the store could not be served at " : "the store could not be reached at ";
    throw GroupError({"STORE_UNAVAILABLE", what + placeOfStore() + ": " + reason, {}});
  }
  store_ = c10::make_intrusive<c10d::PrefixStore>(place.prefix, store_);
}

std::string Rendezvous::placeOfStore() const {
  const StorePlace& place = request_.store;
  return place.path.empty() ? place.host + ":" + std::to_string(place.port) : place.path;
}

std::string Rendezvous::key(const char* what, int rank) const { return std::string(what) + "/" + std::to_string(rank); }

/** What the ranks must agree on. */
std::string Rendezvous::wanted() const {
  return "worldSize " + std::to_string(request_.size) + ", backend " + request_.backend + ", verify " +
         (request_.verifies ? "true" : "false") + ", LibTorch " TORCH_VERSION;
}

void Rendezvous::compare(int rank, const std::string& theirs) const {
  if (theirs == wanted()) return;
  throw GroupError({"MISMATCH",
                    "rank " + std::to_string(rank) + " joins another group: " + theirs + "; rank " +
                        std::to_string(request_.rank) + " joins " + wanted(),
                    {}});
}

void Rendezvous::meet() {
  const auto left = [this] {
    return std::max(milliseconds(1), std::chrono::duration_cast<milliseconds>(deadline_ - Clock::now()));
  };
  try {
    if (store_->add(key("taken", request_.rank), 1) != 1) {
      throw GroupError({"RANK_TAKEN",
                        "rank " + std::to_string(request_.rank) + " has joined at " + placeOfStore() +
                            " already: two processes have this rank, or the store is that of an earlier group (take another "
                            "prefix, or remove the file)",
                        {}});
    }
    if (request_.store.isHost) store_->set("host", std::to_string(request_.rank));
    store_->set(key("joined", request_.rank), wanted());
    // One first: who wants another world size would wait for ranks that never come.
    const int first = request_.rank == 0 ? std::min(1, request_.size - 1) : 0;
    std::vector<std::string> keys;
    for (int rank = 0; rank < request_.size; rank++) keys.push_back(key("joined", rank));
    store_->wait({keys[static_cast<size_t>(first)]}, left());
    compare(first, store_->get_to_str(keys[static_cast<size_t>(first)]));
    store_->wait(keys, left());
    for (int rank = 0; rank < request_.size; rank++) compare(rank, store_->get_to_str(keys[static_cast<size_t>(rank)]));
    if (request_.store.path.empty() && store_->check({"host"})) host_ = std::stoi(store_->get_to_str("host"));
  } catch (const GroupError&) {
    throw;
  } catch (const std::exception& error) {
    throw GroupError(whoIsMissing(failureOf(error, request_.timeout)));
  }
}

Failure Rendezvous::whoIsMissing(Failure failure) {
  std::vector<int> missing;
  try {
    for (int rank = 0; rank < request_.size; rank++) {
      if (!store_->check({key("joined", rank)})) missing.push_back(rank);
    }
  } catch (const std::exception& error) {
    return {"CONNECTION_LOST", "the store at " + placeOfStore() + " no longer answers: " + reasonOf(error), {}};
  }
  if (missing.empty()) return failure;
  return {"TIMEOUT", "not all ranks joined within " + seconds(request_.timeout), std::move(missing)};
}

void Rendezvous::begin() { store_->setTimeout(kGrace); }

c10::intrusive_ptr<c10d::Store> Rendezvous::storeFor(const std::string& prefix) const {
  return c10::make_intrusive<c10d::PrefixStore>(prefix, store_);
}

void Rendezvous::tellEnd(const std::string& how) { store_->set(key("ended", request_.rank), how); }

Failure Rendezvous::learn(Failure failure) {
  std::vector<int> others;
  for (int rank = 0; rank < request_.size; rank++) {
    if (rank != request_.rank) others.push_back(rank);
  }
  int told = 0;
  const auto end = Clock::now() + kGrace;
  const auto hasEnded = [this](int rank) { return store_->check({key("ended", rank)}); };
  try {
    std::vector<std::string> keys;
    for (const int rank : others) keys.push_back(key("ended", rank));
    while (Clock::now() < end && !store_->check(keys)) std::this_thread::sleep_for(kPoll);
    for (const int rank : others) {
      if (!hasEnded(rank)) {
        failure.missing.push_back(rank);
        continue;
      }
      const std::string how = store_->get_to_str(key("ended", rank));
      if (how == kLeft) failure.missing.push_back(rank);
      if (++told > kMostTold) continue;
      failure.reason += "; rank " + std::to_string(rank) + (how == kLeft ? " had left the group" : " gave up in " + how);
    }
    if (told > kMostTold) failure.reason += "; so did " + std::to_string(told - kMostTold) + " more";
  } catch (const std::exception&) {
    failure.reason += "; the store at " + placeOfStore() + " no longer answers";
    failure.missing.clear();
    if (host_ >= 0 && host_ != request_.rank) failure.missing.push_back(host_);
  }
  return failure;
}

Failure Rendezvous::explain(Failure failure, const std::string& operation, const std::function<void()>& meanwhile) {
  std::future<Failure> learned = apart<Failure>([self = shared_from_this(), failure, operation] {
    try {
      self->tellEnd(operation + ": " + failure.reason);
    } catch (const std::exception&) {
      // `learn` finds the same.
    }
    return self->learn(failure);
  });
  meanwhile();
  if (learned.wait_for(2 * kGrace) == std::future_status::ready) return learned.get();
  failure.reason += "; the store at " + placeOfStore() + " does not answer";
  if (host_ >= 0 && host_ != request_.rank) failure.missing.push_back(host_);
  return failure;
}

void Rendezvous::leave() {
  const milliseconds patience = std::min(kFarewell, request_.timeout);
  std::future<void> left = apart<void>([self = shared_from_this(), patience] {
    // Whatever goes wrong here is the end all the same.
    try {
      const auto end = Clock::now() + patience;
      self->tellEnd(kLeft);
      self->waitForAll("ended", end);
      // Whoever serves the store waits until the others ask it nothing more.
      const bool isHost = self->host_ == self->request_.rank;
      if (self->host_ >= 0) self->store_->set(self->key("gone", self->request_.rank), "");
      if (isHost) self->waitForAll("gone", end);
    } catch (const std::exception&) {
    }
  });
  left.wait_for(patience + kGrace);
}

void Rendezvous::waitForAll(const char* what, Clock::time_point end) {
  std::vector<std::string> keys;
  for (int rank = 0; rank < request_.size; rank++) keys.push_back(key(what, rank));
  while (Clock::now() < end && !store_->check(keys)) std::this_thread::sleep_for(kPoll);
}

}  // namespace layerwise

#endif
