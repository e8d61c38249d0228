// What LibTorch writes to the standard error stream: its warnings, and what it logs. Each such message is taken out of the
// stream, kept once, and given to JavaScript, so that it never stands between the lines of a program.
#include <c10/util/Exception.h>
#include <node_api.h>

#include <cctype>
#include <deque>
#include <iostream>
#include <mutex>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>

#include "call.h"
#include "exports.h"

namespace layerwise {

namespace {

/** The messages of the process, and how each environment that listens is woken. */
class Messages {
 public:
  void add(std::string text) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!seen_.insert(text).second) return;
    waiting_.push_back(std::move(text));
    for (napi_threadsafe_function listener : listeners_) {
      napi_call_threadsafe_function(listener, nullptr, napi_tsfn_nonblocking);
    }
  }

  std::deque<std::string> take() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(waiting_, {});
  }

  void listen(napi_threadsafe_function listener) {
    std::lock_guard<std::mutex> lock(mutex_);
    listeners_.insert(listener);
    if (!waiting_.empty()) napi_call_threadsafe_function(listener, nullptr, napi_tsfn_nonblocking);
  }

  void forget(napi_threadsafe_function listener) {
    std::lock_guard<std::mutex> lock(mutex_);
    listeners_.erase(listener);
  }

 private:
  std::mutex mutex_;
  std::unordered_set<std::string> seen_;
  std::deque<std::string> waiting_;
  std::set<napi_threadsafe_function> listeners_;
};

/** Never destroyed: LibTorch's threads may write while the process ends. */
Messages& messages() {
  static auto* const all = new Messages();
  return *all;
}

/** LibTorch's warnings. What it logs by itself goes to the stream, unless it was built with glog, which has a stream of its own. */
class Warnings : public c10::WarningHandler {
 public:
#if LAYERWISE_TORCH_AT_LEAST(2, 0)
  void process(const c10::Warning& warning) override { messages().add(warning.msg()); }
#else
  void process(const c10::SourceLocation&, const std::string& text, const bool) override { messages().add(text); }
#endif
};

/**
 * The text of a message of c10's logger, "[W1125 02:11:08.123456 NNPACK.cpp:57] text" or "[W NNPACK.cpp:57] text", without
 * what differs from one time to the next; empty for anything else. Fatal messages stay in the stream: the process ends.
 */
std::string textOf(const std::string& line) {
  if (line.size() < 4 || line[0] != '[' || std::string("IWE").find(line[1]) == std::string::npos) return "";
  if (line[2] != ' ' && !std::isdigit(static_cast<unsigned char>(line[2]))) return "";
  const size_t end = line.find("] ");
  if (end == std::string::npos) return "";
  const size_t source = line.rfind(' ', end);
  if (line.substr(source, end - source).find(':') == std::string::npos) return "";
  std::string text = line.substr(end + 2);
  const std::string mark = "Warning: ";
  if (text.compare(0, mark.size(), mark) == 0) text.erase(0, mark.size());
  const size_t function = text.rfind(" (function ");
  if (function != std::string::npos) text.resize(function);
  // An error that c10d logs brings its calls along.
  const size_t calls = text.find("\nException raised from ");
  if (calls != std::string::npos) text.resize(calls);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  return text;
}

/** In place of std::cerr's buffer: c10's logger writes a message in one piece. What others write goes through. */
class Sieve : public std::streambuf {
 public:
  explicit Sieve(std::streambuf* behind) : behind_(behind) {}

 protected:
  std::streamsize xsputn(const char* data, std::streamsize size) override {
    std::string text = textOf(std::string(data, static_cast<size_t>(size)));
    if (text.empty()) return behind_->sputn(data, size);
    messages().add(std::move(text));
    return size;
  }
  int_type overflow(int_type character) override {
    return traits_type::eq_int_type(character, traits_type::eof())
               ? traits_type::not_eof(character)
               : behind_->sputc(traits_type::to_char_type(character));
  }
  int sync() override { return behind_->pubsync(); }

 private:
  std::streambuf* const behind_;
};

/** The messages since the last call, in order; each only once in the life of the process. */
napi_value takeMessages(napi_env env, napi_callback_info info) {
  return guarded<0>(env, info, "takeMessages", [](Call& call) {
    napi_value list;
    napi_create_array(call.env, &list);
    uint32_t at = 0;
    for (const std::string& text : messages().take()) napi_set_element(call.env, list, at++, call.fromString(text));
    return list;
  });
}

/** Calls a function of this environment whenever there are messages to take. It does not keep the event loop alive. */
napi_value listenForMessages(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "listenForMessages", [](Call& call) {
    napi_threadsafe_function listener;
    const napi_status made =
        napi_create_threadsafe_function(call.env, call.value(0), nullptr, call.fromString("layerwise messages"),
                                        /*max_queue_size=*/0, /*initial_thread_count=*/1, nullptr, nullptr, nullptr,
                                        nullptr, &listener);
    if (made != napi_ok) throw CodedError("INVALID_ARGUMENT", "expected a function for listener");
    napi_unref_threadsafe_function(call.env, listener);
    messages().listen(listener);
    napi_add_env_cleanup_hook(
        call.env,
        [](void* data) { messages().forget(static_cast<napi_threadsafe_function>(data)); },
        listener);
    return call.nothing();
  });
}

const NativeFunction kFunctions[] = {
    {"takeMessages", takeMessages},
    {"listenForMessages", listenForMessages},
};

}  // namespace

void hearWarnings() {
  static auto* const warnings = new Warnings();
#if LAYERWISE_TORCH_AT_LEAST(2, 0)
  c10::WarningUtils::set_warning_handler(warnings);
#else
  c10::Warning::set_warning_handler(warnings);
#endif
}

void takeMessagesFromStandardError() { std::cerr.rdbuf(new Sieve(std::cerr.rdbuf())); }

void exportMessages(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
