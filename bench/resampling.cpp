// Scaling of decoded pixels: native/resampling.cpp beside LibTorch's antialiased bilinear operator on uint8, on one thread, image by image in turn.
// bench/resampling.mjs compiles and starts it: `resampling ROUNDS FILE...`. A file is of one case, as reference/resampling.py writes
// it: seven int32 (images, width, height, scaled width, scaled height, shown width, shown height), the pixels of the images [height,
// width, 3], and Pillow's results. The middle of what is scaled is shown. Prints a line of JSON for each file.
#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/InferenceMode.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "../native/process.h"
#include "../native/resampling.h"

namespace layerwise {
std::string cpuCapability() { return at::get_cpu_capability(); }
}  // namespace layerwise

namespace {

using layerwise::AxisScale;
using layerwise::AxisWeights;

struct Sizes {
  int32_t images;
  int32_t width;
  int32_t height;
  int32_t scaledWidth;
  int32_t scaledHeight;
  int32_t shownWidth;
  int32_t shownHeight;

  size_t pixels() const { return static_cast<size_t>(width) * static_cast<size_t>(height); }
  size_t shown() const { return static_cast<size_t>(shownWidth) * static_cast<size_t>(shownHeight); }
  // torchvision's CenterCrop: halves to even numbers.
  int left() const { return static_cast<int>(std::nearbyint((scaledWidth - shownWidth) / 2.0)); }
  int top() const { return static_cast<int>(std::nearbyint((scaledHeight - shownHeight) / 2.0)); }
  bool isWhole() const { return shownWidth == scaledWidth && shownHeight == scaledHeight; }
};

std::vector<uint8_t> read(std::ifstream& file, size_t bytes) {
  std::vector<uint8_t> found(bytes);
  file.read(reinterpret_cast<char*>(found.data()), static_cast<std::streamsize>(bytes));
  if (!file) throw std::runtime_error("a file of a case is too short");
  return found;
}

/** As the decoder does with what TurboJPEG gives it: four bytes a pixel, three a pixel of the result, in its place. */
class Ours {
 public:
  explicit Ours(const Sizes& sizes) : sizes_(sizes) {}

  void scale(const uint8_t* rgbx, uint8_t* to) {
    const double across = static_cast<double>(sizes_.width) / sizes_.scaledWidth;
    const double down = static_cast<double>(sizes_.height) / sizes_.scaledHeight;
    across_.set({sizes_.left() * across, sizes_.shownWidth * across, sizes_.shownWidth, 0, sizes_.width});
    down_.set({sizes_.top() * down, sizes_.shownHeight * down, sizes_.shownHeight, 0, sizes_.height});
    const int64_t pitch = int64_t{4} * sizes_.width;
    const int64_t narrowPitch = int64_t{4} * sizes_.shownWidth;
    const int rows = down_.end() - down_.first();
    narrow_.resize(static_cast<size_t>(narrowPitch * rows + layerwise::kSlack));
    row_.resize(static_cast<size_t>(narrowPitch + layerwise::kSlack));
    layerwise::scaleAlongRows({rgbx + down_.first() * pitch, pitch}, rows, 0, across_, narrow_.data(), narrowPitch);
    for (int y = 0; y < sizes_.shownHeight; y++) {
      layerwise::scaleToRow({narrow_.data(), narrowPitch}, sizes_.shownWidth, down_.first(), down_, y, row_.data());
      layerwise::packRow(row_.data(), sizes_.shownWidth, false, to + int64_t{3} * sizes_.shownWidth * y);
    }
  }

 private:
  Sizes sizes_;
  AxisWeights across_;
  AxisWeights down_;
  std::vector<uint8_t> narrow_;
  std::vector<uint8_t> row_;
};

/** Pixels [height, width, channels] as LibTorch takes images: [1, channels, height, width], channels last. */
at::Tensor imageAt(uint8_t* pixels, int height, int width, int channels) {
  return at::from_blob(pixels, {1, height, width, channels}, at::kByte).permute({0, 3, 1, 2});
}

/** All is scaled, since the operator has no part of it; where all is shown it is written to its place at once. */
void scaleByLibTorch(const Sizes& sizes, uint8_t* pixels, int channels, uint8_t* to) {
  const at::Tensor image = imageAt(pixels, sizes.height, sizes.width, channels);
  at::Tensor place = imageAt(to, sizes.shownHeight, sizes.shownWidth, channels);
  if (sizes.isWhole()) {
    at::_upsample_bilinear2d_aa_out(place, image, {sizes.scaledHeight, sizes.scaledWidth}, /*align_corners=*/false);
    return;
  }
  const at::Tensor scaled = at::_upsample_bilinear2d_aa(image, {sizes.scaledHeight, sizes.scaledWidth}, /*align_corners=*/false);
  place.copy_(scaled.narrow(2, sizes.top(), sizes.shownHeight).narrow(3, sizes.left(), sizes.shownWidth));
}

/** That it computed: other programs are not counted. */
double microsecondsOfThread() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return 1e6 * static_cast<double>(time.tv_sec) + 1e-3 * static_cast<double>(time.tv_nsec);
}

