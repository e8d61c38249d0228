// One JPEG file to pixels of a wanted size: only the part that is shown is decoded, at the smallest scale that covers it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "resampling.h"

namespace layerwise {

/** What a crop is drawn by: uniform numbers in [0, 1), and for each attempt an area, as a part of the image, and width / height. */
struct CropDraws {
  static constexpr int kAttempts = 10;
  static constexpr int kCount = 2 + 2 * kAttempts;
  /** top, left, areas, ratios. */
  std::array<double, kCount> values;
};

/** What is shown of an image that stands upright, and how large. */
struct ImageView {
  /** A crop that is drawn, or null: the centre of the image, scaled. */
  const CropDraws* draws;
  /** Of the centre: the rectangle that the image is scaled to cover. */
  int coveredHeight;
  int coveredWidth;
  int height;
  int width;
  /** 3: red, green, blue; 1: grey. */
  int channels;
  /** Whether it is shown from right to left. */
  bool isMirrored;
  /** Larger images are left alone. */
  int64_t maxPixels;
  /** Whether an image may be decoded an eighth, a quarter or half as large, where that is enough: else all pixels of a crop are. */
  bool mayReduce;
};

enum class Decoded : uint8_t {
  kYes = 0,
  /** Not by this decoder: of another kind, damaged, or too large. Another has to look at it, and say what is wrong. */
  kNo = 1,
  /** The file was not read. */
  kUnread = 2,
};

/** A decoder and its memory, for one thread. */
class JpegDecoder {
 public:
  JpegDecoder() = default;
  ~JpegDecoder();
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  /** Writes [height, width, channels] to `to`, or leaves it alone. */
  Decoded decode(const uint8_t* bytes, size_t size, const ImageView& view, uint8_t* to);

  /** The same of bytes from `offset` of a file; to its end where `length` is negative. */
  Decoded decodeFile(const char* path, int64_t offset, int64_t length, const ImageView& view, uint8_t* to);

  /** Lets go of memory that only unusual images need. */
  void forgetLarge();

 private:
  void* handle_ = nullptr;
  std::vector<uint8_t> file_;
  std::vector<uint8_t> pixels_;
  std::vector<uint8_t> narrow_;
  std::vector<uint8_t> row_;
  AxisWeights across_;
  AxisWeights down_;
};

}  // namespace layerwise
