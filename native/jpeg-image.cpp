#include "jpeg-image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "turbojpeg.h"

namespace layerwise {

namespace {

/** Of a file, and of the part of an image that is decoded at once: more is left to another decoder. */
constexpr int64_t kMostFileBytes = int64_t{1} << 28;
constexpr int64_t kMostPixelBytes = int64_t{1} << 28;
/** Memory that a thread keeps between images. */
constexpr size_t kKeptBytes = size_t{1} << 25;
/** A progressive file with more is made to take time. */
constexpr int kMostScans = 200;

/** Pixels of an upright image, fractions too, and those around that may be taken into account. */
struct Box {
  double left;
  double top;
  double width;
  double height;
  /** Left, top, right, bottom. */
  std::array<int, 4> bounds;
};

/** How an image is stored, by its Exif orientation: https://www.cipa.jp/std/documents/e/DC-X008-Translation-2019-E.pdf, 4.6.4. */
struct Orientation {
  /** Whether rows are stored as columns. */
  bool isTransposed = false;
  /** Whether upright pixels count from the right, or the bottom, of what is stored along that side. */
  bool isMirroredAcross = false;
  bool isMirroredDown = false;
};

Orientation orientationOf(int code) {
  switch (code) {
    case 2: return {false, true, false};
    case 3: return {false, true, true};
    case 4: return {false, false, true};
    case 5: return {true, false, false};
    case 6: return {true, true, false};
    case 7: return {true, true, true};
    case 8: return {true, false, true};
    default: return {};
  }
}

/** Reads numbers of a TIFF structure, and 0 beyond its end. */
class Tiff {
 public:
  Tiff(const uint8_t* bytes, size_t size) : bytes_(bytes), size_(size) {
    if (size >= 8) isLittle_ = bytes[0] == 'I';
  }
  bool isValid() const { return size_ >= 8 && bytes_[0] == bytes_[1] && (bytes_[0] == 'I' || bytes_[0] == 'M'); }
  uint32_t number(size_t at, size_t bytes) const {
    if (at > size_ || size_ - at < bytes) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; i++) value = value << 8 | bytes_[at + (isLittle_ ? bytes - 1 - i : i)];
    return value;
  }

