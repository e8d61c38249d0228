#include "waiting.h"

#include <napi.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>

#include "call.h"
#include "exports.h"
#include "parallel.h"

#ifdef __linux__
#include <dirent.h>
#endif

// Of the OpenMP runtime that LibTorch itself loads; null where it has none, or, the last, where it is GNU's.
extern "C" {
int omp_get_num_procs() __attribute__((weak));
void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned) __attribute__((weak));
void __kmpc_fork_call() __attribute__((weak));
}

namespace layerwise {

std::atomic<bool> isWatchParked{false};

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/**
 * While it lives, libgomp counts more threads than cores, and lets each look for work a hundred times, not 300,000
 * (https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html). Its threads belong to a thread of their own, and sleep.
 */
class SurplusThreads {
 public:
  /** Null where they cannot be started. */
  static std::unique_ptr<SurplusThreads> start() {
    if (!canStart(omp_get_num_procs() + 1)) return nullptr;
    try {
      return std::make_unique<SurplusThreads>();
    } catch (const std::exception&) {
      return nullptr;
    }
  }

  SurplusThreads() : owner_([this] { hold(); }) {}
  ~SurplusThreads() {
    {
      const std::lock_guard<std::mutex> guard(mutex_);
      isOver_ = true;
    }
    over_.notify_one();
    owner_.join();
  }
  SurplusThreads(const SurplusThreads&) = delete;
  SurplusThreads& operator=(const SurplusThreads&) = delete;

 private:
  void hold() {
    GOMP_parallel([](void*) {}, nullptr, static_cast<unsigned>(omp_get_num_procs()) + 1, 0);
    std::unique_lock<std::mutex> lock(mutex_);
    over_.wait(lock, [this] { return isOver_; });
  }

  std::mutex mutex_;
  std::condition_variable over_;
  bool isOver_ = false;
  std::thread owner_;
};

#ifdef __linux__
/** Nanoseconds that a thread of this process was ready to run and waited for a core, as Linux counts them. */
class WaitedForCores {
 public:
  /** Of the thread that has waited longest since the last call; -1 where Linux does not say. */
  int64_t take() {
    DIR* const folder = opendir("/proc/self/task");
    if (folder == nullptr) return -1;
    int64_t longest = 0;
    bool isKnown = false;
    std::unordered_map<std::string, int64_t> now;
    while (const dirent* entry = readdir(folder)) {
      if (entry->d_name[0] == '.') continue;
      const std::string path = "/proc/self/task/" + std::string(entry->d_name) + "/schedstat";
      FILE* const file = fopen(path.c_str(), "re");
      if (file == nullptr) continue;
      long long ran = 0, waited = 0;
      if (fscanf(file, "%lld %lld", &ran, &waited) == 2 && ran > 0) {
        isKnown = true;
        const auto before = before_.find(entry->d_name);
        if (before != before_.end()) longest = std::max<int64_t>(longest, waited - before->second);
        now[entry->d_name] = waited;
      }
      fclose(file);
    }
    closedir(folder);
    before_ = std::move(now);
    return isKnown ? longest : -1;
  }

 private:
  std::unordered_map<std::string, int64_t> before_;
};
#else
class WaitedForCores {
 public:
  int64_t take() { return -1; }
};
#endif

/** Nanoseconds of processor time that this process has used. */
int64_t processorTime() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

int64_t nanoseconds(Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
}

/** What decides how the threads wait: see `threadWaiting`. */
enum class Policy { kNone, kEnvironment, kSleep, kWatch };

class Watch {
 public:
  void start() {
    policy_ = choose();
    if (policy_ == Policy::kSleep) surplus_ = SurplusThreads::start();
    isSleeping_ = surplus_ != nullptr;
    if (policy_ != Policy::kWatch) return;
    try {
      std::thread([this] { run(); }).detach();
    } catch (const std::exception&) {
      policy_ = Policy::kNone;
    }
  }

  void wake() {
    {
      const std::lock_guard<std::mutex> guard(mutex_);
      isWatchParked = false;
    }
    parked_.notify_one();
  }

  Policy policy() const { return policy_; }
  /** Whether the threads sleep almost at once. */
  bool isSleeping() const { return isSleeping_; }
  /** How often the cores were found shared. */
  int64_t timesShared() const { return timesShared_; }

