// What differs between the supported releases of LibTorch (1.13 to 2.x), in one place.
#pragma once

#include <torch/version.h>

#include <optional>

#define LAYERWISE_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) || (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

#if !LAYERWISE_TORCH_AT_LEAST(2, 4)
#include <c10/util/Optional.h>
#endif

namespace layerwise {

#if LAYERWISE_TORCH_AT_LEAST(2, 4)
template <typename T>
using Optional = std::optional<T>;
inline constexpr auto kNullopt = std::nullopt;
#else
template <typename T>
using Optional = c10::optional<T>;
inline constexpr auto kNullopt = c10::nullopt;
#endif

}  // namespace layerwise
