// libjpeg-turbo's TurboJPEG interface, version 3 (https://libjpeg-turbo.org/Documentation), opened at run time: no header and no
// library of it is needed to compile the addon.
#pragma once

#include <cstddef>
#include <string>

namespace layerwise {

/** The values of its enumerations that are used here. */
namespace tj {
constexpr int kDecompress = 1;
constexpr int kPixelsRgbx = 2;
enum Parameter {
  kStopOnWarning = 0,
  kSubsampling = 4,
  kJpegWidth = 5,
  kJpegHeight = 6,
  kPrecision = 7,
  kColorspace = 8,
  kScanLimit = 13,
  kLossless = 15,
};
enum Colorspace { kRgb = 0, kYCbCr = 1, kGray = 2 };
/** Subsamplings are numbered from 0: 4:4:4, 4:2:2, 4:2:0, grey, 4:4:0, 4:1:1, 4:4:1. The width of their blocks in pixels. */
constexpr int kBlockWidths[] = {8, 16, 16, 8, 8, 32, 8};
constexpr int kSubsamplings = 7;

struct Scaling {
  int numerator;
  int denominator;
};
struct Region {
  int x;
  int y;
  int width;
  int height;
};
}  // namespace tj

/** Its functions. All return 0 where they succeed, or -1. */
struct TurboJpeg {
  void* (*init)(int kind);
  void (*destroy)(void* handle);
  int (*set)(void* handle, int parameter, int value);
  /** Returns the value. */
  int (*get)(void* handle, int parameter);
  int (*decompressHeader)(void* handle, const unsigned char* bytes, size_t size);
  int (*setScalingFactor)(void* handle, tj::Scaling factor);
  int (*setCroppingRegion)(void* handle, tj::Region region);
  int (*decompress)(void* handle, const unsigned char* bytes, size_t size, unsigned char* pixels, int pitch, int format);

  /** The file that it was loaded from. */
  std::string file;

  /**
   * Opens the library at a path, or by its name where the system finds it; the first that has all functions stays for the life of
   * the process. Returns the one that is open now, or null.
   */
  static const TurboJpeg* open(const std::string& path);
  /** Null before one was opened. */
  static const TurboJpeg* opened();
};

}  // namespace layerwise