 private:
  static bool isSet(const char* name) {
    const char* const value = getenv(name);
    return value != nullptr && *value != '\0';
  }

  static Policy choose() {
    if (GOMP_parallel == nullptr || omp_get_num_procs == nullptr || __kmpc_fork_call != nullptr) return Policy::kNone;
    if (isSet("GOMP_SPINCOUNT") || isSet("OMP_WAIT_POLICY")) return Policy::kEnvironment;
    return WaitedForCores().take() < 0 ? Policy::kSleep : Policy::kWatch;
  }

  /** Waits until a native call is made, where nothing was computed for a while. */
  void park() {
    std::unique_lock<std::mutex> lock(mutex_);
    isWatchParked = true;
    parked_.wait(lock, [] { return !isWatchParked; });
  }

  void run() {
    WaitedForCores waited;
    milliseconds pause = kShortestPause;
    Clock::time_point releasedAt = Clock::now();
    int idleWindows = 0, sharedWindows = 0;
    for (;;) {
      waited.take();
      const Clock::time_point start = Clock::now();
      const int64_t usedBefore = processorTime();
      std::this_thread::sleep_for(kWindow);
      const double length = static_cast<double>(nanoseconds(Clock::now() - start));
      const bool isIdle = static_cast<double>(processorTime() - usedBefore) < kIdle * length;
      idleWindows = isIdle ? idleWindows + 1 : 0;
      if (idleWindows >= kIdleWindows) {
        park();
        idleWindows = 0;
      }
      const bool isShared = !isIdle && static_cast<double>(waited.take()) > kShared * length;
      sharedWindows = isShared ? sharedWindows + 1 : 0;
      if (sharedWindows < kSharedWindows) continue;
      sharedWindows = 0;
      const bool isStill = Clock::now() - releasedAt < kStill;
      pause = isStill ? std::min(2 * pause, kLongestPause) : kShortestPause;
      timesShared_++;
      {
        const std::unique_ptr<SurplusThreads> surplus = SurplusThreads::start();
        isSleeping_ = surplus != nullptr;
        std::this_thread::sleep_for(pause);
      }
      isSleeping_ = false;
      releasedAt = Clock::now();
    }
  }

  static constexpr milliseconds kWindow{100};
  /** A process that uses less than this part of one core computes nothing; after so many windows the watch parks. */
  static constexpr double kIdle = 0.1;
  static constexpr int kIdleWindows = 10;
  /**
   * Shared: in each of so many windows, one after the other, a thread waited for this part of it. Beside a busy program it is
   * about a half. A program of low priority, and V8's own threads, stay below.
   */
  static constexpr double kShared = 0.25;
  static constexpr int kSharedWindows = 2;
  /** While the cores are shared the threads sleep this long before the watch looks again. */
  static constexpr milliseconds kShortestPause{1000};
  static constexpr milliseconds kLongestPause{10000};
  /** Shared again within this time: they have been all along, and the next look comes later. */
  static constexpr milliseconds kStill{500};

  Policy policy_ = Policy::kNone;
  std::unique_ptr<SurplusThreads> surplus_;
  std::atomic<bool> isSleeping_{false};
  std::atomic<int64_t> timesShared_{0};
  std::mutex mutex_;
  std::condition_variable parked_;
};

/** Never destroyed: its thread outlives the environments, and ends with the process. */
Watch& watch() {
  static auto* const one = new Watch();
  return *one;
}

napi_value threadWaiting(napi_env env, napi_callback_info info) {
  return guarded<0>(env, info, "threadWaiting", [](Call& call) -> napi_value {
    Napi::Object object = Napi::Object::New(call.env);
    static constexpr const char* kNames[] = {"none", "environment", "sleep", "watch"};
    object.Set("policy", kNames[static_cast<int>(watch().policy())]);
    object.Set("isSleeping", watch().isSleeping());
    object.Set("timesShared", static_cast<double>(watch().timesShared()));
    return object;
  });
}

const NativeFunction kFunctions[] = {{"threadWaiting", threadWaiting}};

}  // namespace

void watchCores() { watch().start(); }

void wakeWatch() { watch().wake(); }

void exportWaiting(napi_env env, napi_value exports, Environment* environment) {
  exportFunctions(env, exports, environment, kFunctions);
}

}  // namespace layerwise
