#include "resampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "process.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define LAYERWISE_AVX2 __attribute__((target("avx2")))
#endif

namespace layerwise {

namespace {

constexpr int kBytes = 4;
/** Weights and sums of them stay within 16 and 32 bits. */
constexpr int kMostPrecision = 22;

uint8_t clipped(int32_t sum, int precision) {
  return static_cast<uint8_t>(std::clamp(sum >> precision, 0, 255));
}

#ifdef LAYERWISE_AVX2
/** Not where LibTorch does without: ATEN_CPU_CAPABILITY=default is for both. */
bool hasAvx2() {
  static const bool has = [] {
    const std::string capability = cpuCapability();
    const bool isWanted = capability.empty() || capability == "AVX2" || capability == "AVX512";
    return isWanted && __builtin_cpu_supports("avx2") != 0;
  }();
  return has;
}

/** Two weights for each of eight 32-bit numbers. */
LAYERWISE_AVX2 inline __m256i pairOf(const int16_t* weights) {
  int32_t pair;
  std::memcpy(&pair, weights, sizeof(pair));
  return _mm256_set1_epi32(pair);
}

/** Two neighbouring pixels of each of two rows: channel by channel, as 16-bit numbers. */
LAYERWISE_AVX2 inline __m256i pixelPairs(const uint8_t* one, const uint8_t* other) {
  const __m128i a = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(one));
  const __m128i b = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(other));
  const __m256i order = _mm256_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1,  //
                                         0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1);
  return _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1), order);
}

/** Four neighbouring pixels of each of two rows, times four weights. */
LAYERWISE_AVX2 inline __m256i ofFour(const uint8_t* one, const uint8_t* other, const int16_t* weights) {
  const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(one));
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(other));
  const __m256i pixels = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
  const __m256i left = _mm256_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1,  //
                                        0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1);
  const __m256i right = _mm256_setr_epi8(8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1,  //
                                         8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1);
  return _mm256_add_epi32(_mm256_madd_epi16(_mm256_shuffle_epi8(pixels, left), pairOf(weights)),
                          _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, right), pairOf(weights + 2)));
}

/** Pixel `x` of each of two rows, as 32-bit numbers. */
LAYERWISE_AVX2 inline __m256i scaledPixel(const uint8_t* one, const uint8_t* other, int origin,
                                          const AxisWeights::Raw& weights, int x) {
  const int16_t* taps = weights.weights + static_cast<int64_t>(x) * weights.taps;
  const int count = weights.counts[x];
  const int64_t from = static_cast<int64_t>(weights.firsts[x] - origin) * kBytes;
  __m256i sum = _mm256_set1_epi32(1 << (weights.precision - 1));
  int tap = 0;
  for (; tap + 4 <= count; tap += 4) {
    sum = _mm256_add_epi32(sum, ofFour(one + from + tap * kBytes, other + from + tap * kBytes, taps + tap));
  }
  if (tap < count) {
    const __m256i pixels = pixelPairs(one + from + tap * kBytes, other + from + tap * kBytes);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pixels, pairOf(taps + tap)));
  }
  return _mm256_sra_epi32(sum, _mm_cvtsi32_si128(weights.precision));
}

LAYERWISE_AVX2 void scaleTwoRows(const uint8_t* one, const uint8_t* other, int origin, const AxisWeights& axis,
                                 uint8_t* toOne, uint8_t* toOther) {
  const AxisWeights::Raw weights = axis.raw();
  const int count = axis.count();
  int x = 0;
  for (; x + 2 <= count; x += 2) {
    const __m256i words = _mm256_packs_epi32(scaledPixel(one, other, origin, weights, x),
                                             scaledPixel(one, other, origin, weights, x + 1));
    const __m256i bytes = _mm256_packus_epi16(words, words);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(toOne + x * kBytes), _mm256_castsi256_si128(bytes));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(toOther + x * kBytes), _mm256_extracti128_si256(bytes, 1));
  }
  if (x == count) return;
  const __m256i last = scaledPixel(one, other, origin, weights, x);
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(last, last), last);
  const int32_t ofOne = _mm256_extract_epi32(bytes, 0);
  const int32_t ofOther = _mm256_extract_epi32(bytes, 4);
  std::memcpy(toOne + x * kBytes, &ofOne, kBytes);
  std::memcpy(toOther + x * kBytes, &ofOther, kBytes);
}

