// Batches of JPEG files that are read, decoded and scaled on threads of their own, beside the event loop, Node's pool and LibTorch's.
#include <node_api.h>

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "call.h"
#include "exports.h"
#include "jpeg-image.h"
#include "turbojpeg.h"

namespace layerwise {

namespace {

/** What a batch is decoded from, to, and how. Nothing of it changes while it is decoded. */
struct BatchRequest {
  /** The path of each image, or its bytes. */
  std::vector<std::string> sources;
  bool arePaths;
  /** [n, 2]: where an image lies in its file, and its length; empty: the files are the images. */
  std::vector<double> ranges;
  std::vector<CropDraws> draws;
  /** Of each image, whether it is shown mirrored; empty: none is. */
  std::vector<uint8_t> mirrored;
  ImageView view;
  /** uint8 [n, height, width, channels]. */
  at::Tensor images;
};

/** A batch at work. */
struct Batch {
  explicit Batch(BatchRequest given) : request(std::move(given)), outcomes(request.sources.size(), 0) {}

  const BatchRequest request;
  /** A `Decoded` each: every thread writes those of its images. */
  std::vector<uint8_t> outcomes;
  // The rest belongs to the pool.
  size_t next = 0;
  size_t working = 0;
  bool isCancelled = false;
  bool isFinished = false;
  /** Null where nobody waits for it any more. */
  napi_threadsafe_function whenDone = nullptr;

  bool hasNext() const { return !isCancelled && next < request.sources.size(); }
  bool isOver() const { return working == 0 && !hasNext(); }
};

using SharedBatch = std::shared_ptr<Batch>;

void decodeOne(JpegDecoder& decoder, Batch& batch, size_t index) {
  const BatchRequest& request = batch.request;
  ImageView view = request.view;
  view.draws = request.draws.empty() ? nullptr : &request.draws[index];
  view.isMirrored = !request.mirrored.empty() && request.mirrored[index] != 0;
  const size_t bytes = static_cast<size_t>(view.height) * static_cast<size_t>(view.width) * static_cast<size_t>(view.channels);
  uint8_t* to = static_cast<uint8_t*>(request.images.data_ptr()) + index * bytes;
  const std::string& source = request.sources[index];
  Decoded decoded = Decoded::kNo;
  // Memory may be short; another decoder will say so.
  try {
    if (!request.arePaths) {
      decoded = decoder.decode(reinterpret_cast<const uint8_t*>(source.data()), source.size(), view, to);
    } else {
      const double* range = request.ranges.empty() ? nullptr : &request.ranges[2 * index];
      const int64_t offset = range == nullptr ? 0 : static_cast<int64_t>(range[0]);
      const int64_t length = range == nullptr ? -1 : static_cast<int64_t>(range[1]);
      decoded = decoder.decodeFile(source.c_str(), offset, length, view, to);
    }
  } catch (const std::exception&) {
  }
  decoder.forgetLarge();
  batch.outcomes[index] = static_cast<uint8_t>(decoded);
}

/** The threads of the process that decode, and the batches that wait for them, in the order in which they came. */
class Pool {
 public:
  void setThreads(size_t count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    wanted_ = count;
    start();
    changed_.notify_all();
  }

  size_t threads() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return wanted_;
  }

  void add(const SharedBatch& batch) {
    const std::lock_guard<std::mutex> lock(mutex_);
    batches_.push_back(batch);
    if (batch->isOver()) finish(batch);
    start();
    changed_.notify_all();
  }

  /** Begins no more of its images; it is done when those at work are. */
  void cancel(const SharedBatch& batch) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (batch->isCancelled) return;
    batch->isCancelled = true;
    if (batch->isOver()) finish(batch);
  }

  /** The same, and nobody is told: returns when no thread works on it. */
  void abandon(const SharedBatch& batch) {
    std::unique_lock<std::mutex> lock(mutex_);
    batch->isCancelled = true;
    batch->whenDone = nullptr;
    finished_.wait(lock, [&] { return batch->working == 0; });
    remove(batch);
  }