 private:
  const uint8_t* bytes_;
  size_t size_;
  bool isLittle_ = false;
};

/** The orientation in the first directory of Exif data; 1, upright, where it says none. */
int orientationIn(const Tiff& tiff) {
  constexpr uint32_t kOrientation = 0x0112;
  constexpr size_t kEntryBytes = 12;
  if (!tiff.isValid() || tiff.number(2, 2) != 42) return 1;
  const size_t directory = tiff.number(4, 4);
  const size_t entries = tiff.number(directory, 2);
  for (size_t i = 0; i < entries; i++) {
    const size_t entry = directory + 2 + i * kEntryBytes;
    if (tiff.number(entry, 2) != kOrientation) continue;
    return static_cast<int>(tiff.number(entry + 8, 2));
  }
  return 1;
}

/**
 * What the segments before the image data say of the orientation: -1 where they are not what a decoder can rely on.
 */
int orientationOfFile(const uint8_t* bytes, size_t size) {
  constexpr char kExif[] = "Exif\0";
  size_t at = 2;
  while (at + 4 <= size && bytes[at] == 0xff) {
    const uint8_t marker = bytes[at + 1];
    // Padding.
    if (marker == 0xff) {
      at++;
      continue;
    }
    // The image data begin.
    if (marker == 0xda) return 1;
    const size_t length = static_cast<size_t>(bytes[at + 2]) << 8 | bytes[at + 3];
    if (length < 2 || at + 2 + length > size) return -1;
    const uint8_t* content = bytes + at + 4;
    if (marker == 0xe1 && length >= 8 && std::memcmp(content, kExif, 6) == 0) {
      return orientationIn(Tiff(content + 6, length - 8));
    }
    at += 2 + length;
  }
  return -1;
}

/** Whether a file begins as JPEG files do, and ends as they do: otherwise it may be cut short behind what is shown. */
bool isWhole(const uint8_t* bytes, size_t size) {
  return size >= 4 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff && bytes[size - 2] == 0xff &&
         bytes[size - 1] == 0xd9;
}

/** As JavaScript's Math.round, of numbers from 0. */
double rounded(double value) { return std::floor(value + 0.5); }

/** As Python's round: halves to even numbers. */
int roundedToEven(double value) { return static_cast<int>(std::nearbyint(value)); }

// torchvision's RandomResizedCrop; the other half of drawResizedCrop (lib/data/resized-crop.ts), to the same pixels.
Box drawnCrop(const CropDraws& draws, int width, int height) {
  const double least = 3.0 / 4;
  const double most = 4.0 / 3;
  const auto whole = [](double left, double top, double w, double h) {
    const auto bound = [](double value) { return static_cast<int>(value); };
    return Box{left, top, w, h, {bound(left), bound(top), bound(left + w), bound(top + h)}};
  };
  const double* areas = &draws.values[2];
  const double* ratios = &draws.values[2 + CropDraws::kAttempts];
  for (int attempt = 0; attempt < CropDraws::kAttempts; attempt++) {
    const double area = static_cast<double>(width) * height * areas[attempt];
    const double w = rounded(std::sqrt(area * ratios[attempt]));
    const double h = rounded(std::sqrt(area / ratios[attempt]));
    if (!(w >= 1 && w <= width && h >= 1 && h <= height)) continue;
    return whole(std::floor(draws.values[1] * (width - w + 1)), std::floor(draws.values[0] * (height - h + 1)), w, h);
  }
  const double w = std::min<double>(width, std::max(1.0, rounded(height * most)));
  const double h = std::min<double>(height, std::max(1.0, rounded(width / least)));
  return whole(std::floor((width - w) / 2), std::floor((height - h) / 2), w, h);
}

// torchvision's Resize and CenterCrop: the longer side is rounded down, the offset to an even number.
Box centreOf(const ImageView& view, int width, int height) {
  const bool isWide = static_cast<int64_t>(width) * view.coveredHeight >= static_cast<int64_t>(height) * view.coveredWidth;
  const auto longer = [](int covered, int side, int shorter) {
    return std::max(covered, static_cast<int>(static_cast<int64_t>(covered) * side / shorter));
  };
  const int scaledWidth = isWide ? longer(view.coveredHeight, width, height) : view.coveredWidth;
  const int scaledHeight = isWide ? view.coveredHeight : longer(view.coveredWidth, height, width);
  const double across = static_cast<double>(width) / scaledWidth;
  const double down = static_cast<double>(height) / scaledHeight;
  return {roundedToEven((std::max(scaledWidth, view.width) - view.width) / 2.0) * across,
          roundedToEven((std::max(scaledHeight, view.height) - view.height) / 2.0) * down,
          view.width * across,
          view.height * down,
          {0, 0, width, height}};
}

/** What is shown, along the sides of a stored image. */
struct StoredView {
  AxisScale across;
  AxisScale down;
};

/** The box where it lies in what is stored. */
StoredView storedView(const Box& box, const Orientation& orientation, const ImageView& view, int width, int height) {
  AxisScale across{box.left, box.width, view.width, box.bounds[0], box.bounds[2]};
  AxisScale down{box.top, box.height, view.height, box.bounds[1], box.bounds[3]};
  const auto turned = [](const AxisScale& axis, int side) {
    return AxisScale{side - axis.start - axis.length, axis.length, axis.count, side - axis.end, side - axis.first};
  };
  const int uprightWidth = orientation.isTransposed ? height : width;
  const int uprightHeight = orientation.isTransposed ? width : height;
  if (orientation.isMirroredAcross) across = turned(across, uprightWidth);
  if (orientation.isMirroredDown) down = turned(down, uprightHeight);
  return orientation.isTransposed ? StoredView{down, across} : StoredView{across, down};
}

/**
 * How many times smaller an image is decoded: as small as can be with some pixels more than are shown. With none more, three of 240
 * photographs differ by more than 2 of 255 from the same scaled from all pixels (mean of the absolute difference, at most 4.1); with
 * these at most by 0.72 (720 training crops: 1.25). Fast code is there for these sizes alone.
 */
int reductionFor(const StoredView& view) {
  constexpr double kMargin = 1.5;
  for (const int reduction : {8, 4, 2}) {
    if (view.across.length >= kMargin * view.across.count * reduction &&
        view.down.length >= kMargin * view.down.count * reduction) {
      return reduction;
    }
  }
  return 1;
}

int reduced(int side, int reduction) { return (side + reduction - 1) / reduction; }

/** The axis in an image that is decoded smaller. */
AxisScale reduced(const AxisScale& axis, int reduction) {
  const int end = reduced(axis.end, reduction);
  return {axis.start / reduction, axis.length / reduction, axis.count, std::min(axis.first / reduction, end - 1), end};
}

/** Writes a row of pixels of four bytes as pixels of `channels`, `step` bytes from one to the next. */
void pack(const uint8_t* row, int width, int channels, uint8_t* to, int64_t step) {
  for (int x = 0; x < width; x++, row += 4, to += step) {
    if (channels == 3) {
      to[0] = row[0];
      to[1] = row[1];
      to[2] = row[2];
    } else {
      // ITU-R BT.601 in Pillow's integer arithmetic.
      to[0] = static_cast<uint8_t>((19595 * row[0] + 38470 * row[1] + 7471 * row[2] + 32768) >> 16);
    }
  }
}

/** Without clearing what is there already. */
void grow(std::vector<uint8_t>& bytes, int64_t size) {
  if (bytes.size() < static_cast<size_t>(size)) bytes.resize(static_cast<size_t>(size));
}

int openFile(const char* path) {
  for (;;) {
    const int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor >= 0 || errno != EINTR) return descriptor;
  }
}