/** Bytes 0, 2, 4 ... or 1, 3, 5 ... of 32, as 16-bit numbers. */
LAYERWISE_AVX2 inline __m256i evenBytes(__m256i bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi16(255)); }
LAYERWISE_AVX2 inline __m256i oddBytes(__m256i bytes) { return _mm256_srli_epi16(bytes, 8); }

/** Sums of 16 columns: 32-bit numbers, as unpacking to pairs and packing again orders them. */
struct ColumnSums {
  __m256i low;
  __m256i high;
};

LAYERWISE_AVX2 inline void addWeighted(ColumnSums& sums, __m256i one, __m256i other, __m256i weights) {
  sums.low = _mm256_add_epi32(sums.low, _mm256_madd_epi16(_mm256_unpacklo_epi16(one, other), weights));
  sums.high = _mm256_add_epi32(sums.high, _mm256_madd_epi16(_mm256_unpackhi_epi16(one, other), weights));
}

/** From 0 to 255, as 16-bit numbers. */
LAYERWISE_AVX2 inline __m256i clippedSums(const ColumnSums& sums, __m128i shift) {
  const __m256i words = _mm256_packs_epi32(_mm256_sra_epi32(sums.low, shift), _mm256_sra_epi32(sums.high, shift));
  return _mm256_max_epi16(_mm256_min_epi16(words, _mm256_set1_epi16(255)), _mm256_setzero_si256());
}

LAYERWISE_AVX2 void scaleColumns(PixelRows from, int bytes, const int16_t* taps, int count, int precision, uint8_t* to) {
  const __m256i half = _mm256_set1_epi32(1 << (precision - 1));
  const __m128i shift = _mm_cvtsi32_si128(precision);
  for (int at = 0; at < bytes; at += 32) {
    ColumnSums even{half, half};
    ColumnSums odd{half, half};
    const uint8_t* row = from.pixels + at;
    for (int tap = 0; tap < count; tap += 2, row += 2 * from.pitch) {
      const __m256i pair = pairOf(taps + tap);
      const __m256i one = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row));
      // The last weight may be of no row.
      const bool isSingle = taps[tap + 1] == 0;
      const __m256i other = isSingle ? one : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + from.pitch));
      addWeighted(even, evenBytes(one), evenBytes(other), pair);
      addWeighted(odd, oddBytes(one), oddBytes(other), pair);
    }
    const __m256i result = _mm256_or_si256(clippedSums(even, shift), _mm256_slli_epi16(clippedSums(odd, shift), 8));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + at), result);
  }
}
#endif

#ifdef LAYERWISE_AVX2
/** Those of `width` pixels that are packed four at a time: 16 bytes are written for 12, which the next ones overwrite. */
LAYERWISE_AVX2 int packFours(const uint8_t* row, int width, bool isMirrored, uint8_t* to) {
  const __m128i forward = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  const __m128i backward = _mm_setr_epi8(12, 13, 14, 8, 9, 10, 4, 5, 6, 0, 1, 2, -1, -1, -1, -1);
  int done = 0;
  for (; done + 6 <= width; done += 4) {
    const uint8_t* from = row + kBytes * (isMirrored ? width - 4 - done : done);
    const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    const __m128i packed = _mm_shuffle_epi8(four, isMirrored ? backward : forward);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 3 * done), packed);
  }
  return done;
}
#endif

void scaleOneRow(const uint8_t* row, int origin, const AxisWeights& weights, uint8_t* to) {
  const int32_t half = 1 << (weights.precision() - 1);
  for (int x = 0; x < weights.count(); x++) {
    const int16_t* taps = weights.weightsOf(x);
    const uint8_t* pixels = row + static_cast<int64_t>(weights.firstOf(x) - origin) * kBytes;
    int32_t sums[kBytes] = {half, half, half, half};
    for (int tap = 0; tap < weights.tapsOf(x); tap++) {
      if (taps[tap] == 0) continue;
      for (int channel = 0; channel < kBytes; channel++) sums[channel] += taps[tap] * pixels[tap * kBytes + channel];
    }
    for (int channel = 0; channel < kBytes; channel++) to[x * kBytes + channel] = clipped(sums[channel], weights.precision());
  }
}

}  // namespace