 private:
  /** With the lock. */
  void start() {
    if (batches_.empty()) return;
    for (; running_ < wanted_; running_++) {
      try {
        std::thread([this] { work(); }).detach();
      } catch (const std::exception&) {
        // With none the batches would wait for ever.
        if (running_ == 0) throw;
        return;
      }
    }
  }

  void work() {
    JpegDecoder decoder;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      if (running_ > wanted_) break;
      const auto found = std::find_if(batches_.begin(), batches_.end(), [](const SharedBatch& b) { return b->hasNext(); });
      if (found == batches_.end()) {
        changed_.wait(lock);
        continue;
      }
      const SharedBatch batch = *found;
      const size_t index = batch->next++;
      batch->working++;
      lock.unlock();
      decodeOne(decoder, *batch, index);
      lock.lock();
      batch->working--;
      if (batch->isOver()) finish(batch);
    }
    running_--;
  }

  /** With the lock. */
  void finish(const SharedBatch& batch) {
    if (std::exchange(batch->isFinished, true)) return;
    if (batch->whenDone != nullptr) napi_call_threadsafe_function(batch->whenDone, nullptr, napi_tsfn_nonblocking);
    remove(batch);
    finished_.notify_all();
  }

  void remove(const SharedBatch& batch) {
    const auto found = std::find(batches_.begin(), batches_.end(), batch);
    if (found != batches_.end()) batches_.erase(found);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable finished_;
  std::deque<SharedBatch> batches_;
  /** 0: not yet said. */
  size_t wanted_ = 0;
  size_t running_ = 0;
};

/** Never destroyed: its threads may work while the process ends. */
Pool& pool() {
  static auto* const only = new Pool();
  return *only;
}

/** The batches that an environment waits for. */
struct Batches {
  std::unordered_map<int32_t, SharedBatch> atWork;
  int32_t last = 0;
};

/** What a batch's threadsafe function knows. */
struct Waiting {
  Batches* batches;
  int32_t id;
};

/** In the environment's thread: tells the callback how each image went, and whether all were begun. */
void tellDone(napi_env env, napi_value callback, void* context, void*) {
  auto* waiting = static_cast<Waiting*>(context);
  if (env == nullptr) return;
  const auto found = waiting->batches->atWork.find(waiting->id);
  const SharedBatch batch = found->second;
  waiting->batches->atWork.erase(found);
  const napi_threadsafe_function whenDone = batch->whenDone;
  const size_t count = batch->outcomes.size();
  void* data = nullptr;
  napi_value buffer;
  napi_value outcomes;
  napi_value undefined;
  napi_get_undefined(env, &undefined);
  napi_create_arraybuffer(env, count, &data, &buffer);
  if (count > 0) std::memcpy(data, batch->outcomes.data(), count);
  napi_create_typedarray(env, napi_uint8_array, count, buffer, 0, &outcomes);
  napi_call_function(env, undefined, callback, 1, &outcomes, nullptr);
  napi_release_threadsafe_function(whenDone, napi_tsfn_release);
}

Batches& batchesOf(Call& call) {
  Environment& environment = *call.environment;
  if (environment.decoding == nullptr) {
    environment.decoding = std::make_shared<Batches>();
    // A thread must not call into an environment that ends.
    napi_add_env_cleanup_hook(
        call.env,
        [](void* data) {
          for (const auto& [id, batch] : static_cast<Batches*>(data)->atWork) pool().abandon(batch);
        },
        environment.decoding.get());
  }
  return *static_cast<Batches*>(environment.decoding.get());
}

/** Elements of a typed array of JavaScript's. */
template <typename T>
struct Elements {
  const T* data;
  size_t count;
};

