// Antialiased bilinear scaling of 8-bit pixels, as Pillow and torchvision scale.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace layerwise {

/** What one axis of an image is scaled to: pixels `start` to `start + length`, fractions too, become `count` pixels. */
struct AxisScale {
  double start;
  double length;
  int count;
  /** Pixels from `first` to `end` exist; no others are taken into account. */
  int first;
  int end;
};

/** For each pixel that is made, those that it is made of and their weights. */
class AxisWeights {
 public:
  void set(const AxisScale& scale);

  int count() const { return static_cast<int>(firsts_.size()); }
  /** The first pixel that any needs, and the one after the last. */
  int first() const { return first_; }
  int end() const { return end_; }
  int firstOf(int index) const { return firsts_[static_cast<size_t>(index)]; }
  /** How many: even; the last may have no weight, and need not exist. */
  int tapsOf(int index) const { return counts_[static_cast<size_t>(index)]; }
  /** Each a multiple of 2^-precision. */
  const int16_t* weightsOf(int index) const { return &weights_[static_cast<size_t>(index) * static_cast<size_t>(taps_)]; }
  int precision() const { return precision_; }

  /** The same by pointers, for the innermost loops: what they write may not be taken for what these say. */
  struct Raw {
    const int* firsts;
    const int* counts;
    const int16_t* weights;
    int taps;
    int precision;
  };
  Raw raw() const { return {firsts_.data(), counts_.data(), weights_.data(), taps_, precision_}; }

 private:
  std::vector<int> firsts_;
  std::vector<int> counts_;
  std::vector<double> exact_;
  std::vector<int16_t> weights_;
  int taps_ = 0;
  int precision_ = 0;
  int first_ = 0;
  int end_ = 0;
};

/** Bytes that may be read, and written, behind the last pixel of an image. */
constexpr int64_t kSlack = 32;

/** Pixels of four bytes, row by row; `kSlack` bytes behind the last are there, too. */
struct PixelRows {
  const uint8_t* pixels;
  /** Bytes from a row to the next. */
  int64_t pitch;
};

/** Scales `rows` rows of pixels to `weights.count()` pixels each. Pixel `origin` of the axis is the first of a row. */
void scaleAlongRows(PixelRows from, int rows, int origin, const AxisWeights& weights, uint8_t* to, int64_t toPitch);

/** Makes row `index` of an image of rows of `width` pixels that is scaled down its columns. Row `origin` of the axis is the first of `from`. */
void scaleToRow(PixelRows from, int width, int origin, const AxisWeights& weights, int index, uint8_t* to);

/** Pixels of four bytes to as many of three, without the fourth; in the other order where `isMirrored`. */
void packRow(const uint8_t* row, int width, bool isMirrored, uint8_t* to);

}  // namespace layerwise