struct Difference {
  double mean;
  int worst;
};

Difference differenceOf(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  int64_t sum = 0;
  int worst = 0;
  for (size_t i = 0; i < a.size(); i++) {
    const int difference = std::abs(static_cast<int>(a[i]) - static_cast<int>(b[i]));
    sum += difference;
    worst = std::max(worst, difference);
  }
  return {static_cast<double>(sum) / static_cast<double>(a.size()), worst};
}

void measure(const std::string& path, int rounds) {
  std::ifstream file(path, std::ios::binary);
  Sizes sizes{};
  file.read(reinterpret_cast<char*>(&sizes), sizeof(sizes));
  const size_t count = static_cast<size_t>(sizes.images);
  std::vector<uint8_t> rgb = read(file, count * sizes.pixels() * 3);
  const std::vector<uint8_t> pillow = read(file, count * sizes.shown() * 3);
  std::vector<uint8_t> rgbx(count * sizes.pixels() * 4 + layerwise::kSlack);
  for (size_t i = 0; i < count * sizes.pixels(); i++) std::copy_n(&rgb[3 * i], 3, &rgbx[4 * i]);

  Ours ours(sizes);
  std::vector<uint8_t> byUs(count * sizes.shown() * 3);
  std::vector<uint8_t> byLibTorch(count * sizes.shown() * 3);
  std::vector<uint8_t> ofFour(sizes.shown() * 4 + layerwise::kSlack);
  std::vector<uint8_t> packed(count * sizes.shown() * 3);
  const std::function<void(size_t)> sides[] = {
      [&](size_t i) { ours.scale(&rgbx[i * sizes.pixels() * 4], &byUs[i * sizes.shown() * 3]); },
      [&](size_t i) { scaleByLibTorch(sizes, &rgb[i * sizes.pixels() * 3], 3, &byLibTorch[i * sizes.shown() * 3]); },
      [&](size_t i) {
        scaleByLibTorch(sizes, &rgbx[i * sizes.pixels() * 4], 4, ofFour.data());
        layerwise::packRow(ofFour.data(), static_cast<int>(sizes.shown()), false, &packed[i * sizes.shown() * 3]);
      },
  };
  const char* const names[] = {"ours", "libtorch3", "libtorch4"};
  std::vector<double> times[3];
  // The first round is not kept.
  for (int round = -1; round < rounds; round++) {
    double sums[3] = {0, 0, 0};
    for (size_t i = 0; i < count; i++) {
      for (size_t side = 0; side < 3; side++) {
        const double start = microsecondsOfThread();
        sides[side](i);
        sums[side] += microsecondsOfThread() - start;
      }
    }
    for (size_t side = 0; side < 3 && round >= 0; side++) times[side].push_back(sums[side] / static_cast<double>(count));
  }

  std::printf("{\"width\":%d,\"height\":%d,\"scaledWidth\":%d,\"scaledHeight\":%d,", sizes.width, sizes.height, sizes.scaledWidth,
              sizes.scaledHeight);
  std::printf("\"shownWidth\":%d,\"shownHeight\":%d,\"microseconds\":{", sizes.shownWidth, sizes.shownHeight);
  for (size_t side = 0; side < 3; side++) {
    std::printf("%s\"%s\":[", side == 0 ? "" : ",", names[side]);
    for (size_t i = 0; i < times[side].size(); i++) std::printf("%s%.2f", i == 0 ? "" : ",", times[side][i]);
    std::printf("]");
  }
  const Difference ofOurs = differenceOf(byUs, pillow);
  const Difference ofLibTorch = differenceOf(byLibTorch, pillow);
  std::printf("},\"fromPillow\":{\"ours\":{\"mean\":%.6f,\"worst\":%d},", ofOurs.mean, ofOurs.worst);
  std::printf("\"libtorch\":{\"mean\":%.6f,\"worst\":%d}},", ofLibTorch.mean, ofLibTorch.worst);
  std::printf("\"areEqual\":%s}\n", byUs == byLibTorch && byUs == packed ? "true" : "false");
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  const c10::InferenceMode guard;
  std::printf("{\"libtorch\":\"%s\",\"capability\":\"%s\"}\n", TORCH_VERSION, at::get_cpu_capability().c_str());
  for (int i = 2; i < argc; i++) measure(argv[i], std::atoi(argv[1]));
  return 0;
}