template <typename T>
Elements<T> elementsOf(Call& call, size_t i, const char* name, napi_typedarray_type wanted) {
  napi_typedarray_type type;
  size_t count = 0;
  void* data = nullptr;
  bool isTyped = false;
  if (call.value(i) != nullptr) napi_is_typedarray(call.env, call.value(i), &isTyped);
  if (!isTyped || napi_get_typedarray_info(call.env, call.value(i), &type, &count, &data, nullptr, nullptr) != napi_ok ||
      type != wanted) {
    throw CodedError("INVALID_ARGUMENT", std::string("expected a typed array of another kind for ") + name);
  }
  return {static_cast<const T*>(data), count};
}

void requireCount(const char* name, size_t count, size_t wanted) {
  if (count == wanted) return;
  throw CodedError("INVALID_ARGUMENT", std::string(name) + ": expected " + std::to_string(wanted) + " elements, got " +
                                           std::to_string(count));
}

/** Pieces of bytes, cut at offsets that rise from 0. */
std::vector<std::string> piecesOf(Elements<uint8_t> bytes, Elements<double> offsets) {
  std::vector<std::string> pieces;
  pieces.reserve(offsets.count);
  double from = 0;
  for (size_t i = 0; i < offsets.count; i++) {
    const double end = offsets.data[i];
    if (!(end >= from && end <= static_cast<double>(bytes.count))) {
      throw CodedError("INVALID_ARGUMENT", "ends: expected offsets into bytes that rise");
    }
    pieces.emplace_back(reinterpret_cast<const char*>(bytes.data) + static_cast<size_t>(from),
                        static_cast<size_t>(end) - static_cast<size_t>(from));
    from = end;
  }
  return pieces;
}

int sideOf(Call& call, size_t i, const char* name) {
  const int64_t side = call.integer(i, name);
  if (side >= 1 && side <= 65535) return static_cast<int>(side);
  throw CodedError("INVALID_ARGUMENT", std::string(name) + ": expected 1 to 65535 pixels, got " + std::to_string(side));
}

BatchRequest requestOf(Call& call) {
  BatchRequest request;
  request.images = call.tensor(0, "images");
  const at::Tensor& images = request.images;
  if (images.dim() != 4 || images.scalar_type() != at::kByte || !images.device().is_cpu() || !images.is_contiguous() ||
      (images.size(3) != 3 && images.size(3) != 1)) {
    throw CodedError("INVALID_ARGUMENT", "images: expected uint8 [n, height, width, 1 or 3] on the CPU, contiguous");
  }
  request.arePaths = call.boolean(3, "arePaths");
  request.sources = piecesOf(elementsOf<uint8_t>(call, 1, "bytes", napi_uint8_array),
                             elementsOf<double>(call, 2, "ends", napi_float64_array));
  const size_t count = request.sources.size();
  requireCount("images", static_cast<size_t>(images.size(0)), count);
  const Elements<double> ranges = elementsOf<double>(call, 4, "ranges", napi_float64_array);
  if (ranges.count > 0) requireCount("ranges", ranges.count, 2 * count);
  for (size_t i = 0; i < ranges.count; i++) {
    if (!(ranges.data[i] >= 0 && ranges.data[i] <= 9007199254740991.0)) {
      throw CodedError("INVALID_ARGUMENT", "ranges: expected an offset and a length for each image");
    }
  }
  request.ranges.assign(ranges.data, ranges.data + ranges.count);
  const Elements<double> draws = elementsOf<double>(call, 5, "draws", napi_float64_array);
  if (draws.count > 0) requireCount("draws", draws.count, CropDraws::kCount * count);
  for (size_t i = 0; i < draws.count; i += CropDraws::kCount) {
    CropDraws drawn{};
    std::copy_n(draws.data + i, CropDraws::kCount, drawn.values.begin());
    if (!(drawn.values[0] >= 0 && drawn.values[0] < 1 && drawn.values[1] >= 0 && drawn.values[1] < 1)) {
      throw CodedError("INVALID_ARGUMENT", "draws: expected positions from 0 to 1");
    }
    request.draws.push_back(drawn);
  }
  const Elements<uint8_t> mirrored = elementsOf<uint8_t>(call, 6, "mirrored", napi_uint8_array);
  if (mirrored.count > 0) requireCount("mirrored", mirrored.count, count);
  request.mirrored.assign(mirrored.data, mirrored.data + mirrored.count);
  request.view = ImageView{nullptr,
                           sideOf(call, 7, "coveredHeight"),
                           sideOf(call, 8, "coveredWidth"),
                           static_cast<int>(images.size(1)),
                           static_cast<int>(images.size(2)),
                           static_cast<int>(images.size(3)),
                           /*isMirrored=*/false,
                           call.integer(9, "maxPixels"),
                           call.boolean(10, "mayReduce")};
  return request;
}