/** Reads bytes from `offset` of a regular file. Returns how many; -1 where not all came. */
int64_t readFile(int descriptor, int64_t offset, int64_t length, std::vector<uint8_t>& bytes) {
  struct stat found {};
  if (fstat(descriptor, &found) != 0 || !S_ISREG(found.st_mode)) return -1;
  const int64_t wanted = length < 0 ? found.st_size - offset : length;
  if (wanted < 0 || wanted > kMostFileBytes) return -1;
  grow(bytes, wanted);
  for (int64_t done = 0; done < wanted;) {
    const ssize_t came = pread(descriptor, &bytes[static_cast<size_t>(done)], static_cast<size_t>(wanted - done), offset + done);
    if (came < 0 && errno == EINTR) continue;
    if (came <= 0) return -1;
    done += came;
  }
  return wanted;
}

}  // namespace

JpegDecoder::~JpegDecoder() {
  if (handle_ != nullptr) TurboJpeg::opened()->destroy(handle_);
}

void JpegDecoder::forgetLarge() {
  for (std::vector<uint8_t>* buffer : {&file_, &pixels_, &narrow_}) {
    if (buffer->capacity() > kKeptBytes) std::vector<uint8_t>().swap(*buffer);
  }
}

Decoded JpegDecoder::decodeFile(const char* path, int64_t offset, int64_t length, const ImageView& view, uint8_t* to) {
  const int descriptor = openFile(path);
  if (descriptor < 0) return Decoded::kUnread;
  const int64_t size = readFile(descriptor, offset, length, file_);
  close(descriptor);
  return size < 0 ? Decoded::kUnread : decode(file_.data(), static_cast<size_t>(size), view, to);
}