// Pillow's coefficients (Resample.c): a triangle as wide as the pixels that become one, at least one pixel to each side.
void AxisWeights::set(const AxisScale& axis) {
  const double scale = axis.length / axis.count;
  const double support = std::max(scale, 1.0);
  taps_ = (static_cast<int>(std::ceil(support)) * 2 + 1 + 1) / 2 * 2;
  const auto count = static_cast<size_t>(axis.count);
  const auto taps = static_cast<size_t>(taps_);
  firsts_.resize(count);
  counts_.resize(count);
  exact_.assign(count * taps, 0);
  weights_.resize(count * taps);
  first_ = axis.end;
  end_ = axis.first;
  double largest = 0;
  for (size_t i = 0; i < count; i++) {
    const double centre = axis.start + (static_cast<double>(i) + 0.5) * scale;
    const int from = std::clamp(static_cast<int>(std::floor(centre - support + 0.5)), axis.first, axis.end - 1);
    const int end = std::clamp(static_cast<int>(std::floor(centre + support + 0.5)), from + 1, axis.end);
    double* weights = &exact_[i * taps];
    double sum = 0;
    for (int at = from; at < end; at++) {
      weights[at - from] = std::max(0.0, 1 - std::abs((at - centre + 0.5) / support));
      sum += weights[at - from];
    }
    // A part of a pixel at the edge of what exists may be nearer to none than to that one.
    if (sum == 0) sum = weights[0] = 1;
    for (int at = from; at < end; at++) largest = std::max(largest, weights[at - from] /= sum);
    firsts_[i] = from;
    counts_[i] = (end - from + 1) / 2 * 2;
    first_ = std::min(first_, from);
    end_ = std::max(end_, end);
  }
  precision_ = kMostPrecision;
  while (largest * (1 << precision_) + 0.5 >= 32768) precision_--;
  for (size_t i = 0; i < exact_.size(); i++) {
    // Rounded: none is below 0.
    weights_[i] = static_cast<int16_t>(exact_[i] * (1 << precision_) + 0.5);
  }
}

void scaleAlongRows(PixelRows from, int rows, int origin, const AxisWeights& weights, uint8_t* to, int64_t toPitch) {
  int row = 0;
#ifdef LAYERWISE_AVX2
  if (hasAvx2()) {
    for (; row < rows; row += 2) {
      // The last row of an odd number is done twice.
      const int other = std::min(row + 1, rows - 1);
      scaleTwoRows(from.pixels + row * from.pitch, from.pixels + other * from.pitch, origin, weights, to + row * toPitch,
                   to + other * toPitch);
    }
    return;
  }
#endif
  for (; row < rows; row++) scaleOneRow(from.pixels + row * from.pitch, origin, weights, to + row * toPitch);
}

void scaleToRow(PixelRows from, int width, int origin, const AxisWeights& weights, int index, uint8_t* to) {
  const int16_t* taps = weights.weightsOf(index);
  const int bytes = width * kBytes;
  const PixelRows rows{from.pixels + (weights.firstOf(index) - origin) * from.pitch, from.pitch};
#ifdef LAYERWISE_AVX2
  if (hasAvx2()) {
    scaleColumns(rows, bytes, taps, weights.tapsOf(index), weights.precision(), to);
    return;
  }
#endif
  const int32_t half = 1 << (weights.precision() - 1);
  for (int at = 0; at < bytes; at++) {
    int32_t sum = half;
    for (int tap = 0; tap < weights.tapsOf(index); tap++) {
      if (taps[tap] != 0) sum += taps[tap] * rows.pixels[tap * rows.pitch + at];
    }
    to[at] = clipped(sum, weights.precision());
  }
}

void packRow(const uint8_t* row, int width, bool isMirrored, uint8_t* to) {
  int done = 0;
#ifdef LAYERWISE_AVX2
  if (hasAvx2()) done = packFours(row, width, isMirrored, to);
#endif
  for (; done < width; done++) std::memcpy(to + 3 * done, row + kBytes * (isMirrored ? width - 1 - done : done), 3);
}

}  // namespace layerwise