/** Begins to decode a batch; the callback is told how each image went. Gives a number to cancel it by. */
napi_value decodeImages(napi_env env, napi_callback_info info) {
  return guarded<12>(env, info, "decodeImages", [](Call& call) {
    const SharedBatch batch = std::make_shared<Batch>(requestOf(call));
    Batches& batches = batchesOf(call);
    const int32_t id = ++batches.last;
    auto* waiting = new Waiting{&batches, id};
    const auto forget = [](napi_env, void* data, void*) { delete static_cast<Waiting*>(data); };
    const napi_status made = napi_create_threadsafe_function(
        call.env, call.value(11), nullptr, call.fromString("layerwise decoding"), /*max_queue_size=*/0,
        /*initial_thread_count=*/1, waiting, forget, waiting, tellDone, &batch->whenDone);
    const napi_threadsafe_function whenDone = batch->whenDone;
    if (made != napi_ok) {
      delete waiting;
      throw CodedError("INVALID_ARGUMENT", "expected a function for whenDone");
    }
    batches.atWork.emplace(id, batch);
    try {
      pool().add(batch);
    } catch (const std::exception& error) {
      pool().abandon(batch);
      batches.atWork.erase(id);
      napi_release_threadsafe_function(whenDone, napi_tsfn_abort);
      throw CodedError("LIBTORCH", std::string("no thread could be started to decode images: ") + error.what());
    }
    return call.fromNumber(id);
  });
}

/** Begins no more images of a batch: the callback is told when those at work have ended. */
napi_value cancelDecoding(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "cancelDecoding", [](Call& call) {
    Batches& batches = batchesOf(call);
    const auto found = batches.atWork.find(static_cast<int32_t>(call.integer(0, "batch")));
    if (found != batches.atWork.end()) pool().cancel(found->second);
    return call.nothing();
  });
}

/** Gives the file of the library that is open now, whichever was asked for; empty where there is none. */
napi_value openTurboJpeg(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "openTurboJpeg", [](Call& call) {
    const TurboJpeg* library = TurboJpeg::open(call.string(0, "path"));
    return call.fromString(library == nullptr ? "" : library->file);
  });
}

napi_value setDecodingThreads(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, "setDecodingThreads", [](Call& call) {
    const int64_t threads = call.integer(0, "threads");
    if (threads < 1 || threads > 1024) throw CodedError("INVALID_ARGUMENT", "threads: expected 1 to 1024");
    pool().setThreads(static_cast<size_t>(threads));
    return call.nothing();
  });
}

napi_value decodingThreads(napi_env env, napi_callback_info info) {
  return guarded<0>(env, info, "decodingThreads",
                    [](Call& call) { return call.fromNumber(static_cast<double>(pool().threads())); });
}

}  // namespace

void exportDecoding(napi_env env, napi_value exports, Environment* environment) {
  const NativeFunction functions[] = {
      {"decodeImages", decodeImages},
      {"cancelDecoding", cancelDecoding},
      {"openTurboJpeg", openTurboJpeg},
      {"setDecodingThreads", setDecodingThreads},
      {"decodingThreads", decodingThreads},
  };
  exportFunctions(env, exports, environment, functions);
}

}  // namespace layerwise