Decoded JpegDecoder::decode(const uint8_t* bytes, size_t size, const ImageView& view, uint8_t* to) {
  const TurboJpeg* library = TurboJpeg::opened();
  if (library == nullptr || !isWhole(bytes, size)) return Decoded::kNo;
  if (handle_ == nullptr) {
    handle_ = library->init(tj::kDecompress);
    if (handle_ == nullptr) return Decoded::kNo;
    library->set(handle_, tj::kStopOnWarning, 1);
    library->set(handle_, tj::kScanLimit, kMostScans);
  }
  const int code = orientationOfFile(bytes, size);
  if (code < 0 || library->decompressHeader(handle_, bytes, size) != 0) return Decoded::kNo;
  const int width = library->get(handle_, tj::kJpegWidth);
  const int height = library->get(handle_, tj::kJpegHeight);
  const int subsampling = library->get(handle_, tj::kSubsampling);
  const int colorspace = library->get(handle_, tj::kColorspace);
  if (library->get(handle_, tj::kPrecision) != 8 || library->get(handle_, tj::kLossless) != 0) return Decoded::kNo;
  if (colorspace != tj::kYCbCr && colorspace != tj::kGray && colorspace != tj::kRgb) return Decoded::kNo;
  if (subsampling < 0 || subsampling >= tj::kSubsamplings || width < 1 || height < 1) return Decoded::kNo;
  if (static_cast<int64_t>(width) * height > view.maxPixels) return Decoded::kNo;

  const Orientation orientation = orientationOf(code);
  const int uprightWidth = orientation.isTransposed ? height : width;
  const int uprightHeight = orientation.isTransposed ? width : height;
  const Box box = view.draws != nullptr ? drawnCrop(*view.draws, uprightWidth, uprightHeight)
                                        : centreOf(view, uprightWidth, uprightHeight);
  const StoredView stored = storedView(box, orientation, view, width, height);
  const int reduction = view.mayReduce ? reductionFor(stored) : 1;
  across_.set(reduced(stored.across, reduction));
  down_.set(reduced(stored.down, reduction));

  // From a column of blocks on, and a pixel or two more to each side: those at the edge of a region have other colours.
  const int blockWidth = tj::kBlockWidths[subsampling] / reduction;
  const int left = std::max(0, across_.first() - 1) / blockWidth * blockWidth;
  const int regionWidth = std::min(reduced(width, reduction), across_.end() + 2) - left;
  const int regionHeight = down_.end() - down_.first();
  const int64_t pitch = int64_t{4} * regionWidth;
  if (pitch * regionHeight > kMostPixelBytes) return Decoded::kNo;
  grow(pixels_, pitch * regionHeight + kSlack);
  if (library->setScalingFactor(handle_, {1, reduction}) != 0 ||
      library->setCroppingRegion(handle_, {left, down_.first(), regionWidth, regionHeight}) != 0 ||
      library->decompress(handle_, bytes, size, pixels_.data(), static_cast<int>(pitch), tj::kPixelsRgbx) != 0) {
    return Decoded::kNo;
  }

  const int64_t narrowPitch = int64_t{4} * across_.count();
  grow(narrow_, narrowPitch * regionHeight + kSlack);
  grow(row_, narrowPitch + kSlack);
  scaleAlongRows({pixels_.data(), pitch}, regionHeight, left, across_, narrow_.data(), narrowPitch);

  // What is stored mirrored, and shown mirrored, is written as it lies.
  const bool isMirroredAcross = orientation.isMirroredAcross != view.isMirrored;
  const int64_t channels = view.channels;
  const int64_t rowBytes = channels * view.width;
  const int64_t alongRow = isMirroredAcross ? -channels : channels;
  const int64_t alongColumn = orientation.isMirroredDown ? -rowBytes : rowBytes;
  uint8_t* corner = to + (isMirroredAcross ? rowBytes - channels : 0) +
                    (orientation.isMirroredDown ? rowBytes * (view.height - 1) : 0);
  const int64_t step = orientation.isTransposed ? alongColumn : alongRow;
  const int64_t nextRow = orientation.isTransposed ? alongRow : alongColumn;
  for (int y = 0; y < down_.count(); y++) {
    scaleToRow({narrow_.data(), narrowPitch}, across_.count(), down_.first(), down_, y, row_.data());
    uint8_t* const at = corner + y * nextRow;
    if (channels == 3 && step == -3) packRow(row_.data(), across_.count(), true, at - 3 * (across_.count() - 1));
    else if (channels == 3 && step == 3) packRow(row_.data(), across_.count(), false, at);
    else pack(row_.data(), across_.count(), view.channels, at, step);
  }
  return Decoded::kYes;
}

}  // namespace layerwise
